"""The sockets of a resolver, and its start. Nothing here imports dnspython."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack

from donjon.errors import DonjonError, reason_of
from donjon.tuntap import launch
from donjon.tuntap.dns.book import PORT
from donjon.tuntap.launch import Started

FIRST_USER = 0x7FFE0000
"""The first uid and gid of resolvers: above the ranges that are given out, below routers'."""

_BACKLOG = 64


def user_of(device: str) -> int:
    """Return the uid of the resolver on a device: another one for each of a host, whose packets
    the host's tables tell apart by it. Raises OSError."""
    return FIRST_USER + socket.if_nametoindex(device) % 0xFFF0


def listeners(device: str, addresses: Sequence[str]) -> list[socket.socket]:
    """Return sockets for UDP and TCP on port 53 of ``addresses``, for what comes in by ``device``.

    The kernel drops for them what comes from elsewhere to the same addresses (SO_BINDTODEVICE,
    socket(7)). Raises DonjonError.
    """
    found: list[socket.socket] = []
    with ExitStack() as stack:
        for address in addresses:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                found.append(stack.enter_context(_listener(device, address, kind)))
        stack.pop_all()
    return found


def _listener(device: str, address: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    link = socket.socket(family, kind)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if kind == socket.SOCK_STREAM:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        link.bind((address, PORT))
        if kind == socket.SOCK_STREAM:
            link.listen(_BACKLOG)
    except OSError as error:
        link.close()
        raise DonjonError(
            f"network-dns: cannot answer on {address} port {PORT}",
            reason=reason_of(error),
            hint="a name server of the host listens on all addresses: bind it to some",
        ) from error
    return link


def start() -> Started:
    """Start a resolver as a child of the caller, which must be root. Raises OSError."""
    return launch.start("donjon.tuntap.dns.resolver")
