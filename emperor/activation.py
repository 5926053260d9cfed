"""Sockets of systemd's: the vassal on demand whose address one has starts at its first connection.

The Emperor keeps them for as long as it lives and never removes their files: who bound them has
them for the next start, so that no client is refused while an Emperor is restarted.
"""

from __future__ import annotations

import socket

from donjon import log
from donjon.server import activation


class Given:
    """The sockets that this process was started with, by address."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}
        for number in activation.numbers():
            try:
                link = socket.socket(fileno=number)
            except OSError as error:
                raise activation.unusable(number, error) from error
            self._sockets[_name(link)] = link
        if self._sockets:
            log.write(f"[emperor] sockets for vassals on demand: {', '.join(self._sockets)}")

    def __contains__(self, address: str) -> bool:
        """Whether one is bound to ``address``, as a vassal on demand names it."""
        return _plain(address) in self._sockets

    def lend(self, address: str) -> socket.socket | None:
        """Return another object of the socket at ``address``, None where there is none."""
        found = self._sockets.get(_plain(address))
        return found.dup() if found is not None else None

    def close(self) -> None:
        """Close our copies; the manager has its own."""
        for link in self._sockets.values():
            link.close()
        self._sockets.clear()


def _name(link: socket.socket) -> str:
    local = link.getsockname()
    if link.family == socket.AF_UNIX:
        return (
            local if isinstance(local, str) else "@" + local[1:].decode(errors="surrogateescape")
        )
    host = f"[{local[0]}]" if link.family == socket.AF_INET6 else local[0]
    return _plain(f"{host}:{local[1]}")


def _plain(address: str) -> str:
    """Return ``address`` with every word for all of the host's addresses left out."""
    host, colon, port = address.rpartition(":")
    return f":{port}" if colon and host in ("0.0.0.0", "[::]") else address
