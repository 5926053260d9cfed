"""The cgroups that this Emperor made: who uses them, and when they go.

A group stays while its vassal is known, over restarts. When the vassal is forgotten, what still
runs in its groups is killed and the groups are removed, as soon as the kernel lets go of them.
Groups that were there before belong to the administrator and are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from donjon import log
from donjon.emperor import live
from donjon.emperor.janitor import extinguish
from donjon.emperor.reactor import Reactor
from donjon.errors import JailError
from donjon.jail import cgroups, shellgroup
from donjon.jail.spec import CgroupOption, CgroupPath, JailSpec
from donjon.records import replace

RETRY = 0.05
TRIES = 100


class Groups:
    """Makes, remembers and removes."""

    def __init__(self, reactor: Reactor, plans: str) -> None:
        """Make none yet. ``plans`` is the directory of the groups of hosting plans."""
        self.reactor = reactor
        self._plans = plans
        self.removed: Callable[[str], None] = lambda _path: None
        self.added: Callable[[tuple[str, ...]], None] = lambda _paths: None
        self._made: set[str] = set()
        self._users: dict[str, set[str]] = {}  # vassal → paths
        self._shells: dict[str, set[str]] = {}  # vassal → groups of who comes from outside
        self._given: dict[str, tuple[CgroupOption, ...]] = {}  # what was written to them

    def prepare(self, vassal: str, spec: JailSpec) -> cgroups.Prepared | None:
        """Make the groups of a vassal. Raises JailError; nothing is left then."""
        if not spec.cgroups:
            return None
        for group in spec.cgroups:
            self._refuse_foreign(group)
        undone = tuple(live.taken_back(self._given.get(vassal, ()), spec.cgroup_options))
        prepared = cgroups.prepare(replace(spec, cgroup_options=undone + spec.cgroup_options))
        self._given[vassal] = spec.cgroup_options
        self._made.update(prepared.created)
        self._users.setdefault(vassal, set()).update(prepared.paths)
        return prepared

    def _refuse_foreign(self, group: CgroupPath) -> None:
        """Raise JailError for a plan's group in which processes are that were not put there by us.

        Of another Emperor, whose end would kill everything in it.
        """
        ours = group.path in self._made or f"/{self._plans}/" not in group.path
        if not ours and live.pids_of(group.path):
            raise JailError(
                f"the control group {group.path} is in use",
                origin=group.origin,
                reason="its processes are not those of this Emperor",
                hint="each Emperor of a host needs a plan-cgroup of its own",
            )

    def changed(self, vassal: str, spec: JailSpec) -> None:
        """Remember what was written to the groups of a vassal that runs."""
        self._given[vassal] = spec.cgroup_options

    def paths(self, vassal: str) -> list[str]:
        """All groups of a vassal, those that were there before too."""
        return sorted(self._users.get(vassal, ()))

    def made_for(self, vassal: str) -> tuple[str, ...]:
        """The groups of a vassal that exist because of this Emperor."""
        if vassal not in self._users:
            return ()
        own = self._users[vassal] & self._made
        return tuple(sorted(own | self._shells.get(vassal, set())))

    def shells(self, vassal: str) -> tuple[str, ...]:
        """Have groups for who comes from outside, below those that the vassal has for itself."""
        found = self._shells.setdefault(vassal, set())
        known = {os.path.dirname(path) for path in found}
        alone = {path for path in self._users.get(vassal, ()) if self._is_alone(path)}
        added = tuple(filter(None, map(shellgroup.make, sorted(alone - known))))
        found.update(added)
        self._made.update(added)
        if added:
            self.added(added)
        return tuple(sorted(found))

    def shells_of(self, vassal: str) -> tuple[str, ...]:
        """The groups that ``shells`` made."""
        return tuple(sorted(self._shells.get(vassal, ())))

    def has_guests(self, vassal: str) -> bool:
        """Whether somebody is in them."""
        return any(live.pids_of(path) for path in self._shells.get(vassal, ()))

    def _is_alone(self, path: str) -> bool:
        return sum(path in paths for paths in self._users.values()) <= 1

    def parents_of(self, vassal: str) -> tuple[str, ...]:
        """The directories above them that exist because of this Emperor."""
        found = {one for path in self.made_for(vassal) for one in cgroups.parents_of(path)}
        return tuple(sorted(found))

    def own(self, vassal: str) -> list[str]:
        """Those of them in which nobody else is."""
        return [path for path in self.made_for(vassal) if self._is_alone(path)]

    def sweep(self, vassal: str) -> None:
        """Its master is dead: kill what else is in the groups it has for itself.

        One by one: whoever is born in a group that was killed whole is killed at once (clone3(2)
        with CLONE_INTO_CGROUP, seen on Linux 6.18), and the vassal may be started again.
        """
        own = self.own(vassal)
        cgroups.thaw_all(own)
        for path in own:
            _extinguish(path)

    def thaw(self, vassal: str) -> None:
        """It has to end: nothing of it may be frozen."""
        cgroups.thaw_all(self.made_for(vassal))

    def forget(self, vassal: str) -> None:
        """Remove the groups of a vassal that nobody else uses."""
        if not cgroups.kill_all(self.own(vassal)):
            self.sweep(vassal)
        paths = self._users.pop(vassal, set()) | self._shells.pop(vassal, set())
        self._given.pop(vassal, None)
        self._remove(paths & self._made, TRIES)

    def remove_all(self) -> None:
        """At the end: wait a moment for what is left."""
        left = cgroups.remove(self._made)
        self._made.clear()
        for path in left:
            log.write(f"[emperor] cgroup {path} is still in use and stays")

    def _remove(self, paths: set[str], tries: int) -> None:
        used: set[str] = set().union(*self._users.values())
        paths = (paths - used) & self._made
        left = set(cgroups.try_remove(paths))
        for path in paths - left:
            self._made.discard(path)
            self.removed(path)
        for path in left:
            _extinguish(path)
        if left and tries:
            self.reactor.after(RETRY, lambda: self._remove(left, tries - 1))


def _extinguish(path: str) -> None:
    for pidfd in extinguish(path):
        os.close(pidfd)
