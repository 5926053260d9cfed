"""What one jail may take of the resolver: tokens for questions and for the bytes of answers."""

from __future__ import annotations

from donjon.records import dataclass

RATE = 500.0
"""Tokens a second; a question is one, and so are ``BYTES`` of an answer from upstream, which have
to be read and written."""

BURST = 1000.0
BYTES = 128


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class Budgets:
    """A bucket for each jail, by whatever names it."""

    def __init__(self) -> None:
        self._buckets: dict[object, _Bucket] = {}

    def take(self, whose: object, now: float, tokens: float = 1.0) -> bool:
        """Whether there was something left; then ``tokens`` are taken, perhaps on credit."""
        bucket = self._buckets.get(whose)
        if bucket is None:
            bucket = self._buckets[whose] = _Bucket(BURST, now)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled) * RATE)
        bucket.filled = now
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= tokens
        return True

    def charge(self, whose: object, size: int) -> None:
        """Take for an answer of ``size`` bytes what it costs, on credit if need be."""
        bucket = self._buckets.get(whose)
        if bucket is not None:
            bucket.tokens -= size / BYTES

    def keep(self, known: set[object]) -> None:
        """Forget all others."""
        self._buckets = {who: bucket for who, bucket in self._buckets.items() if who in known}
