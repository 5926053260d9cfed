"""The group ``shell`` below a vassal's: who comes in from outside is counted, frozen and killed
apart from the vassal, within its limits.

Version 1: in the hierarchies whose limits hold for all that is below (cpu, cpuacct, memory, pids,
freezer). Those of blkio hold for a group alone (blkio-controller.rst), and the rest counts
nothing: there the newcomer is in the vassal's own group.

Version 2: processes of the vassal are in the group above, so that no controller can be switched on
for this one ("no internal process constraint", cgroup-v2.rst). It has what every group has:
processor time, freezing, killing. Memory and numbers of processes are counted with the vassal's.
"""

from __future__ import annotations

import os

from donjon.jail import cgroup_layout
from donjon.jail.cgroup_text import hierarchy_of, read
from donjon.jail.cgroups import version_of

NAME = "shell"
APART = frozenset({"cpu", "cpuacct", "memory", "pids", "freezer"})
"""Controllers of version 1 whose limits hold for groups below as well."""


def make(group: str) -> str | None:
    """Make the group below ``group``; None where a process cannot or should not be in one.

    One that is there already is somebody else's, whose limits we do not know.
    """
    path = f"{group}/{NAME}"
    if version_of(group) == 1 and not _is_apart(group):
        return None
    try:
        os.mkdir(path, 0o755)
    except OSError:
        return None
    if version_of(group) == 2 and read(f"{path}/cgroup.type").strip() != "domain":
        os.rmdir(path)  # below a threaded one no process can be (cgroup-v2.rst, Threads)
        return None
    return path


def _is_apart(group: str) -> bool:
    """Whether limits of this group hold below it."""
    root = hierarchy_of(group)
    places = cgroup_layout.current().old
    found = {name for name, place in places.items() if os.path.realpath(place) == root}
    flat = read(f"{group}/memory.use_hierarchy").strip() == "0"  # a kernel before 5.11
    return bool(found) and found <= APART and not flat
