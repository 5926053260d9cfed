"""The firewall in C does what a slow and obvious one does: any rules, any packets, any times."""

import contextlib
import itertools
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slow_firewall import SlowFirewall

from donjon.tuntap._firewall import Firewall
from donjon.tuntap.flow import Flow, Quoted
from donjon.tuntap.rules import Names, RuleError, compile_rules, parse
from donjon.tuntap.rules.model import Direction, Verdict

V4 = ["10.0.0.1", "10.0.0.2", "10.0.1.255", "192.168.0.1", "0.0.0.0", "255.255.255.255"]
V6 = ["fd00::1", "fd00::2", "fd00:1::", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
NETWORKS = [
    *("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.0/31", "10.0.0.1", "192.168.0.1/32"),
    *(
        "128.0.0.0/1",
        "10.0.0.2-10.0.1.255",
        "::/0",
        "fd00::/8",
        "fd00::/64",
        "fd00::1",
        "8000::/1",
    ),
    *("::-fd00::1", "vassal shop", "vassal idle", "plan gold"),
]
VASSALS = {"shop": ["10.0.0.1", "fd00::1"], "blog": ["10.0.0.2"], "idle": []}
PLANS = {"gold": ("shop", "blog")}
SECOND = 1_000_000_000

PORTS = st.sampled_from([0, 22, 80, 65535])


def some(members, most=3):
    """One member, or several in braces, perhaps negated."""
    several = st.lists(st.sampled_from(members), max_size=most).map(
        lambda chosen: "{ " + ", ".join(chosen) + " }"
    )
    return st.tuples(st.sampled_from(["", "", "!= "]), st.sampled_from(members) | several).map(
        "".join
    )


NUMBERS = ["0", "22", "80", "1-79", "80-443", "0-65535", "443-65535"]
OF4 = [n for n in NETWORKS if "." in n]
TRANSPORT = st.tuples(
    st.sampled_from(["tcp", "udp"]), st.sampled_from(["sport", "dport"]), some(NUMBERS)
)
CLAUSE = st.one_of(
    st.tuples(st.just("saddr"), some(NETWORKS)).map(" ".join),
    st.tuples(st.just("daddr"), some(NETWORKS)).map(" ".join),
    st.tuples(st.just("ip saddr"), some(OF4)).map(" ".join),
    TRANSPORT.map(" ".join),
    st.sampled_from(
        [
            *("ip protocol { icmp, udp }", "ip6 nexthdr tcp", "meta l4proto { tcp, gre }"),
            *("icmp type echo-request", "icmpv6 type { echo-request, echo-reply }"),
            *("ct state new", "ct state established,related", "ct state invalid", "ct state new"),
            *("ct state { new, established }", "ct state established"),
            *("limit rate 2/second burst 2", "limit rate over 1/minute burst 1 packets"),
        ]
    ),
)
ENDING = st.sampled_from(["accept", "accept", "drop", "reject", "log", "counter", "log accept"])


LINE = st.tuples(
    st.sampled_from(["in", "out"]), st.lists(CLAUSE, max_size=3).map(" ".join), ENDING
).map(" ".join)


def parsed(lines, policies):
    """The rules of those lines that are rules: chance also writes contradictions."""
    sense = [f"policy {d} {v}" for d, v in zip(("in", "out"), policies, strict=True)]
    for line in lines:
        with contextlib.suppress(RuleError):
            parse(line, "line")
            sense.append(line)
    return parse("\n".join(sense), "rules")


ACTIONS = st.sampled_from(["accept", "drop", "reject"])
RULESET = st.builds(parsed, st.lists(LINE, max_size=8), st.tuples(ACTIONS, ACTIONS))
FLAGS = st.sampled_from([2, 18, 16, 17, 1, 4, 20, 0, 3, 24])


def ends(addresses):
    return st.tuples(st.sampled_from(addresses), st.sampled_from(addresses)).map(
        lambda pair: (ip_address(pair[0]), ip_address(pair[1]))
    )


ENDS = ends(V4[:3]) | ends(V4) | ends(V6[:3]) | ends(V6)


@st.composite
def flow(draw):
    source, destination = draw(ENDS)
    icmp = 1 if source.version == 4 else 58
    protocol = draw(st.sampled_from([6, 6, 17, icmp, icmp, 47, 132]))
    types = [8, 0, 3, 13] if source.version == 4 else [128, 129, 1, 135]
    icmp_type = draw(st.sampled_from(types)) if protocol == icmp else 0
    fragment = draw(st.sampled_from(["", "", "", "first", "later"]))
    later = fragment == "later"
    quoted = None
    if icmp_type in {3, 1} and draw(st.booleans()):
        quoted = Quoted(
            draw(st.sampled_from([destination, source])),
            draw(st.sampled_from([source, destination])),
            draw(st.sampled_from([6, 17, icmp])),
            draw(PORTS),
            draw(PORTS),
        )
    return Flow(
        source,
        destination,
        protocol,
        0 if later else draw(PORTS),
        0 if later else draw(PORTS),
        length=draw(st.integers(20, 65535)),
        from_jail=draw(st.integers(0, 2)),
        to_jail=draw(st.integers(0, 2)),
        tcp_flags=draw(FLAGS) if protocol == 6 and not later else 0,
        icmp_type=icmp_type,
        fragment_id=draw(st.integers(0, 2)),
        first_fragment=fragment == "first",
        not_first_fragment=later,
        quoted=quoted,
    )


def turned(flow):
    """The answer to a packet."""
    answers = {8: 0, 128: 129, 0: 8, 129: 128}
    return replace(
        flow,
        source=flow.destination,
        destination=flow.source,
        source_port=flow.destination_port,
        destination_port=flow.source_port,
        from_jail=flow.to_jail,
        to_jail=flow.from_jail,
        icmp_type=answers.get(flow.icmp_type, flow.icmp_type) if flow.protocol in {1, 58} else 0,
        quoted=None,
    )


def failed(flow):
    """The ICMP error that the other end sends about a packet."""
    icmp, kind = (1, 3) if flow.source.version == 4 else (58, 1)
    about = Quoted(
        flow.source, flow.destination, flow.protocol, flow.source_port, flow.destination_port
    )
    back = turned(flow)
    return replace(
        back,
        protocol=icmp,
        source_port=0,
        destination_port=0,
        tcp_flags=0,
        icmp_type=kind,
        first_fragment=False,
        not_first_fragment=False,
        quoted=about,
    )


WAITS = st.sampled_from([0, 0, 1, SECOND // 2, SECOND, 29 * SECOND, 61 * SECOND, 8000 * SECOND])
SENT = st.tuples(
    st.sampled_from(list(Direction)),
    st.integers(0, 5),
    st.sampled_from(["same", "same", "turned", "failed"]),
    FLAGS,
    WAITS,
)


NAMES = Names({name: tuple(map(ip_address, known)) for name, known in VASSALS.items()}, PLANS)


class Both:
    """The compiled firewall and the slow one, asked the same."""

    def __init__(self, ruleset):
        compiled = compile_rules(ruleset, NAMES)
        self.fast = Firewall(compiled.table)
        self.slow = SlowFirewall(
            replace(ruleset, rules=compiled.rules), NAMES.vassals, NAMES.plans
        )
        self.now = SECOND

    def check(self, direction, packet):
        expected = self.slow.check(direction, packet, self.now)
        assert self.fast.check(direction is Direction.OUT, packet.pack(), self.now) == expected
        return expected

    def send(self, packet):
        """Let a packet go its way: out of a jail, into a jail, as far as it is accepted."""
        way = [Direction.OUT] * (packet.from_jail > 0) + [Direction.IN] * (packet.to_jail > 0)
        for direction in way:
            if self.check(direction, packet) is not Verdict.ACCEPT:
                return

    def compare(self):
        counted = [list(count[1:]) for count in self.fast.counts()]
        assert counted == [*self.slow.counts, *self.slow.policy_counts.values()]
        logged = iter(self.fast.note, None)
        assert [(n, rule, Direction(out)) for n, rule, out, _ in logged] == self.slow.logged


CHANGES = {"same": lambda packet: packet, "turned": turned, "failed": failed}


@settings(max_examples=400, deadline=None)
@given(RULESET, st.lists(flow(), min_size=1, max_size=6), st.lists(SENT, max_size=40))
def test_any_rules_and_any_packets(ruleset, flows, sent):
    both = Both(ruleset)
    for direction, index, what, flags, wait in sent:
        packet = flows[index % len(flows)]
        if packet.protocol == 6 and not packet.not_first_fragment:
            packet = replace(packet, tcp_flags=flags)
        both.now += wait
        both.check(direction, CHANGES[what](packet))
    both.compare()


A, B, OUTSIDE = (ip_address(text) for text in ("10.0.0.1", "10.0.0.2", "192.168.0.1"))
FORTH = [
    Flow(
        source,
        destination,
        protocol,
        1000,
        80 if protocol != 1 else 1000,
        icmp_type=kind,
        from_jail=from_jail,
        to_jail=to_jail,
    )
    for source, destination, from_jail, to_jail in (
        (A, OUTSIDE, 1, 0),
        (A, B, 1, 2),
        (OUTSIDE, A, 0, 1),
    )
    for protocol, kind in ((6, 0), (17, 0), (1, 8), (47, 0))
]
STATEFUL = [
    *("in ct state established accept", "out ct state established accept"),
    *(
        "in ct state related accept",
        "out ct state related accept",
        "out ct state new accept",
        "in ct state new drop",
    ),
    *("in ct state new limit rate 1/minute burst 3 accept", "out ct state invalid drop"),
    *("in saddr vassal shop ct state new accept", "out daddr vassal blog accept", "in accept"),
    *("out tcp dport 80 counter", "in ct state established log", "out accept"),
    *("out ct state established limit rate over 2/hour burst 3 drop", "out ct state new reject"),
]
STATEFUL_RULES = st.builds(
    parsed,
    st.lists(st.sampled_from(STATEFUL), min_size=2, max_size=7),
    st.tuples(ACTIONS, ACTIONS),
)
HOW = ["forth", "forth", "forth", "back", "back", "failed", "failed back"]


LIVES = [
    "",
    "",
    "S>",
    "S> SA<",
    "S> SA< A> R<",
    "S> SA< F> F<",
    "S> SA< F< FA> S>",
    "S> SA< R> S<",
]
LETTERS = {"S": 2, "A": 16, "F": 1, "R": 4}


def life(first, script):
    """The packets of a conversation by their flags and ways: a handshake, an end, a new one."""
    for step in script.split():
        packet = replace(
            first, tcp_flags=sum(LETTERS[x] for x in step[:-1]) if first.protocol == 6 else 0
        )
        yield packet if step.endswith(">") else turned(packet)


@st.composite
def conversation(draw):
    """What two ends say to each other, with what little may change from packet to packet."""
    first = draw(st.sampled_from(FORTH))
    said = [(packet, 0) for packet in life(first, draw(st.sampled_from(LIVES)))]
    for _ in range(draw(st.integers(1, 12))):
        packet = replace(first, tcp_flags=draw(FLAGS) if first.protocol == 6 else 0)
        fragments = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
        if fragments:
            packet = replace(packet, first_fragment=True, fragment_id=fragments)
        how = draw(st.sampled_from(HOW))
        if how.endswith("back"):
            packet = turned(packet)
        if how.startswith("failed"):
            packet = failed(packet)
        later = replace(
            packet,
            first_fragment=False,
            not_first_fragment=True,
            source_port=0,
            destination_port=0,
            tcp_flags=0,
            icmp_type=0,
            quoted=None,
        )
        said.append((packet, draw(WAITS)))
        if packet.first_fragment:
            said.append((later, draw(WAITS)))
    return said


@settings(max_examples=1500, deadline=None)
@given(STATEFUL_RULES, st.lists(conversation(), min_size=1, max_size=3))
def test_conversations_under_stateful_rules(ruleset, conversations):
    both = Both(ruleset)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*conversations))
    for packet, wait in filter(None, turns):
        both.now += wait
        both.send(packet)
    both.compare()


FAMILIES = st.sampled_from([4, 6])


@given(FAMILIES, st.data())
def test_a_prefix_is_the_addresses_that_ipaddress_says(family, data):
    bits, kind = (32, IPv4Address) if family == 4 else (128, IPv6Address)
    length = data.draw(st.integers(0, bits))
    base = kind(data.draw(st.integers(0, 2**bits - 1)))
    network = ip_network(f"{base}/{length}", strict=False)
    flipped = data.draw(st.integers(0, bits - 1))
    other = kind(int(base) ^ (1 << flipped))
    assume(not any(a.version == 6 and a.ipv4_mapped for a in (base, other, network[0])))
    peer = ip_address("198.51.100.1" if family == 4 else "2001:db8::1")
    assume(peer not in (base, other))
    firewall = Firewall(compile_rules(parse(f"in saddr {network} accept", "x")).table)
    for address in (base, other):
        verdict = firewall.check(False, Flow(address, peer, 17, to_jail=1).pack(), 1)
        assert (verdict == 0) == (address in network)
