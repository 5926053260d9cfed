"""The vassal's end of its Emperor's control socket: single bytes, both ways (uwsgi-facts 1.5)."""

from __future__ import annotations

import contextlib
import enum
import os

from donjon.fd import Fd


class FromEmperor(enum.IntEnum):
    """What an Emperor says."""

    STOP = 0
    RELOAD = 1
    GRACEFUL_STOP = 2
    GO_ON = 3  # ours: to who asked to be frozen


class ToEmperor(enum.IntEnum):
    """What a vassal says."""

    SPAWNED = 1  # initialised, workers come next
    ACCEPTING = 5  # worker 1 begins to accept
    LOYAL = 17  # a first request was answered
    STOP_ME = 22  # voluntary shutdown, or back to on-demand
    HEARTBEAT = 26
    REINFORCE = 30  # broodlord
    FREEZE_ME = 70  # ours: nothing is under way


class EmperorLink:
    """The control socket, owned."""

    def __init__(self, number: int) -> None:
        """Take over the descriptor."""
        self._fd = Fd(number)
        os.set_blocking(number, False)

    def fileno(self) -> int:
        """Lend the descriptor; workers write bytes 17 and 26 on it."""
        return self._fd.fileno()

    def send(self, byte: ToEmperor) -> None:
        """Tell the Emperor. One that reads nothing, or is gone, never stops the vassal."""
        with contextlib.suppress(OSError):
            os.write(self._fd.fileno(), bytes([byte]))

    def receive(self) -> bytes | None:
        """Return the bytes that came, ``b""`` when nothing did, None when the Emperor is gone."""
        try:
            return os.read(self._fd.fileno(), 64) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def close(self) -> None:
        """Close the socket: the Emperor sees the end of it."""
        self._fd.close()
