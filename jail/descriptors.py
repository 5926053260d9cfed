"""Which descriptors a jail has: those on a list, and no other."""

from __future__ import annotations

from collections.abc import Iterable

from donjon import syscalls

_LAST = 0xFFFFFFFF


def seal(keep: Iterable[int], *, on_exec: bool = False) -> None:
    """Close every descriptor from 3 that is not in ``keep``; with ``on_exec`` at an exec.

    One close_range(2) for each gap, so the limit of open files does not matter.
    """
    flags = syscalls.CLOSE_RANGE_CLOEXEC if on_exec else 0
    first = 3
    for number in sorted({number for number in keep if number >= first}):
        if number > first:
            syscalls.close_range(first, number - 1, flags)
        first = number + 1
    syscalls.close_range(first, _LAST, flags)
