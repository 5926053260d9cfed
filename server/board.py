"""Counters that workers write and the master reads: one anonymous shared mapping for each
generation.

Layout: 64 bytes of which the first eight count the requests of the whole generation (the T of
``req: R/T``), then the blocks of the workers: ``banks`` for each slot, because a worker and its
replacement live side by side for a while. A block is ``threads`` cores of 128 bytes; the C worker
owns what is inside (``_wsgi.pyi``).
"""

from __future__ import annotations

import mmap
import struct

from donjon.records import dataclass

HEADER = 64
CORE = 128
BANKS = 2
FIELDS = struct.Struct("=11Q")


@dataclass(slots=True)
class Core:
    """What one thread of one worker has done. Times in microseconds."""

    requests: int = 0
    exceptions: int = 0
    tx: int = 0  # bytes sent
    running_time: int = 0
    avg_rt: int = 0
    busy_since: int = 0  # CLOCK_MONOTONIC of the running request; 0: idle
    accepting: int = 0
    last_start: int = 0  # since the epoch
    read_errors: int = 0
    write_errors: int = 0
    connections: int = 0


def size_of(processes: int, threads: int) -> int:
    """Return the bytes of a board."""
    return HEADER + processes * BANKS * threads * CORE


class Board:
    """The mapping, and who has which block."""

    def __init__(self, processes: int, threads: int, shared: memoryview | None = None) -> None:
        """Map zeroed memory for so many workers with so many threads each, or use ``shared``."""
        self._threads = threads
        self._size = threads * CORE
        if shared is None:
            shared = memoryview(mmap.mmap(-1, size_of(processes, threads)))
        self._view = shared

    def totals(self) -> memoryview:
        """Lend the counter that all workers share."""
        return self._view[:8]

    def requests(self) -> int:
        """Return how many requests this generation has answered."""
        return int.from_bytes(self._view[:8], "little")

    def block(self, slot: int, bank: int) -> memoryview:
        """Lend the block of a worker; slots count from 1."""
        start = HEADER + ((slot - 1) * BANKS + bank % BANKS) * self._size
        return self._view[start : start + self._size]

    def clear(self, slot: int, bank: int) -> None:
        """Zero a block before a new worker gets it."""
        self.block(slot, bank)[:] = bytes(self._size)

    def cores(self, slot: int, bank: int) -> list[Core]:
        """Read what every thread of a worker has done."""
        block = self.block(slot, bank)
        return [Core(*FIELDS.unpack_from(block, index * CORE)) for index in range(self._threads)]


def total(cores: list[Core]) -> Core:
    """Add the threads of a worker up; ``busy_since`` is the oldest running request."""
    busy = [core.busy_since for core in cores if core.busy_since]
    times = [core.avg_rt for core in cores if core.requests]
    return Core(
        requests=sum(core.requests for core in cores),
        exceptions=sum(core.exceptions for core in cores),
        tx=sum(core.tx for core in cores),
        running_time=sum(core.running_time for core in cores),
        avg_rt=sum(times) // len(times) if times else 0,
        busy_since=min(busy, default=0),
        accepting=int(any(core.accepting for core in cores)),
        last_start=max((core.last_start for core in cores), default=0),
        read_errors=sum(core.read_errors for core in cores),
        write_errors=sum(core.write_errors for core in cores),
        connections=sum(core.connections for core in cores),
    )
