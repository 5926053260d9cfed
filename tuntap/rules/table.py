"""The compiled form of rules as bytes: ruletable.h says what each part means."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from donjon.tuntap.rules.addresses import as_prefix
from donjon.tuntap.rules.model import Network, Ports, Rule, Verdict

MAGIC = b"donjonF1"
MAX_NETWORKS = 65536
MAX_PORTS = 16384
SEED = 16
"""Bytes of the secret with which connections are hashed."""

_HEADER = struct.Struct("=8s7I2B2xQ16s")
_RULE = struct.Struct("=4s4B8Q8I2IQQ4Q")
_NETWORK = struct.Struct("=4Q")
_PORTS = struct.Struct("=2H")
_WORD = (1 << 64) - 1

LOG = 1
OVER = 2
NOT_SOURCE = 4
NOT_DESTINATION = 8
NOT_SOURCE_PORT = 16
NOT_DESTINATION_PORT = 32
SOURCE_SET = 64
DESTINATION_SET = 128
SOURCE_PORT = 256
DESTINATION_PORT = 512
ICMP_TYPE = 1024


class TooLargeError(Exception):
    """The sets of all rules together do not fit a table; the text says which limit."""


@dataclass(slots=True)
class Pool:
    """The sets of a table. Two rules with the same set share it."""

    networks: bytearray = field(default_factory=bytearray)
    ports: bytearray = field(default_factory=bytearray)
    _known: dict[object, tuple[int, int]] = field(default_factory=dict)

    def add_networks(self, networks: tuple[Network, ...]) -> tuple[int, int]:
        """Return (first, count) of a set. Raises TooLargeError."""
        packed = b"".join(_NETWORK.pack(*_words(n.low), *_words(n.high)) for n in networks)
        return self._add(self.networks, packed, _NETWORK.size, MAX_NETWORKS, "networks")

    def add_ports(self, ranges: tuple[tuple[int, int], ...]) -> tuple[int, int]:
        """Return (first, count) of a set. Raises TooLargeError."""
        packed = b"".join(_PORTS.pack(*one) for one in ranges)
        return self._add(self.ports, packed, _PORTS.size, MAX_PORTS, "ranges of ports")

    def _add(
        self, room: bytearray, packed: bytes, size: int, most: int, what: str
    ) -> tuple[int, int]:
        known = self._known.get((size, packed))
        if known is not None:
            return known
        run = (len(room) // size, len(packed) // size)
        if sum(run) > most:
            raise TooLargeError(f"more than {most} {what} in all rules together")
        room += packed
        self._known[size, packed] = run
        return run


@dataclass(frozen=True, slots=True)
class Ends:
    """The addresses of a rule with all names replaced, disjoint and sorted; None for any."""

    source: tuple[Network, ...] | None
    destination: tuple[Network, ...] | None


def pack_rule(rule: Rule, ends: Ends, identity: int, pool: Pool) -> bytes:
    """Return the bytes of a rule, its sets added to ``pool``. Raises TooLargeError."""
    source = _Condition.of(ends.source, pool)
    destination = _Condition.of(ends.destination, pool)
    limit = rule.limit
    types = sum(1 << number for number in rule.icmp_types or ())
    return _RULE.pack(
        bytes(rule.protocols),
        len(rule.protocols),
        rule.family,
        rule.states,
        rule.verdict,
        *source.prefix,
        *destination.prefix,
        *source.run,
        *destination.run,
        *_port_run(rule.source_ports, pool),
        *_port_run(rule.destination_ports, pool),
        _flags(rule, source, destination),
        limit.burst if limit else 0,
        limit.interval_ns if limit else 0,
        identity,
        *((types >> shift) & _WORD for shift in range(0, 256, 64)),
    )


def pack_table(
    chains: tuple[list[bytes], list[bytes]],
    policy: tuple[Verdict, Verdict],
    pool: Pool,
    connections: tuple[int, int],
    seed: bytes,
) -> bytes:
    """Return a table of the chains IN and OUT; ``connections`` are (all, of one jail)."""
    body = b"".join([*chains[0], *chains[1], pool.networks, pool.ports])
    head = _HEADER.pack(
        MAGIC,
        _HEADER.size + len(body),
        len(chains[0]),
        len(chains[1]),
        len(pool.networks) // _NETWORK.size,
        len(pool.ports) // _PORTS.size,
        *connections,
        *policy,
        0,
        seed,
    )
    return head + body


@dataclass(frozen=True, slots=True)
class _Condition:
    """One end of a rule in the table: a prefix, or a run of networks."""

    prefix: tuple[int, int, int, int]
    run: tuple[int, int]
    is_set: bool

    @classmethod
    def of(cls, networks: tuple[Network, ...] | None, pool: Pool) -> _Condition:
        if networks is None:
            return cls((0, 0, 0, 0), (0, 0), is_set=False)
        prefix = as_prefix(networks[0]) if len(networks) == 1 else None
        if prefix is None:
            return cls((0, 0, 0, 0), pool.add_networks(networks), is_set=True)
        return cls((*_words(prefix[0]), *_words(prefix[1])), (0, 0), is_set=False)


def _flags(rule: Rule, source: _Condition, destination: _Condition) -> int:
    facts = {
        LOG: rule.log,
        OVER: rule.limit is not None and rule.limit.over,
        NOT_SOURCE: rule.source is not None and rule.source.negated,
        NOT_DESTINATION: rule.destination is not None and rule.destination.negated,
        NOT_SOURCE_PORT: rule.source_ports is not None and rule.source_ports.negated,
        NOT_DESTINATION_PORT: (
            rule.destination_ports is not None and rule.destination_ports.negated
        ),
        SOURCE_SET: source.is_set,
        DESTINATION_SET: destination.is_set,
        SOURCE_PORT: rule.source_ports is not None,
        DESTINATION_PORT: rule.destination_ports is not None,
        ICMP_TYPE: rule.icmp_types is not None,
    }
    return sum(flag for flag, holds in facts.items() if holds)


def _port_run(ports: Ports | None, pool: Pool) -> tuple[int, int]:
    return pool.add_ports(_merged_ports(ports.ranges)) if ports else (0, 0)


def _merged_ports(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], high))
        else:
            result.append((low, high))
    return tuple(result)


def _words(number: int) -> tuple[int, int]:
    return number >> 64, number & _WORD
