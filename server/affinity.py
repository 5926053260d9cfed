"""``cpu-affinity = N``: each worker on N processors of its own, in turn.

Worker 1 gets the first N, worker 2 the next, and after the last it begins again, as in the
original. Counted are the processors that this process may use (a cpuset's), not those of the
machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from donjon import log


def share(slot: int, count: int, processors: Sequence[int]) -> list[int]:
    """Return the processors of worker ``slot``, from 1."""
    first = (slot - 1) * count % len(processors)
    number = min(count, len(processors))
    return [processors[(first + index) % len(processors)] for index in range(number)]


def settle(slot: int, count: int) -> None:
    """Bind this process and its threads to come; that it cannot be is logged."""
    if not count:
        return
    own = share(slot, count, sorted(os.sched_getaffinity(0)))
    try:
        os.sched_setaffinity(0, own)
    except OSError as error:
        log.write(f"worker {slot} cannot be bound to processors: {error.strerror}")
        return
    log.write(f"mapping worker {slot} to CPUs: {' '.join(map(str, own))}")
