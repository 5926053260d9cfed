"""One owner for each descriptor: a number is lent, an ``Fd`` is owned."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self


class Fd:
    """An owned descriptor. Who holds the ``Fd`` closes it; ``release()`` alone gives it away."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = -1  # before anything can fail, so that __del__ is safe
        if number < 0:
            raise ValueError(f"not a descriptor: {number}")
        self._number = number

    def fileno(self) -> int:
        """Lend the number. Raises ValueError once closed, so a stale use is never another file."""
        if self._number < 0:
            raise ValueError("descriptor is closed")
        return self._number

    @property
    def closed(self) -> bool:
        """Whether the descriptor was closed or given away."""
        return self._number < 0

    def release(self) -> int:
        """Give ownership away: the caller closes the number from now on."""
        number, self._number = self.fileno(), -1
        return number

    def close(self) -> None:
        """Close; a second call does nothing."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Fd({self._number})"
