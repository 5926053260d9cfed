"""What the spawner does when its Emperor is dead: nothing of the Emperor's may stay.

Vassals ask the kernel for SIGKILL at the Emperor's death and see the end of file of their control
socket; the janitor makes sure. It kills them by the pidfds it kept, kills what lingers in their
cgroups, removes the cgroups, and unlinks the files the Emperor left. It never kills by number and
unlinks only the very socket that was noted, since the directory may be a customer's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import time
from collections.abc import Iterable

from donjon import log, syscalls
from donjon.emperor import live
from donjon.emperor.orders import Adopted, Leftover, Made, Order
from donjon.jail import cgroups

ROUNDS = 100
"""Looks for who was forked before all were stopped; two are enough, but for a stream of others."""

PATIENCE = 10.0
"""Seconds until what is still there is left to the administrator."""


class Janitor:
    """Remembers what would have to be cleaned."""

    def __init__(self) -> None:
        self._vassals: set[int] = set()
        self._groups: set[str] = set()
        self._parents: set[str] = set()
        self._files: dict[str, tuple[int, int]] = {}

    def born(self, pidfd: int, order: Order | Adopted) -> None:
        """Take over the pidfd of a new process, and the cgroups made for it."""
        self._vassals.add(pidfd)
        self._groups.update(order.cgroups)
        self._parents.update(order.parents)

    def gone(self, pidfd: int) -> None:
        """A process ended. Its cgroups stay noted: the Emperor's own death may have ended it."""
        self._vassals.discard(pidfd)
        os.close(pidfd)

    def note(self, what: Leftover | Made) -> None:
        """Remember groups or a file, or forget a file or group that is gone."""
        if isinstance(what, Made):
            self._groups.update(what.cgroups)
            self._parents.update(what.parents)
        elif what.forget:
            self._files.pop(what.path, None)
            self._groups.discard(what.path)
        else:
            self._files[what.path] = what.identity

    def clean(self, others: Iterable[int] = ()) -> None:
        """Kill, wait, remove, ``others`` as well. Bounded by PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        self._vassals.update(others)
        for pidfd in self._vassals:
            kill(pidfd)
        cgroups.thaw_all(self._groups)  # a frozen process does not even die
        wait_for_end(list(self._vassals), deadline)
        for path in self._groups:
            empty_cgroup(path, deadline)
        cgroups.adopt(self._parents)
        for path in cgroups.remove(self._groups, max(deadline - time.monotonic(), 0.0)):
            log.write(f"[spawner] cgroup {path} is still in use and stays")
        for path, identity in self._files.items():
            unlink_same(path, identity)


def kill(pidfd: int) -> None:
    """SIGKILL, to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)


def wait_for_end(pidfds: list[int], deadline: float) -> None:
    """Wait until all these processes ended, or until the monotonic ``deadline``."""
    poller = select.poll()
    waiting = set(pidfds)
    for pidfd in waiting:
        poller.register(pidfd, select.POLLIN)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for pidfd, _events in poller.poll(left * 1000):
            poller.unregister(pidfd)
            waiting.discard(pidfd)


def empty_cgroup(path: str, deadline: float) -> None:
    """Kill every process in a cgroup until there is none. v1 and v2 both have cgroup.procs."""
    cgroups.kill_all([path])
    while time.monotonic() < deadline:
        pidfds = extinguish(path)
        if not pidfds:
            return
        cgroups.thaw_all([path])
        wait_for_end(pidfds, deadline)
        for pidfd in pidfds:
            os.close(pidfd)


def extinguish(path: str) -> list[int]:
    """Kill every process in a cgroup; return their pidfds, which are the caller's.

    All are stopped before one is killed: who forks while others are killed, or starts others
    again, would always be one ahead. A fork under way fails when a signal comes (fork(2)).
    Whoever is in the group no more when he has been opened may be a stranger with a number that
    became free.
    """
    stopped: dict[int, int] = {}
    for _ in range(ROUNDS):
        fresh = [pid for pid in live.pids_of(path) if pid not in stopped]
        if not fresh:
            break
        opened = _open_all(fresh)
        members = set(live.pids_of(path))
        for pid, pidfd in opened.items():
            if pid not in members:
                os.close(pidfd)
                continue
            stopped[pid] = pidfd
            with contextlib.suppress(ProcessLookupError):
                syscalls.pidfd_send_signal(pidfd, signal.SIGSTOP)
    for pidfd in stopped.values():
        kill(pidfd)
    return list(stopped.values())


def _open_all(pids: Iterable[int]) -> dict[int, int]:
    """Return the pidfds of those who did not end meanwhile."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[pid] = syscalls.pidfd_open(pid)
    return found


def unlink_same(path: str, identity: tuple[int, int]) -> None:
    """Unlink ``path`` if it still is the file with this device and inode (no link is followed)."""
    directory, _separator, name = path.rpartition("/")
    try:
        parent = os.open(directory or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # the directory is gone, and the file with it
    try:
        seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (seen.st_dev, seen.st_ino) == identity and not stat.S_ISDIR(seen.st_mode):
            os.unlink(name, dir_fd=parent)
    except OSError:
        return  # someone was faster
    finally:
        os.close(parent)
