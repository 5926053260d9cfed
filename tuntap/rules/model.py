"""Rules as values: what the text said, before names are known and bytes are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag

from donjon.origin import Origin


class Direction(IntEnum):
    """The chain of a rule: IN is towards a jail, OUT from a jail to the router (TUN-05)."""

    IN = 0
    OUT = 1


class Verdict(IntEnum):
    """What becomes of a packet; CONTINUE goes on to the next rule. The numbers of ruletable.h."""

    ACCEPT = 0
    DROP = 1
    REJECT = 2
    CONTINUE = 3


class State(IntFlag):
    """What a packet is to the connections that are remembered. The bits of ruletable.h."""

    NEW = 1
    ESTABLISHED = 2
    RELATED = 4
    INVALID = 8


ANY_STATE = State.NEW | State.ESTABLISHED | State.RELATED | State.INVALID


class NameKind(Enum):
    """What a name stands for."""

    VASSAL = "vassal"
    PLAN = "plan"


@dataclass(frozen=True, slots=True, order=True)
class Network:
    """Addresses from ``low`` to ``high``, as numbers of 128 bits; IPv4 is ::ffff:a.b.c.d."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Name:
    """A vassal or all vassals of a plan, whose addresses are known when rules are compiled."""

    kind: NameKind
    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Addresses:
    """A condition: the address is in one of the networks or is one of the names' (or is not)."""

    networks: tuple[Network, ...] = ()
    names: tuple[Name, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Ports:
    """A condition: the port is in one of the ranges, ends included (or is not)."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket of ``burst`` packets that gets one back every ``interval_ns``.

    The rule matches while the bucket has some; ``over``, only when it has none.
    """

    interval_ns: int
    burst: int
    over: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, of which None holds for every packet, and what is done when all hold."""

    direction: Direction
    verdict: Verdict
    origin: Origin
    text: str
    family: int = 0
    protocols: tuple[int, ...] = ()
    source: Addresses | None = None
    destination: Addresses | None = None
    source_ports: Ports | None = None
    destination_ports: Ports | None = None
    icmp_types: frozenset[int] | None = None
    states: State = ANY_STATE
    limit: Limit | None = None
    log: bool = False
    prefix: str = ""

    @property
    def needs_connections(self) -> bool:
        """Whether it looks at more than addresses and protocol, which fragments do not have."""
        looks = (self.source_ports, self.destination_ports, self.icmp_types)
        return self.states != ANY_STATE or any(look is not None for look in looks)


def _fail_closed() -> dict[Direction, Verdict]:
    return {Direction.IN: Verdict.DROP, Direction.OUT: Verdict.DROP}


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Both chains in their order, and what becomes of packets that no rule decides about."""

    rules: tuple[Rule, ...] = ()
    policy: dict[Direction, Verdict] = field(default_factory=_fail_closed)
