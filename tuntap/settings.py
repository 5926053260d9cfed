"""The values of the ``tuntap-*`` options, read."""

from __future__ import annotations

import ipaddress
import struct

from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

RULE = struct.Struct("<BIIIIBIH")
"""A rule for an original router (uwsgi-facts 5.6), 24 bytes with each number as it lies there."""

_ACTIONS = {"allow": 0, "deny": 1, "route": 2, "gateway": 2}


@dataclass(frozen=True, slots=True)
class RouterSetting:
    """``tuntap-router = DEV SOCKET [STATS] [GATEWAY]``."""

    device: str
    address: str
    stats: str = ""
    gateway: str = ""
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class DeviceSetting:
    """``tuntap-device = DEV [SOCKET]``; without a socket it is a tun device and no more."""

    device: str
    address: str = ""
    origin: Origin = DEFAULT


def _device(word: str) -> str:
    if not 0 < len(word) < 16 or "/" in word or word in {".", ".."}:
        raise ValueError(f"{word!r} is no name of a device: at most 15 characters, no slash")
    return word


def parse_router(text: str) -> tuple[str, ...]:
    """Read a ``tuntap-router``. Raises ValueError."""
    words = text.split()
    if len(words) not in {2, 3, 4}:
        raise ValueError("expected DEVICE SOCKET [STATS] [GATEWAY]")
    return (_device(words[0]), *words[1:])


def parse_device(text: str) -> tuple[str, ...]:
    """Read a ``tuntap-device``. Raises ValueError."""
    words = text.split()
    if len(words) not in {1, 2}:
        raise ValueError("expected DEVICE [SOCKET]")
    return (_device(words[0]), *words[1:])


def parse_rule(text: str) -> bytes:
    """Read a ``tuntap-device-rule`` and return it as a router takes it. Raises ValueError.

    The masks are the right ones; the original's are mirrored.
    """
    words = text.split()
    if len(words) not in {4, 5} or words[0] not in {"in", "out"} or words[3] not in _ACTIONS:
        raise ValueError("expected in|out SRC[/N] DST[/N] allow|deny|route|gateway [ADDR:PORT]")
    routed = _ACTIONS[words[3]] == _ACTIONS["route"]
    if routed != (len(words) == 5):
        raise ValueError("route and gateway go to ADDR:PORT, allow and deny to nobody")
    source, destination = (_network(word) for word in words[1:3])
    target, port = _endpoint(words[4]) if routed else (0, 0)
    direction = int(words[0] == "out")
    return RULE.pack(direction, *source, *destination, _ACTIONS[words[3]], target, port)


def _network(word: str) -> tuple[int, int]:
    network = ipaddress.IPv4Network(word, strict=False)
    return int(network.network_address), int(network.netmask)


def _endpoint(word: str) -> tuple[int, int]:
    """Return address and port in network order, as numbers of a little-endian machine."""
    host, _, port = word.rpartition(":")
    number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"{port} is no port")
    address = int.from_bytes(ipaddress.IPv4Address(host).packed, "little")
    return address, int.from_bytes(number.to_bytes(2, "big"), "little")


def parse_credentials(text: str) -> bool:
    """Read ``tuntap-use-credentials``: true or nothing. Raises ValueError for a C symbol."""
    if text in {"", "true", "1"}:
        return True
    raise ValueError(f"{text!r} names a C function of the original, which does not exist here")
