"""What a resolver knows: whose address is whose, which names each may ask for, who is asked else.

The supervisor sends it whole, as JSON, each time it changes.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

from donjon.records import dataclass, field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Upstream = tuple[str, int]
"""Address and port."""

ZONE = "internal"
"""The domain of jails' names; set aside for private use (ICANN, 29 July 2024)."""

PORT = 53

_NAME = re.compile(
    r"(?=.{1,200}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


def name_of(vassal: str) -> str | None:
    """Return the name of a vassal in DNS: ``shop`` for ``/etc/vassals/shop.ini``.

    None for one that cannot be a name there.
    """
    base = vassal.rpartition("/")[2]
    stem = (base.rpartition(".")[0] or base).lower()
    return stem if _NAME.fullmatch(stem) else None


@dataclass(frozen=True, slots=True)
class Jail:
    """One vassal: its addresses, and the names it may ask for with theirs."""

    addresses: tuple[Address, ...]
    sees: Mapping[str, tuple[Address, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return it for ``read``."""
        return {
            "addresses": [str(one) for one in self.addresses],
            "sees": {name: [str(one) for one in found] for name, found in self.sees.items()},
        }


@dataclass(frozen=True, slots=True)
class Book:
    """All of it. ``networks`` are the jails' pool, of which no question goes upstream."""

    jails: tuple[Jail, ...] = ()
    networks: tuple[Network, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    by_address: Mapping[Address, Jail] = field(default_factory=dict)

    def jail_at(self, address: str) -> Jail | None:
        """Return whose a source address is."""
        found = ipaddress.ip_address(address)
        return self.by_address.get(found)

    def is_inner(self, address: Address) -> bool:
        """Whether an address is of the pool."""
        return any(address in network for network in self.networks)


def make(
    jails: tuple[Jail, ...], networks: tuple[Network, ...], upstreams: tuple[Upstream, ...]
) -> Book:
    """Return a book."""
    by_address = {address: jail for jail in jails for address in jail.addresses}
    return Book(jails, networks, upstreams, by_address)


def write(book: Book) -> bytes:
    """Return a book for ``read``."""
    value = {
        "jails": [jail.to_json() for jail in book.jails],
        "networks": [str(one) for one in book.networks],
        "upstreams": [list(one) for one in book.upstreams],
    }
    return json.dumps(value, sort_keys=True).encode()


def read(data: bytes) -> Book:
    """Return the book that ``write`` wrote."""
    value = json.loads(data)
    address = ipaddress.ip_address
    jails = tuple(
        Jail(
            tuple(map(address, row["addresses"])),
            {name: tuple(map(address, found)) for name, found in row["sees"].items()},
        )
        for row in value["jails"]
    )
    networks = tuple(map(ipaddress.ip_network, value["networks"]))
    upstreams = tuple((str(host), int(port)) for host, port in value["upstreams"])
    return make(jails, networks, upstreams)
