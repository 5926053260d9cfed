"""What a network namespace, or a device of the host, is to be: frozen values, no decisions.

Addresses are written with their prefix (``192.168.0.2/24``), as in ip-address(8); routers without.
"""

from __future__ import annotations

from donjon.records import dataclass

NAME_MAX = 15
"""Bytes of an interface's name: IFNAMSIZ of linux/if.h, without the end of the string."""

MTU = (68, 65521)
"""Least and most bytes of a packet: RFC 791, and what a tun device takes with its headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface inside. ``mtu`` 0 is the kernel's; ``routers`` get the default routes."""

    name: str
    addresses: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    mtu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A new network namespace, its loopback up. At most one of the two is in it.

    ``tun`` is a device whose descriptor comes back. ``veth`` is one end of a pair; the other end,
    ``outer`` on the host, is put in ``bridge``.
    """

    tun: Interface | None = None
    veth: Interface | None = None
    outer: str = ""
    bridge: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A tun device of the host, whose descriptor comes back."""

    interface: Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Nat:
    """What the host does for a device's networks: ``script`` is for nft(8), ``table`` its own.

    ``script`` "" removes. ``switches`` are files of /proc/sys that are 1 while the table is there;
    what they were stands in ``record``, for whoever finds it after a crash.
    """

    table: str
    script: str = ""
    switches: tuple[str, ...] = ()
    record: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """The end of a device whose last descriptor comes with the question.

    Who closes that waits until every processor has seen that the device is gone (synchronize_net
    of net/core/dev.c): 15 to 40 ms.
    """


def table_name(device: str) -> str:
    """Return the name of the table for a device: what ``network-device`` takes, nft(8) does."""
    return f"donjon_{device}"


Wanted = Namespace | HostDevice | Nat | Removal
