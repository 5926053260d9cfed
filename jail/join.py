"""Joining a running jail by pidfd: a command from outside runs as one of its processes.

Three processes::

    caller ── envoy: undumpable; no descriptor but its own; control groups, namespaces, root,
              │       bounding set, ids, capabilities; waits, hands signals and the status on
              └ newcomer: in the pid namespace; limits, no_new_privs, the jail's ``at_join`` walls,
                          exec

The namespace of processes is entered last, by the fork: before it nothing of the jail can see the
envoy, and whom it sees then has the jail's own rights already, and cannot be traced or dumped
until it executes a program of the jail. No descriptor of the host is left but the three standard
ones, and those must not be directories. The newcomer has a session of its own: it cannot push
characters into the caller's terminal.

Caller, envoy and newcomer die with each other, in this order (PR_SET_PDEATHSIG). Nothing is made
that would have to be removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Self

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import confined, envoy
from donjon.jail.confined import Confinement
from donjon.jail.step import Step
from donjon.records import dataclass

_KEPT = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGCONT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A process of the jail. ``levels`` is how many processes before it only stand in for it.

    ``start`` tells it from a later process with its number. ``shells`` are directories of groups
    below its own (``shellgroup``), which the newcomer is in instead.
    """

    pid: int
    start: int
    levels: int = 0
    walls: tuple[Step, ...] = ()
    shells: tuple[str, ...] = ()


class ExecError(JailError):
    """The command did not begin. ``status`` is the shell's where it cannot be executed."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.exit_status = status


class Joined:
    """A command inside, and what was opened for it; its descriptor becomes readable at its end."""

    def __init__(self, pid: int, process: Fd, opened: envoy.Opened) -> None:
        """Own what ``start`` made."""
        self._pid = pid
        self._process = process
        self._opened = opened

    def fileno(self) -> int:
        """Lend the pidfd of who stands in for it."""
        return self._process.fileno()

    def leader(self) -> int:
        """Return the pid of the command, as it is here. Raises OSError, JailError."""
        return confined.only_child(self._pid)

    def poll(self) -> int | None:
        """Return its exit status, None while it runs. Raises ExecError if it did not begin."""
        found = os.waitid(os.P_PIDFD, self.fileno(), os.WEXITED | os.WNOHANG)
        if found is None:
            return None
        told = envoy.read_told(self._opened)
        if told is not None:
            raise ExecError(*told)
        killed = found.si_code != os.CLD_EXITED
        return 128 + found.si_status if killed else found.si_status

    def close(self) -> None:
        """Release the descriptors; the command goes on."""
        self._process.close()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(
    door: Door,
    command: Sequence[str],
    environment: Mapping[str, str],
    terminal: envoy.Terminal | None = None,
) -> Joined:
    """Begin ``command`` inside. Raises JailError, OSError.

    It has our standard input, output and error, or a terminal. The caller is root and has one
    thread; the command dies with it.
    """
    if terminal is None:
        _check_standard()
    facts, opened = _open(door)
    errand = envoy.Errand(tuple(command), dict(environment), door.walls, terminal)
    caller = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with contextlib.ExitStack() as after:
        after.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        failed = after.enter_context(contextlib.ExitStack())
        failed.callback(opened.close)
        sys.stdout.flush()
        pid, pidfd = syscalls.clone3(0)
        if pid == 0:
            envoy.go(caller, facts, opened, errand)
        failed.pop_all()
    opened.close_all_but_reader()
    return Joined(pid, Fd(pidfd), opened)


def run(door: Door, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``command`` inside and return its exit status. Raises JailError, OSError.

    It has our standard input, output and error. The caller is root and has one thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with start(door, command, environment) as joined:
            return _stand_by(joined)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_standard() -> None:
    """Refuse directories: a descriptor of one is a way out of every root (open(2), fchdir(2))."""
    for number in range(3):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise JailError(
                f"descriptor {number} is a directory of the host",
                reason="the command could leave the jail through it",
            )


def _open(door: Door) -> tuple[Confinement, envoy.Opened]:
    """Find the process, read its confined and open what leads into it."""
    pinned: list[Fd] = []
    opened = envoy.Opened()
    with contextlib.ExitStack() as failed:
        failed.callback(opened.close)
        try:
            pid = _pin(door, pinned)
            facts = confined.read(pid)
            opened.open(pid, facts, door.shells)
            for one in pinned:
                syscalls.pidfd_send_signal(
                    one.fileno(), 0
                )  # all of this was about these processes
            opened.pidfd = pinned.pop()
        except (ProcessLookupError, FileNotFoundError) as error:
            raise JailError("cannot join the jail", reason="it has just ended") from error
        finally:
            for one in pinned:
                one.close()
        failed.pop_all()
    return facts, opened


def _pin(door: Door, pinned: list[Fd]) -> int:
    """Return the jail's first process; pidfds of it and of those that stand in for it are kept."""
    pid = door.pid
    pinned.append(Fd(syscalls.pidfd_open(pid)))
    if confined.started(pid) != door.start:
        raise ProcessLookupError
    for _ in range(door.levels):
        pid = confined.only_child(pid)
        pinned.append(Fd(syscalls.pidfd_open(pid)))
    return pid


def _stand_by(joined: Joined) -> int:
    """Hand signals on to the envoy until it ends; all are blocked here."""
    wanted = signal.valid_signals()
    while True:
        status = joined.poll()
        if status is not None:
            return status
        number = signal.sigwait(wanted)
        if number not in _KEPT:
            syscalls.pidfd_send_signal(joined.fileno(), number)
