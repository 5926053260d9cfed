"""The vassal's half of ``idle-freeze``: be sure that nothing is under way, then ask to be frozen.

Workers stop accepting and say so when their last connection is done; only then is the Emperor
asked, so that no request can be in a frozen process. Clients who come meanwhile wait in the
backlog of the socket, which the Emperor watches: it thaws the vassal and says GO_ON, or says that
at once where it does not want to freeze it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from donjon import log
from donjon.server.crew import Crew, State
from donjon.server.link import ToEmperor
from donjon.server.loop import Timer

if TYPE_CHECKING:
    from donjon.server.master import Master

PATIENCE = 5.0
"""Seconds in which every worker must be done; a keep-alive connection is closed sooner."""


class Frost:
    """Asks to be frozen when idle."""

    def __init__(self, master: Master) -> None:
        """Be awake."""
        self._master = master
        self._waiting: set[int] = set()
        self._asleep = False
        self._timer: Timer | None = None
        self._complained = False

    @property
    def busy(self) -> bool:
        """Whether it is asking, or frozen."""
        return self._asleep

    def rest(self, crew: Crew) -> None:
        """Nothing was asked of the instance for long enough: make sure, and ask."""
        if self._asleep or self._master.paused or crew.state is not State.SERVING:
            return
        if not _is_rung_for(crew):
            self._complain()
            return
        self._asleep = True
        self._waiting = {slot.number for slot in crew.slots.values() if slot.worker is not None}
        self._timer = self._master.loop.after(PATIENCE, self.wake)
        self._master.pause(quiet=True)

    def paused(self, slot: int) -> None:
        """A worker has no connection any more."""
        self._waiting.discard(slot)
        if self._asleep and not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._master.tell_emperor(ToEmperor.FREEZE_ME)

    def wake(self) -> None:
        """Go on accepting; does nothing when it does so already."""
        if not self._asleep:
            return
        self._asleep = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._master.paused:
            self._master.pause(quiet=True)

    def _complain(self) -> None:
        if not self._complained:
            self._complained = True
            log.write("idle-freeze does nothing: the Emperor does not hold all of the sockets")


def _is_rung_for(crew: Crew) -> bool:
    """Whether the Emperor sees every connection: all listeners are the socket it handed over."""
    if crew.spec.http_routers:
        return False
    bell = os.fstat(0)
    return stat.S_ISSOCK(bell.st_mode) and all(
        os.fstat(bound.fileno()).st_ino == bell.st_ino for bound in crew.served
    )
