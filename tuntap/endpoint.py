"""The stream sockets of routers: ``/path`` (AF_UNIX) or ``HOST:PORT`` (TCP)."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from donjon.errors import reason_of
from donjon.origin import Origin
from donjon.tuntap.protocol import RouterError

PATIENCE = 30
"""Seconds until a router must have accepted (uwsgi-facts 5.1)."""


def listen(address: str, origin: Origin) -> socket.socket:
    """Listen there, in place of a socket that nobody has any more. Raises RouterError."""
    try:
        if not _is_path(address):
            return socket.create_server(_split(address), reuse_port=False)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(address).st_mode):
                os.unlink(address)
        stream = socket.socket(socket.AF_UNIX)
        stream.bind(address)
        stream.listen(100)
    except (OSError, ValueError) as error:
        raise _failed("listen on", address, origin, error) from error
    return stream


def connect(address: str, origin: Origin, patience: float = PATIENCE) -> socket.socket:
    """Connect to a router. Raises RouterError."""
    try:
        if not _is_path(address):
            stream = socket.create_connection(_split(address), patience)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(patience)
            stream.connect(address)
    except (OSError, ValueError) as error:
        raise _failed("connect to", address, origin, error) from error
    return stream


def _is_path(address: str) -> bool:
    return address.startswith("/") or ":" not in address


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _failed(what: str, address: str, origin: Origin, error: Exception) -> RouterError:
    reason = reason_of(error) if isinstance(error, OSError) else str(error)
    return RouterError(f"cannot {what} the tuntap router {address}", origin=origin, reason=reason)
