"""Telling systemd how things stand: sd_notify(3), which is one datagram."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Speaks to the socket in NOTIFY_SOCKET, or to nobody."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
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
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            try:
                link.sendto(text.encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, address)
            except OSError:
                return  # a service manager that does not listen is no reason to stop
