"""What the resolver is told: names, who is asked else, and what the host's table has of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network

from donjon.emperor.tapped import Tapped
from donjon.errors import DonjonError, reason_of
from donjon.netns import nat
from donjon.origin import DEFAULT
from donjon.tuntap.dns import book, launch
from donjon.tuntap.dns.book import Address, Jail, Upstream
from donjon.tuntap.rules import policy as policies

HOST, NONE = "host", "none"
"""Words of network-dns that are no address."""

RESOLV_CONF = "/etc/resolv.conf"


def book_of(
    members: Mapping[str, Tapped],
    networks: Iterable[str],
    upstreams: tuple[Upstream, ...],
) -> bytes:
    """Return the book: each vassal knows itself, and those that network-allow lets it reach."""
    named: dict[str, tuple[str, tuple[Address, ...]]] = {}
    for vassal, member in members.items():
        name = book.name_of(vassal)
        if name is not None and member.addresses:
            named[vassal] = (name, member.addresses)
    jails = []
    for vassal, member in members.items():
        sees: dict[str, tuple[Address, ...]] = {}
        for peer in (vassal, *_peers(member)):
            if peer in named:
                name, addresses = named[peer]
                sees[name] = (*sees.get(name, ()), *addresses)
        if member.addresses:
            jails.append(Jail(member.addresses, sees))
    parsed = tuple(ip_network(one) for one in networks)
    return book.write(book.make(tuple(jails), parsed, upstreams))


def _peers(member: Tapped) -> list[str]:
    found = (_peer(one.text) for one in member.jail.network_allow)
    return [one for one in dict.fromkeys(found) if one]


@functools.lru_cache(maxsize=1 << 14)
def _peer(text: str) -> str:
    """Return whom a word of network-allow names, "" for a network; it was read before."""
    return policies.allowance("", text, DEFAULT).peer


def in_table(words: Sequence[str], addresses: Sequence[str], device: str) -> nat.Resolver:
    """Return what the host's table has of the resolver on a device. Raises DonjonError."""
    ports = {
        book.PORT if word == HOST else address_and_port(word)[1] for word in words if word != NONE
    }
    return nat.Resolver(
        addresses=tuple(ip_address(one) for one in addresses),
        user=user_of(device),
        asked=tuple(ports),
    )


def user_of(device: str) -> int:
    """Return the uid of the resolver on a device. Raises DonjonError."""
    try:
        return launch.user_of(device)
    except OSError as error:
        raise DonjonError(f"the device {device} is gone", reason=reason_of(error)) from error


def upstreams_of(words: Sequence[str], own: Sequence[str]) -> tuple[Upstream, ...]:
    """Return who is asked what is no vassal's name, as ``network-dns`` has it.

    ``own`` are addresses of the resolver's: a host that asks there would ask for ever.
    """
    found: list[Upstream] = []
    for word in words:
        if word == HOST:
            found += [(one, book.PORT) for one in _servers_of_host()]
        elif word != NONE:
            found.append(address_and_port(word))
    return tuple(one for one in dict.fromkeys(found) if one[0] not in own)


def address_and_port(word: str) -> Upstream:
    """Read ``ADDRESS``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``, as the option allowed it."""
    address, port = word, str(book.PORT)
    if word.startswith("["):
        address, _, port = word[1:].partition("]:")
    elif word.count(":") == 1:
        address, _, port = word.partition(":")
    return address, int(port)


def _servers_of_host() -> list[str]:
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file.read(64 << 10).splitlines()]
    except OSError:
        return []
    found = []
    for words in lines:
        if words[:1] == ["nameserver"] and len(words) > 1 and _is_address(words[1]):
            found.append(words[1])
    return found


def _is_address(text: str) -> bool:
    """Whether it is one that means something without an interface."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
