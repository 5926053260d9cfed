"""The Emperor's half of ``idle-freeze``: freeze a vassal that asks for it, thaw it when rung for.

A frozen vassal keeps its memory and costs no processor time at all. It asks when no request and no
connection is under way (``server.frost``); the Emperor, which holds its socket too, freezes its
control group and listens on the socket. Whatever the Emperor has to say to it thaws it first: a
frozen process reads nothing, and with version 1 it cannot even be killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon import log
from donjon.emperor.protocol import ToVassal
from donjon.emperor.roster import Vassal
from donjon.emperor.vassal import State
from donjon.errors import reason_of
from donjon.jail import cgroups

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor


class Frost:
    """Who is frozen, and in which group."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self._frozen: dict[str, str] = {}
        self.counts: dict[str, int] = {}  # how often each was frozen

    def is_frozen(self, vassal: Vassal) -> bool:
        """Whether it stands still."""
        return vassal.name in self._frozen

    def asked(self, vassal: Vassal) -> None:
        """A vassal says that nothing is under way in it."""
        if self.is_frozen(vassal):
            return
        may = (
            vassal.state is State.RUNNING
            and vassal.doorbell is not None
            and not self.emperor.nursery.groups.has_guests(vassal.name)  # who would stand still
        )
        path = self._freeze(vassal) if may else None
        if path is None:
            self.emperor.keeper.tell(vassal, ToVassal.GO_ON)
            return
        self._frozen[vassal.name] = path
        self.counts[vassal.name] = self.counts.get(vassal.name, 0) + 1
        log.debug(f"[emperor] vassal {vassal.name} is frozen")
        if vassal.doorbell is not None:  # a client who waits already rings at once
            self.emperor.reactor.watch(vassal.doorbell.fileno(), lambda _events: self.thaw(vassal))

    def _freeze(self, vassal: Vassal) -> str | None:
        """Freeze the vassal's own group, of version 2 where there is one."""
        paths = self.emperor.nursery.groups.own(vassal.name)
        for path in sorted(paths, key=cgroups.version_of, reverse=True):
            driver = cgroups.driver_of(path)
            try:
                if driver is not None and driver.freeze(path, frozen=True):
                    return path
            except OSError as error:
                log.write(f"[emperor] cannot freeze {vassal.name}: {reason_of(error)}")
        return None

    def thaw(self, vassal: Vassal) -> None:
        """Let it go on, and tell it so. Does nothing for one that is not frozen."""
        if self._release(vassal):
            vassal.marks.beat = vassal.marks.beat and self.emperor.reactor.clock()
            self.emperor.keeper.tell(vassal, ToVassal.GO_ON)
            log.debug(f"[emperor] vassal {vassal.name} is thawed")

    def died(self, vassal: Vassal) -> None:
        """Its process is gone: what is left of it must not stand still."""
        self._release(vassal)

    def _release(self, vassal: Vassal) -> bool:
        path = self._frozen.pop(vassal.name, None)
        if path is None:
            return False
        if vassal.doorbell is not None:
            self.emperor.reactor.forget(vassal.doorbell.fileno())
        driver = cgroups.driver_of(path)
        try:
            if driver is not None:
                driver.freeze(path, frozen=False)
        except OSError as error:
            log.write(f"[emperor] cannot thaw {vassal.name}: {reason_of(error)}")
        return True
