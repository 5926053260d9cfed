"""One vassal with ``network = tap``, and what the rules and the host's table say of it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

from donjon.emperor.prepare import Reading
from donjon.emperor.router import Limits
from donjon.jail.spec import JailSpec, Published
from donjon.netns import nat
from donjon.records import dataclass
from donjon.tuntap.client import Bandwidth
from donjon.tuntap.rules import Ruleset
from donjon.tuntap.rules import policy as policies
from donjon.tuntap.rules.addresses import family, network
from donjon.tuntap.rules.model import Name, NameKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """A vassal on the router: what its file asks for, and its addresses without prefix."""

    jail: JailSpec
    addresses: tuple[IPv4Address | IPv6Address, ...]
    limits: Limits
    plan: str = ""

    @property
    def in_table(self) -> bool:
        """Whether the host's table may speak of it."""
        return bool(self.jail.publish or self.jail.network_allow)

    @property
    def asked(self) -> tuple[object, ...]:
        """What is equal for two that the router and the table treat alike."""
        publish, allow = self.jail.publish, self.jail.network_allow
        return self.addresses, self.limits, self.plan, publish, allow


def member_of(reading: Reading) -> Tapped:
    """Return what the router is told of a vassal."""
    jail = reading.launch.jail
    grant = jail.network_grant
    hosting = reading.hosting
    rate = (hosting.bandwidth if hosting else None) or 0
    connections = (hosting.connections if hosting else None) or 0
    return Tapped(
        jail=jail,
        addresses=tuple(ip_interface(one).ip for one in grant.addresses) if grant else (),
        limits=Limits(Bandwidth(out=rate, into=rate), connections),
        plan=hosting.name if hosting else "",
    )


def names_in(rules: Ruleset, kind: NameKind) -> Iterator[Name]:
    """Return the names of a kind that rules speak of."""
    for rule in rules.rules:
        for end in (rule.source, rule.destination):
            yield from (name for name in (end.names if end else ()) if name.kind is kind)


def clash(one: Published, other: Published) -> bool:
    """Whether two cannot both be published."""
    same = one.port == other.port and one.protocol == other.protocol
    return same and (None in (one.address, other.address) or one.address == other.address)


def ports_of(one: Published, member: Tapped) -> Iterator[nat.Port]:
    """Return what the table has of a published port."""
    given = ip_address(one.address) if one.address else None
    for address in member.addresses:
        if given is None or given.version == address.version:
            yield nat.Port(
                protocol=one.protocol,
                address=given,
                port=one.port,
                jail=address,
                inner=one.inner,
            )


def openings_of(member: Tapped, one: policies.Allowance) -> Iterator[nat.Opening]:
    """Return what the table has of ``network-allow``: what the rules read, for nft(8) reads some
    texts in another way."""
    found = network(one.network)
    is_four = family(found) == 4
    first, last = (
        IPv4Address(number & 0xFFFFFFFF) if is_four else IPv6Address(number)
        for number in (found.low, found.high)
    )
    low, _, high = one.ports.partition("-")
    ports = (int(low), int(high or low)) if low else None
    for address in member.addresses:
        if address.version == first.version:
            yield nat.Opening(jail=address, first=first, last=last, ports=ports)
