"""The firewall again, slow and obvious: what the compiled one in C is compared with.

Rules are walked in order, addresses compared as integers of ipaddress, connections kept in a dict
without caps, buckets, caches and bits. It shares no code with the compiler or with C: of the
package it uses only the rules' values.
"""

from dataclasses import dataclass, field
from ipaddress import IPv6Address

from donjon.tuntap.flow import Flow
from donjon.tuntap.rules.model import Addresses, Direction, Ports, Rule, Ruleset, State, Verdict

SECOND = 1_000_000_000
SYN, ACK, FIN, RST = 2, 16, 1, 4
ERRORS = {4: {3, 11, 12}, 6: {1, 2, 3, 4}}
REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}
ICMP = {4: 1, 6: 58}
WITH_PORTS = {6, 17, 33, 132, 136}


@dataclass
class Talk:
    """A conversation that something opened: who, and what has been seen of it."""

    opener: tuple
    other: tuple
    expires: int = 0
    passed: set = field(default_factory=set)
    replied: bool = False
    finished: set = field(default_factory=set)
    reset: bool = False

    @property
    def over(self):
        return self.reset or len(self.finished) == 2

    @property
    def confirmed(self):
        needed = set()
        if self.opener[1] != 0:
            needed.add(Direction.OUT)
        if self.other[1] != 0:
            needed.add(Direction.IN)
        return needed <= self.passed


class SlowFirewall:
    """Rules in force, with the addresses of vassals and plans, each a list of addresses."""

    def __init__(self, ruleset: Ruleset, vassals=None, plans=None):
        self.ruleset = ruleset
        self.vassals = vassals or {}
        self.plans = plans or {}
        self.tracks = any(
            rule.source_ports
            or rule.destination_ports
            or rule.icmp_types is not None
            or rule.states != State.NEW | State.ESTABLISHED | State.RELATED | State.INVALID
            for rule in ruleset.rules
        )
        self.talks: dict = {}
        self.fragments: dict = {}
        self.buckets: dict = {}
        self.counts = [[0, 0] for _ in ruleset.rules]
        self.policy_counts = {direction: [0, 0] for direction in Direction}
        self.logged: list = []

    def check(self, direction: Direction, flow: Flow, now: int) -> Verdict:
        if self._impossible(flow):
            return Verdict.DROP
        if not self.tracks:
            return self._walk(direction, flow, State.NEW, now)
        if flow.not_first_fragment:
            expires = self.fragments.get((direction, self._fragment(flow)), 0)
            return Verdict.ACCEPT if expires > now else Verdict.DROP
        state, talk, key = self._stand(flow, now)
        verdict = self._walk(direction, flow, state, now)
        if verdict is Verdict.ACCEPT:
            self._remember(direction, flow, now, state, talk, key)
            if flow.first_fragment:
                self._let_follow(direction, flow, now)
        return verdict

    def _impossible(self, flow):
        ends = (flow.source, flow.destination)
        mapped = any(isinstance(end, IPv6Address) and end.ipv4_mapped for end in ends)
        return mapped or flow.source == flow.destination

    def _walk(self, direction, flow, state, now):
        for index, rule in enumerate(self.ruleset.rules):
            if rule.direction != direction or not self._holds(rule, flow, state):
                continue
            if rule.limit and not self._within(index, rule.limit, now):
                continue
            self._count(self.counts[index], flow)
            if rule.log:
                self.logged.append((now, index, direction))
            if rule.verdict is not Verdict.CONTINUE:
                return rule.verdict
        self._count(self.policy_counts[direction], flow)
        return self.ruleset.policy[direction]

    def _count(self, counted, flow):
        counted[0] += 1
        counted[1] += flow.length

    def _holds(self, rule: Rule, flow: Flow, state: State) -> bool:
        return (
            rule.family in (0, flow.source.version)
            and (not rule.protocols or flow.protocol in rule.protocols)
            and self._is_of(rule.source, flow.source)
            and self._is_of(rule.destination, flow.destination)
            and self._has(rule.source_ports, flow.source_port)
            and self._has(rule.destination_ports, flow.destination_port)
            and (rule.icmp_types is None or flow.icmp_type in rule.icmp_types)
            and state in rule.states
        )

    def _is_of(self, addresses: Addresses | None, address) -> bool:
        if addresses is None:
            return True
        mapped = int(IPv6Address(f"::ffff:{address}")) if address.version == 4 else int(address)
        found = any(network.low <= mapped <= network.high for network in addresses.networks)
        for name in addresses.names:
            vassals = [name.text] if name.kind.value == "vassal" else self.plans[name.text]
            found = found or any(address in self.vassals[vassal] for vassal in vassals)
        return found != addresses.negated

    def _has(self, ports: Ports | None, port: int) -> bool:
        if ports is None:
            return True
        return any(low <= port <= high for low, high in ports.ranges) != ports.negated

    def _within(self, index, limit, now):
        """A bucket of time: each packet takes out an interval, and time pours in."""
        full = limit.burst * limit.interval_ns
        level, since = self.buckets.get(index, (full, now))
        level = min(full, level + now - since)
        within = level >= limit.interval_ns
        if within:
            level -= limit.interval_ns
        self.buckets[index] = (level, now)
        return within != limit.over

    def _stand(self, flow, now):
        """Return (state, conversation or None, key or None)."""
        version = flow.source.version
        echo = None
        if flow.protocol == ICMP[version]:
            if flow.icmp_type in ERRORS[version]:
                return self._related(flow, now), None, None
            if flow.icmp_type not in (REQUEST[version], REPLY[version]):
                return State.NEW, None, None
            echo = flow.icmp_type
        speaker, other = self._ends(flow, ports=echo is not None)
        asker = None
        if echo is not None:
            asker = speaker if echo == REQUEST[version] else other
        key = (flow.protocol, frozenset([speaker, other]), asker)
        talk = self._talk(key, now)
        flags = flow.tcp_flags & (SYN | ACK | FIN | RST) if flow.protocol == 6 else None
        opens = echo != REPLY[version] if flags is None else flags in (SYN, ACK)
        alone = State.NEW if opens else State.INVALID
        if talk is None or (talk.over and flags == SYN):
            return alone, None, key
        if talk.opener == speaker:
            return (State.ESTABLISHED if talk.replied else State.NEW), talk, key
        if not talk.confirmed:
            return alone, None, key
        return State.ESTABLISHED, talk, key

    def _ends(self, flow, *, ports=False):
        ports = ports or flow.protocol in WITH_PORTS
        return (
            (flow.source, flow.from_jail, flow.source_port if ports else 0),
            (flow.destination, flow.to_jail, flow.destination_port if ports else 0),
        )

    def _talk(self, key, now):
        talk = self.talks.get(key)
        return talk if talk and talk.expires > now else None

    def _related(self, flow, now):
        quoted = flow.quoted
        if quoted is None or quoted.source != flow.destination:
            return State.INVALID
        icmp = quoted.protocol == ICMP[flow.source.version]
        ports = icmp or quoted.protocol in WITH_PORTS
        sender = (quoted.source, flow.to_jail, quoted.source_port if ports else 0)
        target = (quoted.destination, flow.from_jail, quoted.destination_port if ports else 0)
        for asker in (sender, target) if icmp else (None,):
            talk = self._talk((quoted.protocol, frozenset([sender, target]), asker), now)
            if talk and talk.confirmed:
                return State.RELATED
        return State.INVALID

    def _remember(self, direction, flow, now, state, talk, key):
        if key is None or (talk is None and state is not State.NEW):
            return
        speaker, other = self._ends(flow, ports=flow.protocol == ICMP[flow.source.version])
        if talk is None:
            talk = self.talks[key] = Talk(speaker, other)
        if talk.opener == speaker:
            talk.passed.add(direction)
        elif direction is (Direction.IN if flow.to_jail else Direction.OUT):
            talk.replied = True
        if flow.protocol == 6:
            talk.reset = talk.reset or bool(flow.tcp_flags & RST)
            if flow.tcp_flags & FIN:
                talk.finished.add(talk.opener == speaker)
        talk.expires = now + self._life(flow.protocol, talk) * SECOND

    def _life(self, protocol, talk):
        if protocol == 6:
            return 10 if talk.over else 7440 if talk.replied else 60
        if protocol in (17, 136):
            return 180 if talk.replied else 30
        if protocol in (1, 58):
            return 30
        return 600 if talk.replied else 60

    def _fragment(self, flow):
        ends = (flow.source, flow.from_jail, flow.destination, flow.to_jail)
        return (*ends, flow.protocol, flow.fragment_id)

    def _let_follow(self, direction, flow, now):
        fragment = self._fragment(flow)
        for other in Direction:  # what was let through in one direction lives with the other
            if self.fragments.get((other, fragment), 0) > now:
                self.fragments[other, fragment] = now + 30 * SECOND
        self.fragments[direction, fragment] = now + 30 * SECOND
