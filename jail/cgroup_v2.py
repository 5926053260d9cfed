"""Control groups of version 2: cgroup-v2.rst."""

from __future__ import annotations

import os
from collections.abc import Sequence

from donjon.jail import cgroup_files
from donjon.jail.cgroup_driver import Counts, Notice, Use
from donjon.jail.cgroup_files import Setting
from donjon.jail.cgroup_text import hierarchy_of, number, read, table, write
from donjon.jail.spec import CgroupOption

WINDOW = 2_000_000
"""Microseconds of a pressure trigger. Without CAP_SYS_RESOURCE only multiples of two seconds are
taken (psi.rst)."""

_CORE = frozenset({"cgroup", "freezer", "tasks"})
_EVENTS = ("memory.events", "pids.events")


class Version2:
    """The driver."""

    version = 2

    def settings(self, options: Sequence[CgroupOption]) -> list[Setting]:
        """See Driver."""
        return cgroup_files.settings(options, 2)

    def has_files(self, path: str) -> frozenset[str]:
        """See Driver: those of the controllers that the hierarchy has."""
        return _CORE | set(read(f"{hierarchy_of(path)}/cgroup.controllers").split())

    def make_ready(self, path: str, options: Sequence[CgroupOption]) -> None:
        """Switch on, from the top down, the controllers whose files the options name."""
        wanted = {
            cgroup_files.controller(name)
            for setting in self.settings(options)
            for name, _value in setting.written
        } - {""}
        chain = []
        parent = os.path.dirname(path)
        while os.path.exists(f"{parent}/cgroup.procs"):
            chain.append(parent)
            parent = os.path.dirname(parent)
        for directory in reversed(chain):
            present = set(read(f"{directory}/cgroup.controllers").split())
            enabled = set(read(f"{directory}/cgroup.subtree_control").split())
            for name in sorted(wanted & present - enabled):
                write(f"{directory}/cgroup.subtree_control", f"+{name}")

    def complete(self, path: str) -> None:
        """See Driver: nothing is needed."""

    def use(self, path: str) -> Use:
        """See Driver."""
        quota, _, period = read(f"{path}/cpu.max").strip().partition(" ")
        done = _io(path)
        return Use(
            cpu_usec=table(f"{path}/cpu.stat").get("usage_usec"),
            cpu_weight=number(f"{path}/cpu.weight"),
            cpu_percent=100 * int(quota) / int(period) if quota.isdecimal() else None,
            memory=number(f"{path}/memory.current"),
            memory_high=number(f"{path}/memory.high"),
            memory_max=number(f"{path}/memory.max"),
            swap=number(f"{path}/memory.swap.current"),
            swap_max=number(f"{path}/memory.swap.max"),
            pids=number(f"{path}/pids.current"),
            pids_max=number(f"{path}/pids.max"),
            io_bytes=done[0],
            io_operations=done[1],
        )

    def counts(self, path: str) -> Counts:
        """See Driver."""
        memory, cpu = table(f"{path}/memory.events"), table(f"{path}/cpu.stat")
        return Counts(
            oom_kill=memory.get("oom_kill", 0),
            memory_max=memory.get("max", 0),
            memory_high=memory.get("high", 0),
            pids=table(f"{path}/pids.events").get("max", 0),
            throttled=cpu.get("nr_throttled", 0),
            throttled_usec=cpu.get("throttled_usec", 0),
        )

    def notices(self, path: str) -> list[Notice]:
        """See Driver: these files are modified when they change."""
        files = (f"{path}/{name}" for name in _EVENTS)
        return [Notice(path=file) for file in files if os.path.exists(file)]

    def pressure(self, path: str, resource: str, percent: int) -> int:
        """See Driver."""
        try:
            trigger = os.open(
                f"{path}/{resource}.pressure", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError:
            return -1  # a kernel without it
        try:
            os.write(trigger, f"some {WINDOW * percent // 100} {WINDOW}".encode() + b"\0")
        except OSError:
            os.close(trigger)
            raise
        return trigger

    def freeze(self, path: str, *, frozen: bool) -> bool:
        """See Driver. A frozen process can be killed here."""
        if not os.path.exists(f"{path}/cgroup.freeze"):
            return False
        write(f"{path}/cgroup.freeze", "1" if frozen else "0")
        return True

    def kill(self, path: str) -> bool:
        """See Driver: cgroup.kill, Linux 5.14."""
        if not os.path.exists(f"{path}/cgroup.kill"):
            return False
        write(f"{path}/cgroup.kill", "1")
        return True


def _io(path: str) -> tuple[int | None, int | None]:
    """Return bytes and operations of io.stat, of all devices."""
    text = read(f"{path}/io.stat")
    if not text and not os.path.exists(f"{path}/io.stat"):
        return None, None
    words = [word.partition("=") for word in text.split() if "=" in word]
    sums = {
        names: sum(int(value) for name, _, value in words if name in names)
        for names in (("rbytes", "wbytes"), ("rios", "wios"))
    }
    return sums["rbytes", "wbytes"], sums["rios", "wios"]
