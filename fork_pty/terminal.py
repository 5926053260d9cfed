"""The terminal of who calls: every key is handed on, and it is as before at the end.

Whatever ends us, a *guard* gives the terminal back: a child that waits until our end of a pipe is
closed, which the kernel does also for a process that is killed. A guard that is told of a good end
does nothing. It holds nothing else of ours: a far end would not be hung up while it lives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

from donjon import syscalls

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6
_INPUT_OFF = (
    termios.ISTRIP | termios.IMAXBEL | termios.BRKINT | termios.INLCR | termios.IGNCR
    | termios.ICRNL | termios.IXON | termios.IXANY | termios.IXOFF
)  # fmt: skip
_LOCAL_OFF = (
    termios.ICANON | termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ECHONL
    | termios.IEXTEN
)  # fmt: skip
_DONE = b"."


class RawTerminal:
    """A terminal that is raw within a ``with``. A descriptor that is no terminal stays as it is.

    ``keep_signals`` leaves ISIG on, as the original does without ``pty-no-isig``: Ctrl-C ends the
    client then. ``abandoned`` is called by the guard if we are killed.
    """

    def __init__(
        self, fd: int, *, keep_signals: bool, abandoned: Callable[[], None] | None = None
    ) -> None:
        """Change nothing yet."""
        self._fd = fd
        self._keep_signals = keep_signals
        self._abandoned = abandoned
        self._before: list[Any] | None = None
        self._pipe = -1
        self._guard = 0

    def __enter__(self) -> Self:
        if not os.isatty(self._fd):
            return self
        self._before = termios.tcgetattr(self._fd)
        self._start_guard(self._before)
        raw = termios.tcgetattr(self._fd)
        raw[_IFLAG] = (raw[_IFLAG] | termios.IGNPAR) & ~_INPUT_OFF
        raw[_OFLAG] &= ~termios.OPOST
        raw[_LFLAG] &= ~_LOCAL_OFF
        if not self._keep_signals:
            raw[_LFLAG] &= ~termios.ISIG
        raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, raw)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before is None:
            return
        _restore(self._fd, self._before)
        with contextlib.suppress(OSError):  # somebody killed the guard
            os.write(self._pipe, _DONE)
        os.close(self._pipe)
        os.waitpid(self._guard, 0)
        self._before = None

    def _start_guard(self, before: list[Any]) -> None:
        reader, self._pipe = os.pipe2(os.O_CLOEXEC)
        held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            sys.stdout.flush()
            self._guard = os.fork()
            if self._guard == 0:
                self._be_guard(reader, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        os.close(reader)

    def _be_guard(self, reader: int, before: list[Any]) -> NoReturn:
        try:
            os.dup2(self._fd, 0)
            os.dup2(reader, 3)
            syscalls.close_range(4, 0xFFFFFFFF)
            if os.read(3, 1) != _DONE:
                _restore(0, before)
                if self._abandoned is not None:
                    self._abandoned()
        finally:
            os._exit(0)


def _restore(fd: int, before: list[Any]) -> None:
    """Give a terminal back; one that is gone needs nothing. SIGTTOU is not ours to die of."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    with contextlib.suppress(termios.error):
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
