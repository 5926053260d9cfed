"""Peers as an operator names them: ``network-peer = NAME ADDR:PORT|- NETWORK...``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from donjon.errors import OptionError
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass
from donjon.tuntap.routes import endpoint_of

MOST_PEERS = 32
MOST_NETWORKS = 8
"""Of one peer; together they are no more than MOST_NETWORKS of networks.h."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Where = tuple[Address, int]

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,64}}\Z){_LABEL}(?:\.{_LABEL})*")
_MAPPED = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Peer:
    """Another host: the DNS name in its certificate, where it is, and what its jails may have.

    Without ``where`` it connects to us.
    """

    name: str
    where: Where | None
    networks: tuple[Network, ...]
    origin: Origin = DEFAULT

    def holds(self, address: Address) -> bool:
        """Whether a jail of the peer's may have an address."""
        return any(address in one for one in self.networks)


def parse_peer(text: str) -> tuple[str, Where | None, tuple[Network, ...]]:
    """Read a ``network-peer``. Raises ValueError."""
    name, where, *networks = (*text.split(), "", "")[: max(len(text.split()), 2)]
    if not networks:
        raise ValueError("expected NAME ADDR:PORT|- NETWORK...")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, dots and dashes, as in DNS")
    if len(networks) > MOST_NETWORKS:
        raise ValueError(f"more than {MOST_NETWORKS} networks of one peer")
    return name, None if where == "-" else endpoint_of(where), tuple(map(_network, networks))


def _network(word: str) -> Network:
    try:
        found = ip_network(word)
    except ValueError:
        raise ValueError(f"{word!r} is no network such as 10.2.0.0/24") from None
    if "%" in word or found.prefixlen == 0:
        raise ValueError(f"{word!r} is everything, or means something on one link only")
    if isinstance(found, IPv6Network) and found.overlaps(_MAPPED):
        raise ValueError(f"{word!r} has IPv4 addresses in it")
    return found


def peer(value: Any, origin: Origin) -> Peer:
    """Return what ``parse_peer`` read as a value."""
    name, where, networks = value
    return Peer(name, where, networks, origin)


def check(peers: Sequence[Peer], pool: Iterable[Network]) -> None:
    """Refuse peers of one name, and networks that are two's or our own. Raises OptionError."""
    if len(peers) > MOST_PEERS:
        raise OptionError(f"more than {MOST_PEERS} peers", origin=peers[MOST_PEERS].origin)
    taken: list[tuple[str, Network]] = [("network-pool", one) for one in pool]
    names: set[str] = set()
    for one in peers:
        if one.name in names:
            raise OptionError(f"there are two peers {one.name}", origin=one.origin)
        names.add(one.name)
        for network in one.networks:
            for whose, other in taken:
                if network.version == other.version and network.overlaps(other):
                    raise OptionError(
                        f"the network {network} of peer {one.name} cannot be its own",
                        origin=one.origin,
                        reason=f"it overlaps with {other} of {whose}",
                    )
        taken += [(f"peer {one.name}", network) for network in one.networks]
