"""How many terminals, how fast: a bucket of tokens (RFC 2697 calls its size the burst)."""

from __future__ import annotations


class Rate:
    """Lets ``count`` things happen within any second, more only after a pause."""

    __slots__ = ("_count", "_left", "_when")

    def __init__(self, count: int) -> None:
        """Begin with a full bucket."""
        self._count = count
        self._left = float(count)
        self._when = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may happen at ``now``, seconds of a monotonic clock."""
        self._left = min(self._count, self._left + (now - self._when) * self._count)
        self._when = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
