"""What the router's rules counted, beside the words of each rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from donjon.records import dataclass
from donjon.tuntap.counters import PortCounters
from donjon.tuntap.rules import Compiled
from donjon.tuntap.rules.model import Direction, Verdict

POLICIES = {Direction.IN: 1, Direction.OUT: 2}
"""The identities of what is done where no rule decides: policy_identity of firewall.c."""

TEXT_MAX = 512
"""Characters shown of a rule: an answer of the control socket holds them all."""


@dataclass(frozen=True, slots=True)
class InForce:
    """A table that the router has, and what it does where no rule decides."""

    compiled: Compiled
    policy: Mapping[Direction, Verdict]


def rules(force: InForce, counts: Mapping[int, tuple[int, int]]) -> list[dict[str, Any]]:
    """Return a row for each rule in force, in their order, and for the two policies.

    ``counts`` are packets and bytes by identity.
    """
    compiled = force.compiled
    rows = [
        _row(rule.direction, rule.text[:TEXT_MAX], str(rule.origin), identity, counts)
        for rule, identity in zip(compiled.rules, compiled.identities, strict=True)
    ]
    for direction, identity in POLICIES.items():
        word = force.policy[direction].name.lower()
        text = f"policy {direction.name.lower()} {word}"
        rows.append(_row(direction, text, "", identity, counts))
    return rows


def _row(
    direction: Direction,
    text: str,
    origin: str,
    identity: int,
    counts: Mapping[int, tuple[int, int]],
) -> dict[str, Any]:
    packets, size = counts.get(identity, (0, 0))
    return {
        "chain": direction.name.lower(),
        "rule": text,
        "origin": origin,
        "identity": f"{identity:016x}",
        "packets": packets,
        "bytes": size,
    }


def port(counters: PortCounters) -> dict[str, Any]:
    """Return what was counted of a port. Causes of drops that never happened are left out."""
    return {
        "out": {"packets": counters.out_packets, "bytes": counters.out_bytes},
        "in": {"packets": counters.in_packets, "bytes": counters.in_bytes},
        "waits": counters.waits,
        "drops": {cause: count for cause, count in counters.drops.items() if count},
    }
