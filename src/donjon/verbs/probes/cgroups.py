"""Control groups: which layout, which controllers, and whether a child can be born in one."""

from __future__ import annotations

import os
from collections.abc import Iterator

from donjon import syscalls
from donjon.errors import reason_of
from donjon.fd import Fd
from donjon.verbs.finding import Finding, Level, judged
from donjon.verbs.probes import trial

AREA = "control groups"
PLACES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
WANTED = ("cpu", "memory", "pids")
CONTROLLERS = frozenset(
    f"{' '.join(WANTED)} cpuacct cpuset devices freezer blkio net_cls net_prio".split()
)
"""Those of v1, among the options of a mount: cgroups(7)."""


def findings() -> Iterator[Finding]:
    """Yield layout, controllers, and the birth in a group."""
    unified = unified_root()
    old = old_controllers()
    yield _layout(unified, old)
    new = _controllers(unified) if unified else []
    if unified:
        yield Finding(AREA, "v2 controllers", Level.OK, " ".join(new) or "none")
    if old:
        yield Finding(AREA, "v1 controllers", Level.OK, " ".join(sorted(old)))
    lacking = [name for name in WANTED if name not in new and name not in old]
    yield judged(
        AREA,
        "share of CPU, memory and processes",
        f"no controller for {' '.join(lacking)}" if lacking else None,
        needed=False,
        remedy="boot with cgroup_enable=memory, or mount the controllers",
    )
    yield judged(
        AREA,
        "freezing idle vassals",
        None if unified or "freezer" in old else "no freezer",
        needed=False,
        remedy="mount the freezer, or cgroup2",
    )
    yield judged(
        AREA,
        "pressure, told by the kernel",
        None if unified and os.path.isdir("/proc/pressure") else "no pressure files",
        needed=False,
        remedy="boot with psi=1, and mount cgroup2",
    )
    if unified:
        yield _born_in(unified)


def unified_root() -> str | None:
    """Return where the v2 hierarchy is mounted."""
    return next((place for place in PLACES if os.path.exists(f"{place}/cgroup.procs")), None)


def old_controllers() -> dict[str, str]:
    """Return the v1 controllers that are mounted, and where: proc_pid_mountinfo(5)."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            if kind == "cgroup":
                place = left.split(" ")[4]
                found.update(
                    {one: place for one in options.strip().split(",") if one in CONTROLLERS}
                )
    return found


def _layout(unified: str | None, old: dict[str, str]) -> Finding:
    if unified and old:
        return Finding(AREA, "layout", Level.OK, f"hybrid: v1, and v2 on {unified}")
    if unified:
        return Finding(AREA, "layout", Level.OK, f"v2 on {unified}")
    if old:
        return Finding(
            AREA, "layout", Level.OK, "v1; a vassal enters its groups just after its birth"
        )
    return Finding(
        AREA, "layout", Level.WARN, "none is mounted", "mount -t cgroup2 none /sys/fs/cgroup"
    )


def _controllers(root: str) -> list[str]:
    with open(f"{root}/cgroup.controllers", encoding="ascii") as file:
        return file.read().split()


def _born_in(root: str) -> Finding:
    """Make a group, be born in it, remove it."""
    name = "birth in a group (CLONE_INTO_CGROUP)"
    group = f"{root}/donjon-doctor-{os.getpid()}"
    try:
        os.mkdir(group)
    except OSError as error:
        return Finding(AREA, name, Level.WARN, reason_of(error), "root, and a writable cgroup2")
    try:
        with Fd(os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
            problem = trial.failure(
                trial.nothing, flags=syscalls.CLONE_INTO_CGROUP, cgroup=directory.fileno()
            )
    finally:
        os.rmdir(group)
    return judged(AREA, name, problem, needed=False, remedy="kernel 5.7 or newer")
