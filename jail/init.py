"""The duties of PID 1 of a pid namespace, and of a process that only stands in for its child.

Orphans of the jail become children of PID 1 and must be reaped, or the table of processes fills
up. When PID 1 ends, the kernel kills everything else in its namespace (pid_namespaces(7)): the
jail dies with its first process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container
from typing import NoReturn

from donjon.jail import descriptors

_MAX_REAPED = 1024  # of one call, so that a storm of zombies does not keep a loop from its work


def is_init() -> bool:
    """Whether this process is the first of its pid namespace."""
    return os.getpid() == 1


def reap_strangers(own: Container[int]) -> list[int]:
    """Reap dead children that are not in ``own``, and return their pids. Never blocks.

    It stops at the first dead child of ``own``: that one is left to its owner, who reaps it and
    calls again.
    """
    reaped: list[int] = []
    while len(reaped) < _MAX_REAPED:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            break
        if info is None or info.si_pid in own:
            break
        os.waitpid(info.si_pid, os.WNOHANG)
        reaped.append(info.si_pid)
    return reaped


def stand_in(child: int) -> NoReturn:
    """Be there for ``child`` only: hand signals on, reap, and end as it ends. Holds no descriptor.

    For the parent of a refork: its pid is the one that others know. A child that was killed by a
    signal gives 128 + its number.
    """
    everything = signal.valid_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    descriptors.seal(())
    while True:
        status = _reap(child)
        if status is not None:
            os._exit(status)
        number = signal.sigwait(everything)
        if number != signal.SIGCHLD:
            _forward(child, number)


def _reap(child: int) -> int | None:
    """Reap what is dead; return the exit status of ``child`` once it is."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1  # somebody else reaped it
        if pid == 0:
            return None
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _forward(child: int, number: int) -> None:
    try:
        os.kill(child, number)  # our own child that we did not reap: its pid cannot be another's
    except ProcessLookupError:
        return
