"""Who reads the configuration again when this process does: keepers, in processes of their own."""

from __future__ import annotations

from collections.abc import Callable

_told: list[Callable[[], None]] = []


def when_read_again(tell: Callable[[], None]) -> None:
    """Have ``tell`` called whenever an instance, or an Emperor, reads its configuration again."""
    _told.append(tell)


def read_again() -> None:
    """Tell all of them."""
    for tell in _told:
        tell()
