"""What a back end of control groups can do, and what it tells.

There are two: ``cgroup_v1`` and ``cgroup_v2``. Which one a group belongs to is told by the group
itself (``cgroups.driver_of``), so that a hybrid host has both at once. What a version does not
know is None or a zero, never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from donjon.jail.cgroup_files import Setting
from donjon.jail.spec import CgroupOption
from donjon.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a group uses and may use. Bytes, microseconds, numbers; None for not known here."""

    cpu_usec: int | None = None
    cpu_weight: int | None = None  # as of version 2: 100 by default
    cpu_percent: float | None = None  # ceiling, of one processor
    memory: int | None = None
    memory_high: int | None = None
    memory_max: int | None = None
    swap: int | None = None
    swap_max: int | None = None
    pids: int | None = None
    pids_max: int | None = None
    io_bytes: int | None = None  # read and written, since the group exists
    io_operations: int | None = None

    def merged(self, other: Use) -> Use:
        """Return both together: groups of one vassal in several hierarchies."""
        mine = {name: getattr(self, name) for name in Use.__annotations__}
        return Use(
            **{
                name: value if value is not None else getattr(other, name)
                for name, value in mine.items()
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often a group met its limits, since it exists."""

    oom_kill: int = 0  # processes killed for want of memory
    memory_max: int = 0  # times memory was at its limit
    memory_high: int = 0  # times it was slowed down for the use of memory
    pids: int = 0  # forks that were refused
    throttled: int = 0  # periods in which it had to wait for its share of CPU
    throttled_usec: int = 0

    def merged(self, other: Counts) -> Counts:
        """Return the sum."""
        return Counts(
            **{name: getattr(self, name) + getattr(other, name) for name in Counts.__annotations__}
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """How the kernel tells that a count may have changed.

    ``fd`` is an eventfd that becomes readable, or ``path`` a file whose modification inotify(7)
    tells. The descriptor is the receiver's.
    """

    path: str = ""
    fd: int = -1


class Driver(Protocol):
    """One version. Paths are directories of groups; all raise OSError with the path."""

    version: int

    def settings(self, options: Sequence[CgroupOption]) -> list[Setting]:
        """Return the files that the options are here. Raises ValueError."""
        ...

    def has_files(self, path: str) -> frozenset[str]:
        """Return the families of files (``cpu``, ``memory`` …) that a group at ``path`` has."""
        ...

    def make_ready(self, path: str, options: Sequence[CgroupOption]) -> None:
        """Make sure, before a group is made, that it will have the files that options name."""
        ...

    def complete(self, path: str) -> None:
        """Give a group that was made what it needs before a process can be in it."""
        ...

    def use(self, path: str) -> Use:
        """Return what the group uses."""
        ...

    def counts(self, path: str) -> Counts:
        """Return how often it met its limits."""
        ...

    def notices(self, path: str) -> list[Notice]:
        """Ask the kernel to tell when counts change; nothing where it cannot."""
        ...

    def pressure(self, path: str, resource: str, percent: int) -> int:
        """Return a descriptor that has EPOLLPRI when work waited ``percent`` of a time for
        ``cpu``, ``memory`` or ``io``; -1 where there is none."""
        ...

    def freeze(self, path: str, *, frozen: bool) -> bool:
        """Stop every process of the group where it stands, or let them go on; False where this
        group cannot."""
        ...

    def kill(self, path: str) -> bool:
        """Kill every process of the group at once; False where they must be killed one by one."""
        ...
