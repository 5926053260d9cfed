"""Signals as bytes: a client waits for them beside its descriptors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import TracebackType
from typing import Self

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class Wakening:
    """Turns ``numbers`` into bytes of a pipe within a ``with``."""

    def __init__(self, numbers: Iterable[int]) -> None:
        """Change nothing yet."""
        self._numbers = tuple(numbers)
        self._before: dict[int, object] = {}
        self._reader = self._writer = -1

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in self._numbers:
            self._before[number] = signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # type: ignore[arg-type]
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Lend the descriptor that becomes readable."""
        return self._reader

    def read(self) -> list[int]:
        """Return the numbers of the signals that have come."""
        try:
            return list(os.read(self._reader, 512))
        except BlockingIOError:
            return []
