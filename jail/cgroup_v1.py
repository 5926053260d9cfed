"""Control groups of version 1: cgroup-v1/*.rst.

cgroupspy reads and types the files of cpu, cpuacct and memory. A controller of its is given the
one directory that matters: its trees would be walked whole, for each look. It knows no pids and no
freezer, takes ``max`` for a bad number, has no sums of blkio and cannot register an eventfd; those
are done here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from donjon.fd import Fd
from donjon.jail import cgroup_files
from donjon.jail.cgroup_driver import Counts, Notice, Use
from donjon.jail.cgroup_files import Setting
from donjon.jail.cgroup_text import hierarchy_of, number, read, table, write
from donjon.jail.spec import CgroupOption
from donjon.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENDLESS = 1 << 62
"""Limits of memory above this are none: the kernel shows the largest number of pages."""

_PROBES = {
    "cpu": "cpu.shares",
    "cpuacct": "cpuacct.usage",
    "cpuset": "cpuset.cpus",
    "memory": "memory.limit_in_bytes",
    "blkio": "blkio.reset_stats",
    "freezer": "freezer.state",
    "pids": "pids.max",
    "devices": "devices.allow",
}
"""A file of each controller that a group below the root has."""


class Place:
    """All that a controller of cgroupspy needs of a node of its trees: where it is."""

    def __init__(self, path: str) -> None:
        self.full_path = path.encode()


def controllers(path: str) -> Mapping[str, Any]:
    """Return cgroupspy's controllers for the group at ``path``, those that it really has."""
    # Only who looks at a running group pays for the import; a vassal never does.
    from cgroupspy.nodes import Node  # type: ignore[import-untyped]  # noqa: PLC0415

    place = Place(path)
    return {
        name.decode(): kind(place)
        for name, kind in Node.CONTROLLERS.items()
        if os.path.exists(f"{path}/{_PROBES.get(name.decode(), '/')}")
    }


class Version1:
    """The driver."""

    version = 1

    def settings(self, options: Sequence[CgroupOption]) -> list[Setting]:
        """See Driver."""
        return cgroup_files.settings(options, 1)

    def has_files(self, path: str) -> frozenset[str]:
        """See Driver: those of the whole hierarchy."""
        return _families(hierarchy_of(path))

    def make_ready(self, path: str, options: Sequence[CgroupOption]) -> None:
        """See Driver: a hierarchy's files are in each of its groups."""

    def complete(self, path: str) -> None:
        """Take over the processors and memory nodes of the group above: no process can enter a
        cpuset that has none (cpusets.rst)."""
        for name in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{path}/{name}") and not read(f"{path}/{name}").strip():
                parent = os.path.dirname(path)
                self.complete(parent)
                write(f"{path}/{name}", read(f"{parent}/{name}").strip())

    def use(self, path: str) -> Use:
        """See Driver."""
        had = controllers(path)
        try:
            return Use(**_pids(path), **_cpu(had), **_memory(had), **_blkio(path))
        except OSError:
            return Use()  # the group went meanwhile

    def counts(self, path: str) -> Counts:
        """See Driver."""
        had = self.has_files(path)
        counts = Counts()
        if "cpu" in had:
            cpu = table(f"{path}/cpu.stat")
            counts = Counts(
                throttled=cpu.get("nr_throttled", 0),
                throttled_usec=cpu.get("throttled_time", 0) // 1000,
            )
        if "memory" in had:
            full = (number(f"{path}/memory.{name}failcnt") or 0 for name in ("", "memsw."))
            killed = table(f"{path}/memory.oom_control").get("oom_kill", 0)
            counts = replace(counts, oom_kill=killed, memory_max=sum(full))
        if "pids" in had:
            counts = replace(counts, pids=table(f"{path}/pids.events").get("max", 0))
        return counts

    def notices(self, path: str) -> list[Notice]:
        """See Driver: memory.oom_control tells an eventfd (memory.rst §10); pids.events of this
        version tells nobody."""
        if not os.path.exists(f"{path}/memory.oom_control"):
            return []
        return [Notice(fd=oom_eventfd(path))]

    def pressure(self, path: str, resource: str, percent: int) -> int:  # noqa: ARG002
        """See Driver: version 1 has none."""
        return -1

    def freeze(self, path: str, *, frozen: bool) -> bool:
        """See Driver. What is frozen here cannot even be killed."""
        if not os.path.exists(f"{path}/freezer.state"):
            return False
        write(f"{path}/freezer.state", "FROZEN" if frozen else "THAWED")
        return True

    def kill(self, path: str) -> bool:  # noqa: ARG002
        """See Driver: version 1 cannot."""
        return False


@functools.cache
def _families(root: str) -> frozenset[str]:
    """Return the families of a hierarchy. Its root lacks some files, so its name tells as well."""
    try:
        found = {name.partition(".")[0] for name in os.listdir(root)}
    except OSError:
        return frozenset()
    return frozenset(found | (set(os.path.basename(root).split(",")) & _PROBES.keys()))


def oom_eventfd(path: str) -> int:
    """Return an eventfd that counts the times the group at ``path`` was out of memory."""
    told = Fd(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    with told, Fd(os.open(f"{path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)) as control:
        write(f"{path}/cgroup.event_control", f"{told.fileno()} {control.fileno()}")
        return told.release()


def _pids(path: str) -> dict[str, Any]:
    return {"pids": number(f"{path}/pids.current"), "pids_max": number(f"{path}/pids.max")}


def _cpu(had: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "cpu" in had:
        ((_, weight),) = cgroup_files.translate("cpu.shares", str(had["cpu"].shares), 2)
        found["cpu_weight"] = int(weight)
        quota = had["cpu"].cfs_quota_us  # None stands for -1
        found["cpu_percent"] = None if quota is None else 100 * quota / had["cpu"].cfs_period_us
    if "cpuacct" in had:
        found["cpu_usec"] = had["cpuacct"].usage // 1000
    return found


def _memory(had: Mapping[str, Any]) -> dict[str, Any]:
    if "memory" not in had:
        return {}
    memory = had["memory"]
    limit = memory.limit_in_bytes
    found = {
        "memory": memory.usage_in_bytes,
        "memory_max": None if limit > _ENDLESS else limit,
        "swap": memory.stat.get("swap"),
    }
    if memory.get_content("memsw_limit_in_bytes") is not None:
        both = memory.memsw_limit_in_bytes
        found["swap_max"] = None if both > _ENDLESS or limit > _ENDLESS else both - limit
    return found


def _blkio(path: str) -> dict[str, Any]:
    """cgroupspy has these as a comment, and two names of throttle files with a blank too many."""
    if not os.path.exists(f"{path}/blkio.reset_stats"):
        return {}
    return {
        "io_bytes": _total(read(f"{path}/blkio.throttle.io_service_bytes")),
        "io_operations": _total(read(f"{path}/blkio.throttle.io_serviced")),
    }


def _total(text: str) -> int:
    """Return the last line's number, ``Total N``; each device has such a line too."""
    last = text.split() or ["0"]
    return int(last[-1])
