"""Values of ``tuntap-router-route``, read: which packets go through a gateway, and to whom."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

MOST_ROUTES = 64
"""MOST_ROUTES of gateway.h."""

ROUTE = struct.Struct("=16s16s16sBB2sI")
"""struct packed_route of gateway.h."""

Ends = tuple[bytes, int]  # a network: 16 bytes and how many bits
ANY: Ends = (bytes(16), 0)


@dataclass(frozen=True, slots=True)
class Route:
    """``tuntap-router-route = SRC[/N] DST[/N] ADDR:PORT``."""

    source: Ends
    destination: Ends
    address: IPv4Address | IPv6Address
    port: int
    origin: Origin = DEFAULT

    def packed(self) -> bytes:
        """Return it as the data plane takes it."""
        port = self.port.to_bytes(2, "big")
        (source, bits), (destination, more) = self.source, self.destination
        target = self.address.packed
        return ROUTE.pack(source, destination, target, bits, more, port, self.address.version)


def route(value: Any, origin: Origin) -> Route:
    """Return what ``parse_route`` read as a value."""
    source, destination, address, port = value
    return Route(source, destination, address, port, origin)


def parse_route(text: str) -> tuple[Ends, Ends, IPv4Address | IPv6Address, int]:
    """Read a ``tuntap-router-route``. Raises ValueError."""
    words = text.split()
    if len(words) != 3:
        raise ValueError("expected SRC[/N] DST[/N] ADDR:PORT")
    return (_network(words[0]), _network(words[1]), *endpoint_of(words[2]))


def endpoint_of(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Return address and port of ``ADDR:PORT`` or ``[ADDR]:PORT``. Raises ValueError."""
    host, _, port = text.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError(f"{text!r} is no ADDR:PORT") from None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no port: a number from 1 to 65535")
    return address, int(port)


def _network(word: str) -> Ends:
    """Return a network; 0.0.0.0 is any, whatever its mask, as in the chains."""
    if word.partition("/")[0] == "0.0.0.0":
        return ANY
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        raise ValueError(f"{word!r} is no address with or without /LENGTH") from None
    if network.version == 4:
        return bytes(10) + b"\xff\xff" + network.network_address.packed, 96 + network.prefixlen
    return network.network_address.packed, network.prefixlen
