"""``donjon net capture``: packets of one vassal, from the router to the operator who asked.

A pair of sockets is made for it: the router has one end, the operator gets the other, and packets
never come by the Emperor. One capture at a time. It ends at its bounds, with the vassal's port,
with the router, and when the operator hangs up.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.emperor.reactor import Reactor, Timer
from donjon.errors import DonjonError, reason_of
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


Begun = Callable[[Fd | DonjonError], None]
Ended = Callable[[dict[str, Any]], None]


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

    def begin(
        self, tap: TapNetwork | None, name: str, owner: object, bounds: Any, done: Begun
    ) -> None:
        """Begin one for ``owner``; ``done`` gets the end to read from, or why there is none."""
        try:
            self._begin(tap, name, owner, bounds, done)
        except DonjonError as error:
            done(error)

    def _begin(
        self, tap: TapNetwork | None, name: str, owner: object, bounds: Any, done: Begun
    ) -> None:
        checked = {key: _bound(bounds, key) for key in MOST}
        if self._running is not None:
            raise DonjonError(
                f"the packets of {self._running.name} are captured already",
                hint="one capture at a time",
            )
        router = tap.router if tap is not None else None
        if router is None:
            raise DonjonError("there is no router whose packets could be captured")
        try:
            near, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            reason = reason_of(error)
            raise DonjonError(f"cannot capture packets of {name}", reason=reason) from error
        ours = Fd(near.detach())

        def begun(problem: DonjonError | None) -> None:
            if problem is not None:
                ours.close()
                self._forget(owner)
            done(problem or ours)

        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
            timer = self.reactor.after(
                checked["seconds"] + GRACE, lambda: self._end(tap, lambda _counts: None)
            )
            self._running = Running(name, owner, timer)
            log.write(f"[emperor] the operator captures packets of {name}")
            try:
                router.capture(
                    name,
                    theirs.fileno(),
                    packets=checked["packets"],
                    size=checked["bytes"],
                    seconds=checked["seconds"],
                    done=begun,
                )
            except DonjonError as error:
                begun(error)
            except KeyError:
                begun(
                    DonjonError(
                        f"{name} has no port of the router", hint="network = tap gives it one"
                    )
                )

    def end(self, tap: TapNetwork | None, owner: object, done: Ended) -> None:
        """End that of ``owner``; tell what was captured, and what was lost."""
        if self._forget(owner):
            self._end(tap, done)
        else:
            done({})

    def _forget(self, owner: object) -> bool:
        if self._running is None or self._running.owner is not owner:
            return False
        self._running.timer.cancel()
        self._running = None
        return True

    @staticmethod
    def _end(tap: TapNetwork | None, done: Ended) -> None:
        """Have the router end it. It stays its owner's, who has not asked yet how it was."""
        router = tap.router if tap is not None else None

        def ended(found: tuple[int, int] | DonjonError) -> None:
            captured, lost = (0, 0) if isinstance(found, DonjonError) else found  # or it went too
            done({"captured": captured, "lost": lost})

        if router is None:
            done({"captured": 0, "lost": 0})
        else:
            router.end_capture(ended)


def _bound(bounds: Any, key: str) -> int:
    value = bounds.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST[key]:
        raise DonjonError(f"{key} of a capture is not a number from 1 to {MOST[key]}")
    return value
