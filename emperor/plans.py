"""Which vassal has which hosting plan, and what a plan is in control groups and limits.

A plan compiles to what ``cgroup``, ``cgroup-opt``, ``max-fd`` and ``limit-nproc`` make: there is
no other mechanism below it. Its groups are the same for every plan, so that another plan, or a
changed one, is only other values in them, written while the vassal runs.
"""

from __future__ import annotations

import fnmatch
import os
import stat
import urllib.parse
from collections.abc import Iterable, Iterator

from donjon import log
from donjon.config.hosting import HostingPlan, read_plans
from donjon.config.spec import EmperorSpec, Launch
from donjon.errors import ConfigError, reason_of
from donjon.jail import cgroup_layout
from donjon.jail.cgroup_text import hierarchy_of
from donjon.jail.spec import CgroupOption, CgroupPath, JailSpec
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, replace

CONTROLLERS = ("cpu", "memory", "pids", "io")
_PERIOD = 100_000  # microseconds: what cpu.max counts in, by default


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans that are defined, and who has which."""

    path: str | None
    plans: dict[str, HostingPlan]

    @classmethod
    def load(cls, spec: EmperorSpec) -> Plans:
        """Read the plans of this Emperor. Raises ConfigError."""
        cgroup_layout.current.cache_clear()  # the operator may have mounted what was missing
        path = _file_of(spec)
        plans = read_plans(path) if path else {}
        if plans and os.geteuid() != 0:
            log.write("without root only open-files and processes of hosting plans are kept")
        return cls(path, plans)

    def plan_of(self, spec: EmperorSpec, vassal: str, launch: Launch) -> HostingPlan | None:
        """Return a vassal's plan: what the operator assigned, or what its file says.

        Raises ConfigError for a plan that is not defined.
        """
        name, origin = _assigned(spec, vassal) or (launch.plan, launch.plan_origin)
        if name is None:
            return None
        if name not in self.plans:
            known = ", ".join(sorted(self.plans)) or "none"
            where = f" in {self.path}" if self.path else ""
            raise UnknownPlanError(
                f"plan {name} is not defined", origin=origin, hint=f"defined{where}: {known}"
            )
        return self.plans[name]


class UnknownPlanError(ConfigError):
    """A vassal has a plan that nobody defined: the file of plans may still change."""


def _file_of(spec: EmperorSpec) -> str | None:
    """Return the file of plans: the one that was named, or the Emperor's own."""
    if spec.plan_file:
        return os.path.abspath(spec.plan_file)
    source = spec.origins.get("sources", DEFAULT)
    return (
        os.path.abspath(source.source) if source.line and os.path.isfile(source.source) else None
    )


def _assigned(spec: EmperorSpec, vassal: str) -> tuple[str, Origin] | None:
    """Return the last assignment that fits."""
    for pattern, plan in reversed(spec.plan_assign):
        if is_named(vassal, (pattern,)):
            return plan, spec.origins.get("plan_assign", DEFAULT)
    return None


def is_named(vassal: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits a vassal's whole name: its directory may tell whose it is."""
    name = vassal.removesuffix(":zerg")
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def furnish(
    jail: JailSpec,
    plan: HostingPlan | None,
    vassal: str,
    *,
    directory: str,
    frosty: Origin | None = None,
) -> JailSpec:
    """Return ``jail`` with the groups and limits of a plan.

    ``frosty`` is who asked that the vassal can be frozen, plan or not. What the vassal's
    file asks for is kept where it is stricter. Raises ConfigError for a plan that this host
    cannot keep.
    """
    origin = plan.origin if plan else frosty
    if origin is None:
        return jail
    if os.geteuid() == 0:
        jail = _grouped(jail, plan, vassal, directory, origin)
    return _limited(jail, plan) if plan else jail


def _grouped(
    jail: JailSpec, plan: HostingPlan | None, vassal: str, directory: str, origin: Origin
) -> JailSpec:
    """Return the jail in the groups of a plan, or in one that can be frozen."""
    options = options_of(plan) if plan else ()
    layout = cgroup_layout.current()
    wanted = CONTROLLERS if plan else ()
    _check_layout(layout, options, origin)
    name = f"{directory}/{urllib.parse.quote(vassal, safe='')}"
    taken = {hierarchy_of(group.path) for group in jail.cgroups}
    groups = tuple(
        CgroupPath(path, origin)
        for path in layout.groups(wanted, name)
        if hierarchy_of(path) not in taken
    )
    return replace(
        jail,
        cgroups=(*jail.cgroups, *groups),
        cgroup_options=(*options, *jail.cgroup_options),
    )


def _check_layout(
    layout: cgroup_layout.Layout, options: tuple[CgroupOption, ...], origin: Origin
) -> None:
    needed = {option.key.partition(".")[0] for option in options}
    missing = layout.missing(sorted(needed)) if options else []
    if missing or layout.kind == "none":
        raise ConfigError(
            "this host cannot keep the plan",
            origin=origin,
            reason=f"it has no control groups of {', '.join(missing) or 'any kind'}",
            hint="donjon doctor",
        )


def _limited(jail: JailSpec, plan: HostingPlan) -> JailSpec:
    """Return the jail with the plan's limits of processes; a vassal may have stricter ones."""
    origins = dict(jail.origins)
    limits: dict[str, int] = {}
    for name, value, source in (
        ("max_fd", plan.open_files, "open_files"),
        ("limit_nproc", plan.processes, "processes"),
    ):
        own = getattr(jail, name)
        if value is not None and (own is None or own > value):
            limits[name] = value
            origins[name] = plan.origins[source]
    return replace(jail, max_fd=limits.get("max_fd", jail.max_fd),
                   limit_nproc=limits.get("limit_nproc", jail.limit_nproc),
                   own_limits=jail.own_limits - limits.keys(), origins=origins)  # fmt: skip


def options_of(plan: HostingPlan) -> tuple[CgroupOption, ...]:
    """Return the plan as ``cgroup-opt``s, in names of version 2. Raises ConfigError."""
    return tuple(_options(plan))


def _options(plan: HostingPlan) -> Iterator[CgroupOption]:
    simple = (
        ("cpu.weight", "cpu_weight"),
        ("memory.high", "memory_high"),
        ("memory.max", "memory_max"),
        ("memory.swap.max", "memory_swap"),
        ("pids.max", "pids"),
        ("io.weight", "io_weight"),
    )
    for key, field in simple:
        value = getattr(plan, field)
        if value is not None:
            yield CgroupOption(key, str(value), plan.origins[field])
    if plan.cpu_max is not None:
        quota = plan.cpu_max * _PERIOD // 100
        yield CgroupOption("cpu.max", f"{quota} {_PERIOD}", plan.origins["cpu_max"])
    yield from _io(plan)


def _io(plan: HostingPlan) -> Iterator[CgroupOption]:
    limits = []
    if plan.io_bytes is not None:
        limits += [f"rbps={plan.io_bytes}", f"wbps={plan.io_bytes}"]
    if plan.io_operations is not None:
        limits += [f"riops={plan.io_operations}", f"wiops={plan.io_operations}"]
    if not limits:
        return
    field = "io_bytes" if plan.io_bytes is not None else "io_operations"
    devices = [device_of(plan)] if plan.io_device else disks()
    for device in devices:
        yield CgroupOption("io.max", f"{device} {' '.join(limits)}", plan.origins[field])


def disks() -> list[str]:
    """Return the numbers of all disks, but what is made of memory or of a file: sysfs(5)."""
    found = []
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/sys/block/{name}/device"):
            with open(f"/sys/block/{name}/dev", encoding="ascii") as file:
                found.append(file.read().strip())
    return found


def device_of(plan: HostingPlan) -> str:
    """Return the numbers of the plan's disk: of a device, or of what a directory is on.

    Limits are those of whole disks (cgroup-v2.rst), so a partition stands for its disk.
    """
    path = plan.io_device or ""
    try:
        status = os.stat(path)
    except OSError as error:
        origin = plan.origins["io_device"]
        raise ConfigError(
            f"cannot use io-device {path}", origin=origin, reason=reason_of(error)
        ) from error
    number = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    if not os.path.exists(f"/sys/dev/block/{device}/partition"):
        return device
    with open(f"/sys/dev/block/{device}/../dev", encoding="ascii") as file:
        return file.read().strip()
