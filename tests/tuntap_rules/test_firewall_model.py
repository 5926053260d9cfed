"""The firewall in C does what a slow and obvious one does: any rules, any packets, any times."""

import contextlib
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slow_firewall import SlowFirewall

from donjon.tuntap._firewall import Firewall
from donjon.tuntap.flow import Flow, Quoted
from donjon.tuntap.rules import Names, RuleError, compile_rules, parse
from donjon.tuntap.rules.model import Direction

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


@settings(max_examples=600, deadline=None)
@given(RULESET, st.lists(flow(), min_size=1, max_size=6), st.lists(SENT, max_size=40))
def test_the_compiled_firewall_does_what_the_slow_one_does(ruleset, flows, sent):
    names = Names({name: tuple(map(ip_address, known)) for name, known in VASSALS.items()}, PLANS)
    compiled = compile_rules(ruleset, names)
    fast = Firewall(compiled.table)
    slow = SlowFirewall(replace(ruleset, rules=compiled.rules), names.vassals, PLANS)
    now = SECOND
    for direction, index, what, flags, wait in sent:
        packet = flows[index % len(flows)]
        if packet.protocol == 6 and not packet.not_first_fragment:
            packet = replace(packet, tcp_flags=flags)
        packet = {"same": lambda p: p, "turned": turned, "failed": failed}[what](packet)
        now += wait
        expected = slow.check(direction, packet, now)
        assert fast.check(direction is Direction.OUT, packet.pack(), now) == expected
    counted = [list(count[1:]) for count in fast.counts()]
    assert counted == [*slow.counts, *slow.policy_counts.values()]
    logged = iter(fast.note, None)
    assert [(now, rule, Direction(out)) for now, rule, out, _ in logged] == slow.logged


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
