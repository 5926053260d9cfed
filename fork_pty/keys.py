"""Keys on their way to a program, which reads them when it likes."""

from __future__ import annotations

import os

KEYS_MAX = 64 << 10
"""Bytes that a program has not read yet; then nobody who types is read either."""


class Keys:
    """What was typed at the near end of a terminal and is not taken yet: its length is that."""

    __slots__ = ("_fd", "_waiting")

    def __init__(self, fd: int) -> None:
        """Type at ``fd``, which never blocks and is lent."""
        self._fd = fd
        self._waiting = bytearray()

    def __len__(self) -> int:
        return len(self._waiting)

    def is_full(self) -> bool:
        """Whether the program has much to read first."""
        return len(self._waiting) > KEYS_MAX

    def type(self, keys: bytes) -> bool:
        """Hand keys on; return whether some have to wait: for ``flush``, when there is room."""
        if not self._waiting:
            keys = keys[self._write(keys) :]
        self._waiting += keys
        return bool(self._waiting)

    def flush(self) -> bool:
        """Hand on what waits; return whether nothing does any more."""
        del self._waiting[: self._write(self._waiting)]
        return not self._waiting

    def _write(self, keys: bytes | bytearray) -> int:
        try:
            return os.write(self._fd, keys)
        except BlockingIOError:
            return 0
        except OSError:
            return len(keys)  # nobody reads them: that end is read from the terminal
