"""``donjon net capture``: packets of one vassal, from the router to the operator who asked.

A pair of sockets is made for it: the router has one end, the operator gets the other, and packets
never come by the Emperor. One capture at a time. It ends at its bounds, with the vassal's port,
with the router, and when the operator hangs up.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.emperor.reactor import Reactor, Timer
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.records import dataclass

if TYPE_CHECKING:
    from donjon.emperor.tapnet import TapNetwork

MOST = {"packets": 10_000_000, "bytes": 4 << 30, "seconds": 3600}
"""The widest bounds."""

ROOM = 4 << 20
"""Bytes that may wait for the reader; net.core.wmem_max may say less."""

GRACE = 1.0
"""Seconds after which a capture ends that no packet ended at its time."""


@dataclass(slots=True)
class Running:
    """The capture that is, and for whom."""

    name: str
    owner: object
    timer: Timer


class Captures:
    """None, or one."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self._running: Running | None = None
        self._counts = (0, 0)

    def begin(self, tap: TapNetwork | None, name: str, owner: object, bounds: Any) -> Fd:
        """Begin one for ``owner``; return the end to read from. Raises DonjonError."""
        checked = {key: _bound(bounds, key) for key in MOST}
        if self._running is not None:
            raise DonjonError(
                f"the packets of {self._running.name} are captured already",
                hint="one capture at a time",
            )
        router = tap.router if tap is not None else None
        if router is None:
            raise DonjonError("there is no router whose packets could be captured")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ours:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
            try:
                router.capture(
                    name,
                    theirs.fileno(),
                    packets=checked["packets"],
                    size=checked["bytes"],
                    seconds=checked["seconds"],
                )
            except KeyError:
                raise DonjonError(
                    f"{name} has no port of the router", hint="network = tap gives it one"
                ) from None
            log.write(f"[emperor] the operator captures packets of {name}")
            timer = self.reactor.after(checked["seconds"] + GRACE, lambda: self._end(tap))
            self._running = Running(name, owner, timer)
            return Fd(ours.detach())

    def end(self, tap: TapNetwork | None, owner: object) -> dict[str, int]:
        """End that of ``owner``; return what was captured, and what was lost."""
        if self._running is not None and self._running.owner is owner:
            self._running.timer.cancel()
            self._end(tap)
            self._running = None
        captured, lost = self._counts
        return {"captured": captured, "lost": lost}

    def _end(self, tap: TapNetwork | None) -> None:
        """Have the router end it. It stays its owner's, who has not asked yet how it was."""
        router = tap.router if tap is not None else None
        try:
            self._counts = router.end_capture() if router is not None else (0, 0)
        except DonjonError:
            self._counts = (0, 0)  # it went with the router


def _bound(bounds: Any, key: str) -> int:
    value = bounds.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST[key]:
        raise DonjonError(f"{key} of a capture is not a number from 1 to {MOST[key]}")
    return value
