"""The values of conditions: addresses and names, ports, protocols, ICMP types, states, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from donjon.tuntap.rules.addresses import network
from donjon.tuntap.rules.cursor import Cursor, unknown
from donjon.tuntap.rules.model import Addresses, Limit, Name, NameKind, Network, Ports, State
from donjon.tuntap.rules.names import STATES, UNITS
from donjon.tuntap.rules.tokens import Kind, RuleError, Token, expected

MAX_PROTOCOLS = 4
MAX_NETWORKS = 65536
MAX_RATE = 1_000_000_000
MAX_BURST = 65535
USUAL_BURST = 5
"""Packets, where a rule says none: as nft(8)."""
MAX_NAME = 255

_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
T = TypeVar("T")
_KINDS = {kind.value: kind for kind in NameKind}


@dataclass(slots=True)
class Sets:
    """The sets that the text has named so far, each of addresses or of ports."""

    addresses: dict[str, Addresses] = field(default_factory=dict)
    ports: dict[str, Ports] = field(default_factory=dict)

    def add(self, name: Token, value: Addresses | Ports) -> None:
        """Name a set. Raises RuleError where the name is taken."""
        if name.text in self.addresses or name.text in self.ports:
            raise RuleError(f"a second set {name.text!r}", origin=name.origin)
        if isinstance(value, Addresses):
            self.addresses[name.text] = value
        else:
            self.ports[name.text] = value


def is_ports(token: Token) -> bool:
    """Whether a word is a port or a range of them, and so no address."""
    return token.kind is Kind.WORD and _PORTS.fullmatch(token.text) is not None


def addresses(cursor: Cursor, sets: Sets) -> Addresses:
    """Take ``[!=] ADDRESS | NETWORK | RANGE | vassal NAME | plan NAME | @SET | { several }``."""
    negated = cursor.took_mark("!=")
    networks: list[Network] = []
    names: list[Name] = []

    def member(cursor: Cursor) -> None:
        if cursor.took_mark("@"):
            known = _named(cursor, sets.addresses, "a set of addresses")
            networks.extend(known.networks)
            names.extend(known.names)
        elif cursor.peek().text in _KINDS and cursor.peek().kind is Kind.WORD:
            names.append(_name(cursor))
        else:
            networks.append(_network(cursor))

    before = cursor.peek()
    cursor.members(member)
    if len(networks) > MAX_NETWORKS:
        raise RuleError(f"a set of more than {MAX_NETWORKS} networks", origin=before.origin)
    return Addresses(tuple(networks), tuple(names), negated)


def ports(cursor: Cursor, sets: Sets) -> Ports:
    """Take ``[!=] PORT | FIRST-LAST | @SET | { several }``."""
    negated = cursor.took_mark("!=")
    ranges: list[tuple[int, int]] = []

    def member(cursor: Cursor) -> None:
        if cursor.took_mark("@"):
            ranges.extend(_named(cursor, sets.ports, "a set of ports").ranges)
        else:
            ranges.append(_range(cursor.word("a port")))

    cursor.members(member)
    return Ports(tuple(ranges), negated)


def numbers(cursor: Cursor, known: Mapping[str, int], what: str) -> frozenset[int]:
    """Take a name or number up to 255, or several in braces."""
    taken: set[int] = set()

    def member(cursor: Cursor) -> None:
        token = cursor.word(what)
        if _NUMBER.fullmatch(token.text) and int(token.text) <= 255:
            taken.add(int(token.text))
        elif token.text in known:
            taken.add(known[token.text])
        else:
            raise unknown(token, known, what)

    cursor.members(member)
    return frozenset(taken)


def protocols(cursor: Cursor, known: Mapping[str, int]) -> tuple[int, ...]:
    """Take up to four protocols."""
    before = cursor.peek()
    taken = numbers(cursor, known, "a protocol")
    if not 0 < len(taken) <= MAX_PROTOCOLS:
        raise RuleError(f"expected 1 to {MAX_PROTOCOLS} protocols", origin=before.origin)
    return tuple(sorted(taken))


def states(cursor: Cursor) -> State:
    """Take ``new,established``, also in braces."""
    taken = State(0)

    def member(cursor: Cursor) -> None:
        nonlocal taken
        taken |= cursor.one_of(STATES, "a state")

    before = cursor.peek()
    cursor.members(member)
    while before.text != "{" and cursor.took_mark(","):
        member(cursor)
    if not taken:
        raise RuleError("expected a state, found an empty set", origin=before.origin)
    return taken


def limit(cursor: Cursor) -> Limit:
    """Take ``rate [over] N/UNIT [burst N [packets]]``."""
    if not cursor.took_word("rate"):
        raise expected("'rate'", cursor.peek())
    over = cursor.took_word("over")
    token = cursor.word("a rate")
    count, _, unit = token.text.partition("/")
    if unit not in UNITS or not _NUMBER.fullmatch(count) or not 0 < int(count) <= MAX_RATE:
        raise expected(f"a rate as 10/second (1 to {MAX_RATE}; {', '.join(UNITS)})", token)
    burst = _burst(cursor) if cursor.took_word("burst") else USUAL_BURST
    return Limit(UNITS[unit] // int(count), burst, over)


def _burst(cursor: Cursor) -> int:
    token = cursor.word("a number of packets")
    if not _NUMBER.fullmatch(token.text) or not 0 < int(token.text) <= MAX_BURST:
        raise expected(f"a number of packets from 1 to {MAX_BURST}", token)
    cursor.took_word("packets")
    return int(token.text)


def _named(cursor: Cursor, known: Mapping[str, T], what: str) -> T:
    return cursor.one_of(known, f"{what} that was named before")


def _name(cursor: Cursor) -> Name:
    kind = _KINDS[cursor.take().text]
    token = cursor.take()
    if token.kind not in {Kind.WORD, Kind.STRING} or not 0 < len(token.text) <= MAX_NAME:
        raise expected(f"the name of a {kind.value}", token)
    return Name(kind, token.text, token.origin)


def _network(cursor: Cursor) -> Network:
    token = cursor.word("an address, 'vassal', 'plan' or '@'")
    try:
        return network(token.text)
    except ValueError as error:
        raise expected(str(error), token) from None


def _range(token: Token) -> tuple[int, int]:
    match = _PORTS.fullmatch(token.text)
    if match is None:
        raise expected("a port or a range of ports as 8000-8080", token)
    low, high = int(match[1]), int(match[2] or match[1])
    if not low <= high <= 65535:
        raise expected("ports from 0 to 65535, the lower first", token)
    return low, high
