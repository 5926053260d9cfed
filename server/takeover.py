"""What an interpreter finds when it takes over from a master that waited without one.

A quiet instance has a master that needs no interpreter (emperor/sitter.c): it started worker 1,
heard that the workers accept, and waits. When something happens, this is what it knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from donjon.records import dataclass


class OpenListener(NamedTuple):
    """An open listener, with the file of a unix socket; 0 and 0 for others."""

    fd: int
    device: int
    inode: int


class LivingWorker(NamedTuple):
    """A worker that is a child of this process. ``born`` is seconds of CLOCK_MONOTONIC."""

    slot: int
    pid: int
    pidfd: int
    accepting: bool
    once: bool
    born: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """An instance that serves already, or is about to.

    ``channel`` is (reader, writer), ``board`` the counters that master and workers share.
    ``environment`` is what worker 1 reported, whole if ``loaded``. ``packet`` was read from the
    channel and not understood; ``signals`` came and were not answered.
    """

    listeners: tuple[OpenListener, ...]
    channel: tuple[int, int]
    board: memoryview
    workers: tuple[LivingWorker, ...] = ()
    loaded: bool = False
    serving: bool = False
    environment: bytes = b""
    packet: bytes = b""
    signals: frozenset[int] = frozenset()


def signals_of(bits: int) -> frozenset[int]:
    """Return the numbers of the bits that are set."""
    return frozenset(_set_bits(bits))


def _set_bits(bits: int) -> Iterable[int]:
    return (number for number in range(1, 64) if bits >> number & 1)
