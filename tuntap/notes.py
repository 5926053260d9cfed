"""What rules with ``log`` noted: messages of the router, and the line that is made of each.

A router tells at most ten packets of a rule at once and ten a second, and once a second how many
more there were (notes.h). What it sends is checked: a line is made of numbers, addresses and
names that the supervisor itself knows.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from donjon import log
from donjon.records import dataclass
from donjon.tuntap.counters import FIRST_PEER

if TYPE_CHECKING:  # a router reads no rules
    from donjon.tuntap.rules.compiler import Compiled

_NOTE = struct.Struct("=QQBBH16s16s4I2H5B??41x")
SIZE = 120
"""Bytes of one note: sizeof(struct note)."""

LARGEST = 64 * SIZE
"""Bytes of one message."""

MESSAGES = 64
"""That are read before others have their turn."""

_VERDICTS = ("accept", "drop", "reject")
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_ICMP = (1, 58)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A packet that a rule noted; with ``more``, how many others the rule did not note.

    ``packet`` says what it was; ``port`` is the jail's whose chain was asked, ``out`` the chain.
    """

    rule: int  # identity
    more: int
    packet: str = ""
    port: int = 0
    out: bool = False
    verdict: str = ""


def read(message: bytes) -> Iterator[Note]:
    """Return the notes of one message; of one that is none, nothing."""
    if len(message) % SIZE == 0 and len(message) <= LARGEST:
        for values in _NOTE.iter_unpack(message):
            yield from _note(values)


def _note(values: tuple[int | bytes, ...]) -> Iterator[Note]:
    rule, more, direction, verdict, _, source, destination, length, start, end = values[:10]
    _, from_port, to_port, family, protocol, _, kind, code, _, later = values[10:]
    if more:
        yield Note(rule=int(rule), more=int(more))
        return
    if direction not in (0, 1) or verdict not in (0, 1, 2) or family not in (4, 6):
        return
    ends = [_address(each, family) for each in (source, destination)]
    if protocol in _ICMP and not later:
        what = f"type {kind!r} code {code!r}, "
    elif protocol not in _PROTOCOLS or later:
        what = "a later fragment, " if later else ""
    else:
        ends = [_joined(ends[0], from_port), _joined(ends[1], to_port)]
        what = ""
    name = _PROTOCOLS.get(int(protocol), f"protocol {protocol!r}")
    yield Note(
        rule=int(rule),
        more=0,
        packet=f"{name} {ends[0]} > {ends[1]}, {what}{length!r} bytes",
        port=int(start if direction else end),
        out=direction == 1,
        verdict=_VERDICTS[int(verdict)],
    )


def _address(packed: int | bytes, family: int | bytes) -> str:
    assert isinstance(packed, bytes)
    found = packed[12:] if family == 4 else packed
    return str(ipaddress.ip_address(found))


def _joined(address: str, port: int | bytes) -> str:
    return f"[{address}]:{port!r}" if ":" in address else f"{address}:{port!r}"


def labels(compiled: Compiled) -> dict[int, str]:
    """Return what lines call each rule with ``log``: where it is, and its prefix."""
    return {
        identity: f"{rule.origin} {rule.prefix}".rstrip()
        for rule, identity in zip(compiled.rules, compiled.identities, strict=True)
        if rule.log
    }


def line(note: Note, labels: Mapping[int, str], names: Mapping[int, str]) -> str:
    """Return the line of a note, without control characters; ``names`` are jails by port."""
    label = labels.get(note.rule, "a rule of before")
    if note.more:
        return log.one_line(f"{note.more} more packets matched {label}")
    whose = names.get(note.port, "a peer" if note.port >= FIRST_PEER else "a jail of before")
    way = "out of" if note.out else "in to"
    return log.one_line(f"packet {way} {whose}: {note.packet}: {note.verdict} ({label})")
