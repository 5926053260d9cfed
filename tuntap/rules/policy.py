"""The rules of vassals with ``network = tap``: they reach the outside, and nobody near.

A vassal does not reach other vassals, here or behind another router, the host, loopback,
link-local and metadata addresses, or networks that the caller closes; answers to its connections
come back, and nobody opens one to it.
Exceptions go from the named to the less named: links between two vassals, ``network-allow`` of
one, ports published to the outside. The policy is written in the rule language, so that an
operator can read what is in force, and take it as the start of his own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from donjon.origin import Origin
from donjon.tuntap.rules.addresses import network
from donjon.tuntap.rules.model import Ruleset
from donjon.tuntap.rules.parser import parse
from donjon.tuntap.rules.tokens import RuleError, shown
from donjon.tuntap.rules.values import MAX_NAME

SOURCE = "network = tap"

CLOSED = (
    *("0.0.0.0/8", "127.0.0.0/8", "::/96"),  # unspecified, loopback, IPv4-compatible
    *("224.0.0.0/4", "240.0.0.0/4", "ff00::/8"),  # multicast, reserved, broadcast
    *("169.254.0.0/16", "fe80::/10"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"),  # more metadata
    *("64:ff9b::7f00:0/104", "64:ff9b::a9fe:0/112"),  # 127/8, 169.254/16 behind NAT64 (RFC 6052)
)
"""What no vassal has business with, wherever it runs."""

_NAME = re.compile(rf'[^"\x00-\x1f\x7f]{{1,{MAX_NAME}}}')
_PEER = re.compile(r"(?:\[(?P<six>[^]]*)\]|(?P<plain>[^:]*))(?::(?P<port>[0-9-]{1,11}))?")


@dataclass(frozen=True, slots=True)
class Allowance:
    """``network-allow`` of ``vassal``: another vassal, or a network and perhaps ports of it."""

    vassal: str
    peer: str = ""
    network: str = ""
    ports: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A port of a vassal to which the outside may connect: ``tcp`` or ``udp``."""

    vassal: str
    port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class TapNetwork:
    """What the policy is about.

    ``jails``: the pool of addresses. ``host``: the router's own addresses, the host's, and the
    networks it is connected to where they are not the outside. ``remote``: networks of vassals
    behind the routers that ``peers`` names. Networks as in the rule language.
    """

    jails: tuple[str, ...]
    host: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    allowances: tuple[Allowance, ...] = ()
    published: tuple[Published, ...] = ()
    resolves: bool = False  # whether the host's addresses answer questions about names
    remote: tuple[str, ...] = ()
    peers: frozenset[str] = frozenset()


def allowance(vassal: str, text: str, origin: Origin) -> Allowance:
    """Return what ``network-allow = NAME | NETWORK[:PORTS]`` of a vassal says. Raises RuleError.

    An IPv6 network with ports stands in brackets. Whatever is no network is a vassal's name.
    """
    match = _PEER.fullmatch(text)
    found = (match["six"] or match["plain"]) if match else None
    ports = match["port"] or "" if match else ""
    for one, its_ports in ((text, ""), (found, ports)):
        if one and _is_network(one):
            return Allowance(vassal, network=one, ports=its_ports)
    if not _NAME.fullmatch(text) or ports or "/" in text:
        raise RuleError(
            f"expected a vassal's name, a network or NETWORK:PORT, found {shown(text)!r}",
            origin=origin,
        )
    return Allowance(vassal, peer=text)


def peer_of(name: str) -> str:
    """Return the other router of ``VASSAL@PEER`` or ``@PEER``, "" for a vassal of our own."""
    _, at, peer = name.rpartition("@")
    return peer if at else ""


def text(tap: TapNetwork) -> str:
    """Return the policy in the rule language. Raises RuleError for a name that it cannot say."""
    return "\n".join([*_head(tap), *_exceptions(tap), *_defaults(tap)]) + "\n"


def policy(tap: TapNetwork) -> Ruleset:
    """Return the policy's rules. Raises RuleError."""
    return parse(text(tap), SOURCE)


def _is_network(text: str) -> bool:
    try:
        network(text)
    except ValueError:
        return False
    return True


def _head(tap: TapNetwork) -> Iterator[str]:
    yield "policy in drop"
    yield "policy out drop"
    yield _set("closed", CLOSED)
    yield _set("host", tap.host)
    yield _set("jails", tap.jails)
    if tap.remote:
        yield _set("remote", tap.remote)
    yield "in ct state established,related accept"
    yield "out ct state established,related accept"


def _set(name: str, members: Iterable[str]) -> str:
    return f"set {name} {{\n    " + ",\n    ".join(members) + "\n}"


def _exceptions(tap: TapNetwork) -> Iterator[str]:
    for one, other in tap.links:
        yield from _to_vassal(one, other)
        yield from _to_vassal(other, one)
    for allowed in tap.allowances:
        if peer_of(allowed.peer) in tap.peers:
            yield from _with_remote(allowed.vassal, allowed.peer)
        elif allowed.peer:
            yield from _to_vassal(allowed.vassal, allowed.peer)
        else:
            yield from _to_network(allowed)
    for published in tap.published:
        ports = f"{published.protocol} dport {published.port}"
        near = "!= { @jails, @remote }" if tap.remote else "!= @jails"
        for who in (near, "@host"):  # the router's own address is one of the pool
            yield f"in daddr {_vassal(published.vassal)} {ports} saddr {who} ct state new accept"


def _to_vassal(vassal: str, peer: str) -> Iterator[str]:
    for direction in ("out", "in"):
        yield f"{direction} saddr {_vassal(vassal)} daddr {_vassal(peer)} ct state new accept"


def _with_remote(vassal: str, peer: str) -> Iterator[str]:
    """Both ways: each router decides for its own end, and both must agree."""
    yield f"out saddr {_vassal(vassal)} daddr {_vassal(peer)} ct state new accept"
    yield f"in saddr {_vassal(peer)} daddr {_vassal(vassal)} ct state new accept"


def _to_network(allowed: Allowance) -> Iterator[str]:
    ends = f"saddr {_vassal(allowed.vassal)} daddr {allowed.network}"
    if not allowed.ports:
        yield f"out {ends} ct state new accept"
        return
    for protocol in ("tcp", "udp"):
        yield f"out {ends} {protocol} dport {allowed.ports} ct state new accept"


def _defaults(tap: TapNetwork) -> Iterator[str]:
    yield "out daddr @closed drop"
    if tap.resolves:
        for protocol in ("udp", "tcp"):
            yield f"out saddr @jails daddr @host {protocol} dport 53 ct state new accept"
    yield f"out daddr {{ @host, @jails{', @remote' if tap.remote else ''} }} reject"
    yield "out ct state new accept"


def _vassal(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise RuleError(f"no vassal can be called {shown(name)!r} in rules", origin=Origin(SOURCE))
    return f'vassal "{name}"'
