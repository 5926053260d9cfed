"""Telling systemd how things stand and that we do not hang: sd_notify(3), one datagram."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Speaks to the socket in NOTIFY_SOCKET, or to nobody."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self.patience = _patience()
        """Seconds of silence after which we seem to hang; 0 where nobody watches."""
        self._last = ""

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def tell(self, text: str) -> None:
        """Send ``KEY=VALUE`` lines, unless they are the same as last time."""
        if not self._address or text == self._last:
            return
        self._last = text
        self._send(text)

    def live(self) -> None:
        """Say that the loop turns."""
        if self._address:
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            try:
                link.sendto(text.encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, address)
            except OSError:
                return  # a service manager that does not listen is no reason to stop


def _patience() -> float:
    """Take what sd_watchdog_enabled(3) reads; it is for one process."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    pid = os.environ.pop("WATCHDOG_PID", "") or str(os.getpid())
    ours = pid == str(os.getpid()) and microseconds.isdecimal()
    return int(microseconds) / 1e6 if ours else 0.0
