"""Where this machine has its hierarchies of control groups: version 1, version 2, or both.

On a hybrid host the controllers are of version 1, each on a mount of its own, and the tree of
version 2 has what every group has: freezing, killing, pressure, processor time.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping

from donjon.jail.cgroup_text import read
from donjon.records import dataclass, field

_OLD_NAMES = {"io": "blkio"}
_OLD = frozenset(
    [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "net_cls",
        "net_prio",
    ]
)


@dataclass(frozen=True, slots=True)
class Layout:
    """``unified`` is the mount point of version 2, ``old`` those of version 1 by controller."""

    unified: str | None = None
    controllers: frozenset[str] = frozenset()  # of version 2
    old: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``v1``, ``v2``, ``hybrid`` or ``none``."""
        if self.unified and self.old:
            return "hybrid"
        return "v2" if self.unified else "v1" if self.old else "none"

    def groups(self, wanted: Iterable[str], name: str) -> list[str]:
        """Return the groups called ``name`` that ``wanted`` controllers (names of version 2) need.

        There is one in the tree of version 2 wherever there is such a tree. Without it, time is
        counted and processes are frozen by controllers of version 1.
        """
        places = [self.unified] if self.unified else []
        needed = [*wanted, *(() if self.unified else ("cpuacct", "freezer"))]
        for one in needed:
            place = self.old.get(_OLD_NAMES.get(one, one))
            if one not in self.controllers and place is not None and place not in places:
                places.append(place)
        return [f"{place}/{name}" for place in places]

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """Return the controllers that this machine has in no hierarchy."""
        return [
            one
            for one in wanted
            if one not in self.controllers and _OLD_NAMES.get(one, one) not in self.old
        ]


def look(mountinfo: str = "/proc/self/mountinfo") -> Layout:
    """Return this machine's layout: proc_pid_mountinfo(5)."""
    unified = None
    old: dict[str, str] = {}
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            kind, _source, options = right.split(" ", 2)
            place = left.split(" ")[4]
            if kind == "cgroup2":
                unified = unified or place
            elif kind == "cgroup":
                words = (word for word in options.strip().split(",") if word in _OLD)
                old.update(dict.fromkeys(words, place))
    found = read(os.path.join(unified, "cgroup.controllers")).split() if unified else ()
    return Layout(unified, frozenset(found), old)


@functools.cache
def current() -> Layout:
    """Return this machine's layout, looked at once."""
    return look()
