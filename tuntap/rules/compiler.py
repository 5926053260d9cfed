"""Rules to the bytes of a table, once the names in them are known."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from donjon.tuntap.rules.addresses import merged, number, whole
from donjon.tuntap.rules.model import (
    Addresses,
    Direction,
    Name,
    NameKind,
    Network,
    Rule,
    Ruleset,
    Verdict,
)
from donjon.tuntap.rules.parser import MAX_RULES
from donjon.tuntap.rules.table import SEED, Ends, Pool, TooLargeError, pack_rule, pack_table
from donjon.tuntap.rules.tokens import RuleError

T = TypeVar("T")
Address = IPv4Address | IPv6Address | IPv4Network | IPv6Network

CONNECTIONS = 65536
"""Connections of all jails that are remembered, where the operator says nothing."""
CONNECTIONS_PER_JAIL = 4096


@dataclass(frozen=True, slots=True)
class Names:
    """The addresses of each vassal, and the vassals of each plan.

    A vassal that is known and has no address now is an empty entry: no packet is his.
    """

    vassals: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    plans: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many connections are remembered: a power of two from 16 to 2^20; and of one jail."""

    connections: int = CONNECTIONS
    per_jail: int = CONNECTIONS_PER_JAIL


@dataclass(frozen=True, slots=True)
class Compiled:
    """A table for ``firewall_load``, and the rules behind its indices, IN first."""

    table: bytes
    rules: tuple[Rule, ...]
    identities: tuple[int, ...]


def compile_rules(
    ruleset: Ruleset,
    names: Names | None = None,
    capacity: Capacity | None = None,
    seed: bytes | None = None,
) -> Compiled:
    """Return the table of a ruleset. Raises RuleError for an unknown name, and too many of a kind.

    ``seed``: 16 secret bytes; chosen at random where not given.
    """
    if len(ruleset.rules) > MAX_RULES:
        raise RuleError(f"more than {MAX_RULES} rules", origin=ruleset.rules[MAX_RULES].origin)
    ordered = sorted(ruleset.rules, key=lambda rule: rule.direction)
    identities = _identities(ordered)
    pool = Pool()
    chains: tuple[list[bytes], list[bytes]] = ([], [])
    for rule, identity in zip(ordered, identities, strict=True):
        chains[rule.direction].append(_packed(rule, names or Names(), identity, pool))
    sizes = capacity or Capacity()
    tracked = any(rule.needs_connections for rule in ordered)
    table = pack_table(
        chains,
        _policies(ruleset),
        pool,
        (sizes.connections, sizes.per_jail) if tracked else (0, 0),
        seed or os.urandom(SEED),
    )
    return Compiled(table, tuple(ordered), identities)


def _policies(ruleset: Ruleset) -> tuple[Verdict, Verdict]:
    return ruleset.policy[Direction.IN], ruleset.policy[Direction.OUT]


def _packed(rule: Rule, names: Names, identity: int, pool: Pool) -> bytes:
    ends = Ends(_resolved(rule.source, names), _resolved(rule.destination, names))
    try:
        return pack_rule(rule, ends, identity, pool)
    except TooLargeError as error:
        raise RuleError(str(error), origin=rule.origin) from None


def _identities(rules: Iterable[Rule]) -> tuple[int, ...]:
    """A rule's identity is its words and how often they came before, not its place: it goes on
    counting when others come and go around it. The highest bit keeps them from the policies'."""
    seen: Counter[str] = Counter()
    result = []
    for rule in rules:
        seen[rule.text] += 1
        words = f"{seen[rule.text]} {rule.text}".encode()
        result.append(int.from_bytes(blake2b(words, digest_size=8).digest()) | 1 << 63)
    return tuple(result)


def _resolved(addresses: Addresses | None, names: Names) -> tuple[Network, ...] | None:
    if addresses is None:
        return None
    found = list(addresses.networks)
    for name in addresses.names:
        found.extend(_network(address) for address in _addresses_of(name, names))
    return merged(found)


def _addresses_of(name: Name, names: Names) -> list[Address]:
    if name.kind is NameKind.VASSAL:
        return list(_known(name, names.vassals))
    return [
        address
        for vassal in _known(name, names.plans)
        for address in names.vassals.get(vassal, ())
    ]


def _known(name: Name, known: Mapping[str, T]) -> T:
    if name.text in known:
        return known[name.text]
    like = difflib.get_close_matches(name.text, list(known), 1)
    raise RuleError(
        f"no {name.kind.value} is called {name.text!r}",
        origin=name.origin,
        hint=f"did you mean {like[0]!r}?" if like else "",
    )


def _network(address: Address) -> Network:
    if isinstance(address, IPv4Network | IPv6Network):
        return whole(address)
    value = number(address)
    return Network(value, value)
