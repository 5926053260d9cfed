"""The host's table of nftables for one router's device, as a script for nft(8).

It is one table of its own, named after the device, and says nothing about other devices:

- what jails begin towards the host itself is dropped (``guard``), whatever address it is aimed at:
  only the kernel knows all addresses of the host;
- jails begin connections to the outside and are answered; from the outside only what was
  published is let in;
- with a ``Resolver`` jails ask port 53 of its addresses, the router's own; none so often that it
  fills the sockets for all. Its user, who is nobody else, sends to ``asked`` ports alone;
- with ``masquerade`` packets of the jails' networks leave with the address of the host;
- a ``Port`` of the host leads to a jail; the address of who connects stays as it is, but for
  127.0.0.1, which is another one in the jail: there it is the router's.

Another table that drops still drops: nftables asks all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

from donjon.netns.wanted import table_name
from donjon.records import dataclass

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """``publish``: ``port`` of the host (of ``address`` alone, or of each) is ``inner`` of
    ``jail``. One of 127.0.0.1 is for the host's own programs."""

    protocol: str  # tcp or udp
    address: Address | None
    port: int
    jail: Address
    inner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A jail may reach the host itself at ``first`` to ``last``, on ``ports`` from the lower to
    the higher, None for all."""

    jail: Address
    first: Address
    last: Address
    ports: tuple[int, int] | None = None


QUESTIONS = 500
"""Questions a second and address, and as many at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Who answers questions about names: on the router's addresses, as a user, asking ports."""

    addresses: tuple[Address, ...]
    user: int
    asked: tuple[int, ...]


def script(
    device: str,
    networks: Sequence[str],
    ports: Iterable[Port] = (),
    openings: Iterable[Opening] = (),
    *,
    masquerade: bool,
    resolver: Resolver | None = None,
) -> str:
    """Return the whole table. Values are typed: no text of a user's gets here."""
    ports = tuple(ports)
    lines = [
        f"table inet {table_name(device)} {{",
        *(_meters(resolver) if resolver else ()),
        *_chain(
            "guard",
            "filter hook input priority filter",
            *(_too_many(device, resolver) if resolver else ()),
            f'iifname "{device}" ct state established,related accept',
            f'iifname "{device}" ip daddr 127.0.0.0/8 drop',  # no opening is meant so wide
            f'iifname "{device}" icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept',
            *(f'iifname "{device}" {_opening(one)} accept' for one in openings),
            *(_questions(device, resolver) if resolver else ()),
            f'iifname "{device}" drop',
        ),
        *_chain(
            "passage",
            "filter hook forward priority filter",
            f'iifname "{device}" oifname "{device}" drop',
            f'iifname "{device}" ct state new,established,related accept',
            f'oifname "{device}" ct state established,related accept',
            f'oifname "{device}" ct status dnat accept',
            f'iifname "{device}" drop',
            f'oifname "{device}" drop',
        ),
    ]
    if resolver is not None:
        lines += _chain("asking", "filter hook output priority filter", *_asking(device, resolver))
    leaving = []
    if masquerade:
        leaving += [
            f'{_family(one)} saddr {one} oifname != "{device}" masquerade' for one in networks
        ]
    if ports:
        leaving += [f'ip saddr 127.0.0.0/8 oifname "{device}" masquerade']
        arriving = (f'iifname != "{device}" {_redirection(one)}' for one in ports if _is_open(one))
        lines += _chain("arriving", "nat hook prerouting priority dstnat", *arriving)
        here = (f"{_answerable(one)}{_redirection(one)}" for one in ports)
        lines += _chain("here", "nat hook output priority -100", *here)
    if leaving:
        lines += _chain("leaving", "nat hook postrouting priority srcnat", *leaving)
    return "\n".join((*lines, "}", ""))


def _is_open(one: Port) -> bool:
    """Whether others than the host may connect."""
    return one.address is None or not one.address.is_loopback


def _chain(name: str, hook: str, *rules: str) -> list[str]:
    body = (f"    {rule}" for rule in (f"type {hook}", *rules))
    return [f"  chain {name} {{", *body, "  }"]


def _meters(resolver: Resolver) -> Iterator[str]:
    """Sets of who asks how often, filled by packets."""
    for version in sorted({one.version for one in resolver.addresses}):
        yield f"  set asking{version} {{"
        yield f"    type {'ipv4_addr' if version == 4 else 'ipv6_addr'}"
        yield "    size 65535"
        yield "    flags dynamic, timeout"
        yield "    timeout 1m"
        yield "  }"


def _to(device: str, one: Address) -> str:
    return f'iifname "{device}" {"ip" if one.version == 4 else "ip6"} daddr {one}'


def _too_many(device: str, resolver: Resolver) -> Iterator[str]:
    """Before established ones are accepted: a second question of a socket is one already."""
    for one in resolver.addresses:
        source = "ip saddr" if one.version == 4 else "ip6 saddr"
        rate = f"limit rate over {QUESTIONS}/second burst {QUESTIONS} packets"
        asks = f"{_to(device, one)} udp dport 53"
        yield f"{asks} update @asking{one.version} {{ {source} {rate} }} drop"


def _questions(device: str, resolver: Resolver) -> Iterator[str]:
    for one in resolver.addresses:
        yield f"{_to(device, one)} meta l4proto {{ tcp, udp }} th dport 53 accept"


def _asking(device: str, resolver: Resolver) -> Iterator[str]:
    """A connection that it accepted is its own, one that listens is who made it."""
    answers = "meta l4proto { tcp, udp } th sport 53 accept"
    yield f'meta skuid {resolver.user} oifname "{device}" {answers}'
    ports = ", ".join(str(one) for one in sorted(set(resolver.asked)))
    if ports:
        allowed = f"meta l4proto {{ tcp, udp }} th dport {{ {ports} }} accept"
        yield f"meta skuid {resolver.user} {allowed}"
    yield f"meta skuid {resolver.user} drop"


def _family(network: str) -> str:
    return "ip" if ip_network(network).version == 4 else "ip6"


def _opening(one: Opening) -> str:
    family = "ip" if one.jail.version == 4 else "ip6"
    low, high = one.ports or (0, 65535)
    ports = f" meta l4proto {{ tcp, udp }} th dport {low}-{high}" if one.ports else ""
    return f"{family} saddr {one.jail} {family} daddr {one.first}-{one.last}{ports}"


def _answerable(one: Port) -> str:
    """Leave out ::1: the kernel routes it on no other device (127.0.0.1: ``route_localnet``)."""
    return "" if one.jail.version == 4 else "ip6 daddr != ::1 "


def _redirection(one: Port) -> str:
    family = "ip" if one.jail.version == 4 else "ip6"
    where = f"{family} daddr {one.address}" if one.address else "fib daddr type local"
    target = f"{one.jail}:{one.inner}" if one.jail.version == 4 else f"[{one.jail}]:{one.inner}"
    return (
        f"meta nfproto {'ipv4' if one.jail.version == 4 else 'ipv6'} {where} "
        f"{one.protocol} dport {one.port} dnat {family} to {target}"
    )
