"""What vassals may use and do use, while they run: plans, their changes, and what is measured.

The file of plans is watched. When it changes, or at SIGHUP, the plans are read again and what
differs is written to the groups of running vassals; a file that cannot be understood changes
nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.emperor import live
from donjon.emperor.faults import Faults
from donjon.emperor.frost import Frost
from donjon.emperor.plans import Plans
from donjon.emperor.prepare import Reading
from donjon.emperor.roster import Vassal
from donjon.emperor.vassal import Event, State
from donjon.emperor.watch import OVERFLOW, WRITTEN, Watch
from donjon.errors import DonjonError
from donjon.jail import cgroups, ksm
from donjon.jail.cgroup_driver import Counts, Use

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor

SETTLE = 0.05
"""Seconds after a change of the file of plans, in which its writer may do more."""


class Resources:
    """One Emperor's view of what its vassals use."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self.preparer = emperor.reader.preparer
        self.faults = Faults(emperor)
        self.frost = Frost(emperor)
        emperor.keeper.freeze, emperor.keeper.thaw = self.frost.asked, self.frost.thaw
        self._watch: Watch | None = None
        self._due = False

    def begin(self) -> None:
        """Watch the file of plans."""
        path = self.preparer.plans.path
        if path is None:
            return
        self._watch = Watch()
        self._watch.add(os.path.dirname(path))
        self.emperor.reactor.watch(self._watch.fileno(), lambda _events: self._look())

    def close(self) -> None:
        """Stop watching; a second time does nothing."""
        self.faults.close()
        if self._watch is not None:
            self.emperor.reactor.forget(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _look(self) -> None:
        name = os.path.basename(self.preparer.plans.path or "")
        changes = self._watch.read() if self._watch else []
        touched = any(
            change is OVERFLOW or (change.name == name and change.mask & WRITTEN)
            for change in changes
        )
        if touched and not self._due:
            self._due = True
            self.emperor.reactor.after(SETTLE, self.reload_plans)

    def reload_plans(self) -> None:
        """Read the plans again and give every running vassal what its own says now."""
        self._due = False
        if self.emperor.networks.tap is not None:
            self.emperor.networks.tap.reload_rules()
            if self.emperor.networks.tap.neighbours is not None:
                self.emperor.networks.tap.neighbours.read_again()
        if self.preparer.plans.path is None:
            return
        try:
            plans = Plans.load(self.emperor.spec)
        except DonjonError as error:
            log.write(f"[emperor] the plans stay as they were: {error}")
            return
        if plans == self.preparer.plans:
            return
        log.write(f"[emperor] plans read again: {', '.join(sorted(plans.plans)) or 'none'}")
        self.preparer.plans = plans
        for vassal in list(self.emperor.court.vassals.values()):
            self._replan(vassal)

    def _replan(self, vassal: Vassal) -> None:
        if vassal.process is not None:
            try:
                reading = self.preparer.replan(vassal.name, vassal.found, vassal.process.reading)
            except DonjonError as error:
                log.write(f"[emperor] vassal {vassal.name} keeps its plan: {error}")
                return
            self.change(vassal, reading)
        elif vassal.plan_unknown and vassal.state is State.WAITING:
            vassal.plan_unknown = False
            vassal.impatient = True
            self.emperor.happen(vassal, Event.CHANGED)

    def change(self, vassal: Vassal, reading: Reading) -> None:
        """Make ``reading`` what a running vassal has; what differs is written to its groups."""
        process = vassal.process
        if process is None:
            return
        old, new = process.reading.launch.jail, reading.launch.jail
        process.reading = reading
        self.emperor.networks.change(vassal, reading)
        if old == new:
            self.faults.watch(vassal)  # its pressure may be another
            return
        groups = self.emperor.nursery.groups
        problems = live.change(old, new, groups.paths(vassal.name))
        groups.changed(vassal.name, new)
        for problem in problems:
            log.write(f"[emperor] vassal {vassal.name}: {problem}")
        self.faults.watch(vassal)

    def born(self, vassal: Vassal) -> None:
        """Watch a newborn; a program of its own gets its limits from here."""
        process = vassal.process
        if process is None:
            return
        if process.foreign:
            groups = self.emperor.nursery.groups.paths(vassal.name)
            for problem in live.limit(process.reading.bare, process.reading.launch.jail, groups):
                log.write(f"[emperor] vassal {vassal.name}: {problem}")
        if process.reading.plans is not self.preparer.plans:  # they changed while it was made
            self._replan(vassal)
        self.faults.watch(vassal)

    def forget(self, vassal: Vassal) -> None:
        """A vassal is no more."""
        self.frost.counts.pop(vassal.name, None)
        self.faults.forget(vassal.name)

    # what is shown

    def overview(self) -> dict[str, Any]:
        """Return plans, and each vassal's, for ``donjon plans``. Who asks looks at the groups
        itself: a thousand of them are not read in the Emperor's loop."""
        plans = self.preparer.plans
        return {
            "file": plans.path,
            "plans": [
                {"name": one.name, "origin": str(one.origin), "words": one.words()}
                for one in plans.plans.values()
            ],
            "vassals": [self._row(vassal) for vassal in self.emperor.court.vassals.values()],
        }

    def _row(self, vassal: Vassal) -> dict[str, Any]:
        reading = vassal.process.reading if vassal.process else None
        hosting = reading.hosting if reading else None
        return {
            "name": vassal.name,
            "pid": vassal.pid,
            "plan": hosting.name if hosting else "",
            "groups": self.emperor.nursery.groups.paths(vassal.name),
            "faults": self.faults.totals(vassal.name),
            "frozen": self.frost.is_frozen(vassal),
        }

    def is_frozen(self, vassal: Vassal) -> bool:
        """Whether a vassal stands still."""
        return self.frost.is_frozen(vassal)

    def facts(self, vassal: Vassal) -> dict[str, Any]:
        """Return what the statistics say of a vassal."""
        return {
            "faults": self.faults.totals(vassal.name),
            "frozen": int(self.frost.is_frozen(vassal)),
            "freezes": self.frost.counts.get(vassal.name, 0),
        }

    def row(self, vassal: Vassal) -> dict[str, Any]:
        """Return plan, use, limits and faults of a vassal, for ``donjon show``."""
        self.faults.look(vassal.name)
        groups = self.emperor.nursery.groups.paths(vassal.name)
        use, counts = cgroups.use_of(groups), cgroups.counts_of(groups)
        shell = cgroups.use_of(self.emperor.nursery.groups.shells_of(vassal.name))
        return {
            **self._row(vassal),
            "use": {name: getattr(use, name) for name in Use.__slots__},
            "shell": {name: getattr(shell, name) for name in Use.__slots__},
            "counts": {name: getattr(counts, name) for name in Counts.__slots__},
            "merged": ksm.merged({pid for path in groups for pid in live.pids_of(path)}),
            "recent": self.faults.recent(vassal.name),
        }
