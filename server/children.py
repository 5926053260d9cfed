"""The children of a master: signalled and awaited by pidfd, each with what is to happen when it
ends.

A master may be process 1 of its jail: then orphans of the jail become its children too. They are
reaped, and nothing else (the wait with WNOWAIT looks before it takes, so that no owned child is
reaped unseen).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

from donjon import syscalls
from donjon.records import dataclass
from donjon.server.loop import Loop

OnExit = Callable[[int], None]
"""Gets the exit status, or minus the signal that killed the child."""

ENDED = os.WEXITED | os.WNOHANG


@dataclass(slots=True)
class Child:
    """A child that has not been reaped; so its pid cannot be anybody else's."""

    pid: int
    pidfd: int

    def signal(self, number: int) -> None:
        """Send a signal; one that has ended already is no error."""
        if self.pidfd >= 0:
            try:
                syscalls.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """End it now."""
        self.signal(signal.SIGKILL)


class Children:
    """All of them, by pid."""

    def __init__(self, loop: Loop) -> None:
        """Reap with ``loop``; there is one of these for a process."""
        self._loop = loop
        self._known: dict[int, tuple[Child, OnExit]] = {}
        loop.on_signal(signal.SIGCHLD, self.sweep)

    def __len__(self) -> int:
        """Return how many are alive."""
        return len(self._known)

    def all(self) -> tuple[Child, ...]:
        """Return every living child."""
        return tuple(child for child, _ in self._known.values())

    def fork(self, main: Callable[[], NoReturn], on_exit: OnExit) -> Child:
        """Fork a child that does ``main``. Raises OSError."""
        pid, pidfd = self._loop.fork()
        if pid == 0:
            self._known.clear()
            main()
        return self.own(pid, pidfd, on_exit)

    def adopt(self, pid: int, on_exit: OnExit) -> Child | None:
        """Own a child that another one made for us; None if ``pid`` is none of ours."""
        if pid <= 1 or pid in self._known:
            return None
        try:
            pidfd = syscalls.pidfd_open(pid)
        except OSError:
            return None
        try:
            os.waitid(os.P_PIDFD, pidfd, ENDED | os.WNOWAIT)
        except ChildProcessError:
            os.close(pidfd)
            return None
        return self.own(pid, pidfd, on_exit)

    def own(self, pid: int, pidfd: int, on_exit: OnExit) -> Child:
        """Own a child of this process that was made elsewhere; its pidfd is ours now."""
        child = Child(pid, pidfd)
        self._known[pid] = (child, on_exit)
        self._loop.watch(pidfd, lambda: self._ended(child))
        return child

    def _ended(self, child: Child) -> None:
        result = os.waitid(os.P_PIDFD, child.pidfd, ENDED)
        if result is None:
            return
        _, on_exit = self._known.pop(child.pid)
        self._loop.forget(child.pidfd)
        os.close(child.pidfd)
        child.pidfd = -1
        killed = result.si_code != os.CLD_EXITED
        on_exit(-result.si_status if killed else result.si_status)

    def sweep(self) -> None:
        """Reap everything that has ended: our own with its consequences, strangers silently."""
        while True:
            try:
                result = os.waitid(os.P_ALL, 0, ENDED | os.WNOWAIT)
            except ChildProcessError:
                return
            if result is None:
                return
            known = self._known.get(result.si_pid)
            if known is not None:
                self._ended(known[0])
            else:
                os.waitid(os.P_PID, result.si_pid, ENDED)
