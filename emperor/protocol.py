"""The Emperor protocol: single bytes on a stream socket pair, one pair a vassal (spec EPR,
uwsgi-facts 1.5).

Who speaks is known by the descriptor on which a byte arrives, and by nothing else. A vassal may
send anything at any speed: unknown bytes are ignored, repeated ones count once a read, and one
that floods is not listened to for a while, so that a liar hurts itself only.
"""

from __future__ import annotations

import enum

from donjon.emperor.vassal import Event
from donjon.records import dataclass


class ToVassal(enum.IntEnum):
    """What the Emperor says."""

    STOP = 0  # like SIGINT
    RELOAD = 1
    GRACEFUL = 2  # finish what is being served, then stop
    GO_ON = 3  # ours: to one that asked to be frozen


class FromVassal(enum.IntEnum):
    """What a vassal says."""

    SPAWNED = 1  # initialisation is complete
    CONFIG = 2  # send me my configuration
    ACCEPTING = 5  # worker 1 (again) accepts
    LOYAL = 17  # a request was served
    LEAVE = 22  # stop me; an on-demand vassal goes back to sleep
    HEARTBEAT = 26  # from now on silence means hung
    REINFORCE = 30  # start a zerg beside me
    FREEZE = 70  # ours: nothing is under way in me, freeze me (idle-freeze)


EVENTS: dict[int, Event] = {
    FromVassal.SPAWNED: Event.SPAWNED,
    FromVassal.CONFIG: Event.CONFIG,
    FromVassal.ACCEPTING: Event.ACCEPTING,
    FromVassal.LOYAL: Event.LOYAL,
    FromVassal.LEAVE: Event.LEAVE,
    FromVassal.HEARTBEAT: Event.HEARTBEAT,
    FromVassal.REINFORCE: Event.REINFORCE,
}

READ_SIZE = 4096
"""Bytes taken from a vassal's socket at once."""

ALLOWANCE = 256
"""Bytes a vassal may send in WINDOW seconds; an honest one sends a few in its life."""

WINDOW = 1.0

CONFIG_MODIFIER = 115
"""modifier1 of the packet that carries a configuration over UWSGI_EMPEROR_FD_CONFIG."""


def decode(data: bytes) -> list[Event]:
    """Return the events in ``data``, each kind once, in order of first appearance."""
    return list(dict.fromkeys(EVENTS[byte] for byte in data if byte in EVENTS))


def config_packet(text: bytes) -> bytes:
    """Return ``text`` as the packet a vassal reads from its configuration socket."""
    if len(text) > 0xFFFF:
        raise ValueError("a configuration sent over a socket cannot exceed 65535 bytes")
    return bytes([CONFIG_MODIFIER]) + len(text).to_bytes(2, "little") + b"\0" + text


@dataclass(slots=True)
class RateLimit:
    """Counts what one vassal says. ``spend`` returns for how long to stop listening, 0.0 for not
    at all."""

    since: float = 0.0
    spent: int = 0

    def spend(self, count: int, now: float) -> float:
        """Take ``count`` bytes into account at the monotonic time ``now``."""
        if now - self.since >= WINDOW:
            self.since, self.spent = now, 0
        self.spent += count
        return max(self.since + WINDOW - now, 0.01) if self.spent > ALLOWANCE else 0.0
