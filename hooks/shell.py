"""Programs started by hooks: a line for ``/bin/sh -c``, and nothing of ours left in the child.

The child dies with its parent (PR_SET_PDEATHSIG, prctl(2)), has default signal handling, no
blocked signal and no descriptor but 0, 1 and 2. Signals stay blocked over fork(2), so that no
handler of the parent's runs in the child. Environment and arguments are made before the fork.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import NoReturn

from donjon import syscalls

SHELL = "/bin/sh"
_UNSETTABLE = frozenset({signal.SIGKILL, signal.SIGSTOP})
_CANNOT_EXECUTE = 126


def run(command: str, environment: Mapping[str, str]) -> int:
    """Run a line and wait for it. Return its exit status, or 128 + N if signal N ended it."""
    _, status = os.waitpid(_fork([SHELL, "-c", command], environment), 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def feed(command: str, text: str, environment: Mapping[str, str]) -> None:
    """Start a line with ``text`` on its standard input and do not wait for its end.

    A first shell starts the command in the background and ends, so that this process has no child
    to reap.
    """
    with_stdin = 'exec 3<&0; /bin/sh -c "$1" <&3 3<&- &'
    number = os.memfd_create("hook")
    try:
        os.write(number, text.encode())
        os.lseek(number, 0, os.SEEK_SET)
        argv = [SHELL, "-c", with_stdin, SHELL, command]
        os.waitpid(_fork(argv, environment, stdin=number, bound=False), 0)
    finally:
        os.close(number)


def _fork(
    argv: list[str], environment: Mapping[str, str], *, stdin: int = -1, bound: bool = True
) -> int:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _child(argv, environment, stdin, bound=bound)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _child(
    argv: list[str], environment: Mapping[str, str], stdin: int, *, bound: bool
) -> NoReturn:
    try:
        if bound:
            syscalls.set_pdeathsig(signal.SIGKILL)
        for number in signal.valid_signals() - _UNSETTABLE:
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if stdin >= 0:
            os.dup2(stdin, 0)
        syscalls.close_range(3, 2**32 - 1, syscalls.CLOSE_RANGE_CLOEXEC)
        os.execve(SHELL, argv, environment)
    finally:
        os._exit(_CANNOT_EXECUTE)
