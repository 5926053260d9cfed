"""The rule language: what is understood, and that every mistake is one clear line."""

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.tuntap._firewall import Firewall
from donjon.tuntap.flow import Flow
from donjon.tuntap.rules import Names, RuleError, compile_rules, parse
from donjon.tuntap.rules.model import Direction, Limit, State, Verdict

SHOP = ip_address("192.168.0.2")
OUTSIDE = ip_address("198.51.100.7")


def one(text):
    (rule,) = parse(text, "x.rules").rules
    return rule


def test_a_rule_has_all_that_its_line_says():
    rule = one(
        'out ip saddr vassal "my shop" ip daddr != 10.0.0.0/8 tcp dport { 80, 8000-8080 } '
        'ct state new limit rate over 10/minute burst 7 packets log prefix "web" counter reject'
    )
    assert (rule.direction, rule.verdict, rule.family) == (Direction.OUT, Verdict.REJECT, 4)
    assert rule.source.names[0].text == "my shop"
    assert rule.destination.negated
    assert rule.protocols == (6,)
    assert rule.destination_ports.ranges == ((80, 80), (8000, 8080))
    assert rule.states == State.NEW
    assert rule.limit == Limit(6_000_000_000, 7, over=True)
    assert (rule.log, rule.prefix, rule.origin.line) == (True, "web", 1)


def test_sets_may_have_many_lines_and_hold_other_sets():
    ruleset = parse(
        "set near {\n  10.0.0.0/8, # ours\n  vassal shop,\n}\n"
        "set far { @near, 1.2.3.4 }\nset web { 80, 443 }\n"
        "in saddr @far tcp dport @web accept\n",
        "x",
    )
    assert len(ruleset.rules[0].source.networks) == 2
    assert ruleset.rules[0].destination_ports.ranges == ((80, 80), (443, 443))
    assert ruleset.rules[0].origin.line == 7


def test_what_is_not_decided_is_dropped_unless_a_policy_says_otherwise():
    assert parse("", "x").policy == {Direction.IN: Verdict.DROP, Direction.OUT: Verdict.DROP}
    assert parse("policy out accept", "x").policy[Direction.OUT] == Verdict.ACCEPT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nin tcp dprt 80 accept", "2: expected 'sport' or 'dport', found 'dprt' (did you mean"),
        ("inn accept", "1: expected 'in', 'out', 'set' or 'policy', found 'inn' (did you mean"),
        ("in", "1: a rule that does nothing"),
        ("in tcp dport 80", "1: a rule that does nothing"),
        ("in accept drop", "1: expected the end of the line after the verdict, found 'drop'"),
        ("in saddr accept", "1: expected an address, a network or a range of addresses, found"),
        ("in saddr", "1: expected an address, 'vassal', 'plan' or '@', found the end of the line"),
        (
            "in saddr 10.0.0.1/8 accept",
            "1: expected a network without bits beyond its mask, as 10",
        ),
        ("in saddr 10.0.0.0/33 accept", "1: expected an address, a network or a range"),
        ("in saddr ::ffff:1.2.3.4 accept", "1: expected the IPv4 address, 1.2.3.4, found"),
        ("in saddr 10.0.0.9-10.0.0.1 accept", "1: expected a range from a lower to a higher"),
        ("in ip saddr fd00::1 accept", "1: an address of another family than 'ip' says"),
        ("in ip saddr 1.2.3.4 ip6 daddr ::1 accept", "1: 'ip6' after 'ip': no packet is of both"),
        ("in tcp dport 1 udp dport 1 accept", "1: 'udp' after 'tcp': no packet is of both"),
        ("in tcp dport 1 tcp dport 2 accept", "1: a second 'dport' in one rule"),
        ("in tcp dport 65536 accept", "1: expected ports from 0 to 65535, the lower first, found"),
        ("in tcp dport http accept", "1: expected a port or a range of ports as 8000-8080, found"),
        ("in ct state old accept", "1: expected a state, found 'old'"),
        ("in ct state { } accept", "1: expected a state, found an empty set"),
        ("in limit rate 0/second accept", "1: expected a rate as 10/second"),
        ("in limit rate 5/second burst 0 accept", "1: expected a number of packets from 1"),
        ("in icmp type echo accept", "1: expected an ICMP type, found 'echo'"),
        ("in ip protocol tpc accept", "1: expected a protocol, found 'tpc'"),
        ("in meta l4proto { 1, 2, 3, 4, 5 } accept", "1: expected 1 to 4 protocols"),
        ("in saddr @near accept", "1: expected a set of addresses that was named before, found"),
        ("set a { 1 }\nset a { 2 }", "2: a second set 'a'"),
        ("set a 1", "1: expected '{', found '1'"),
        ("set a { 1,\n\n", "1: a { that no } closes"),
        ("set a { { 1 } }", "1: a { within that of line 1"),
        ("in } accept", "1: a } that no { opened"),
        ("policy in accept\npolicy in drop", "2: a second policy of 'in'"),
        ("policy in maybe", "1: expected accept, drop or reject, found 'maybe'"),
        ('in log prefix "x accept', "1: a string that is not closed on its line"),
        ("in accept; out accept", "1: unexpected character ';' (one rule a line"),
        ("in " + "x" * 5000, "1: a line longer than 4096 characters"),
        ("in " + "x" * 100, "1: expected a condition or a verdict, found '" + "x" * 40 + "...'"),
        ("in accept\n" * 4097, "4097: more than 4096 rules"),
        ("set a {" + "1,\n" * 5000 + "}", "1: a set of more than 4096 members"),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_what_was_expected(text, message):
    with pytest.raises(RuleError) as error:
        parse(text, "x.rules")
    assert str(error.value).startswith(f"x.rules:{message}")
    assert "\n" not in str(error.value)


WORDS = st.sampled_from(
    [
        *("in", "out", "set", "policy", "accept", "drop", "reject", "log", "prefix", "counter"),
        *("limit", "rate", "over", "burst", "packets", "ct", "state", "new", "ip", "ip6", "saddr"),
        *("daddr", "protocol", "nexthdr", "meta", "l4proto", "tcp", "udp", "sport", "dport"),
        *(
            "icmp",
            "icmpv6",
            "type",
            "echo-request",
            "vassal",
            "shop",
            "plan",
            "gold",
            "@",
            "{",
            "}",
        ),
        *(",", "!=", "80", "8000-8080", "10.0.0.0/8", "fd00::/8", "1.2.3.4-1.2.3.9", "::1", "5"),
        *(
            "10/second",
            '"s"',
            '"',
            "#",
            "\n",
            "\n",
            "\\",
            "\x00",
            "é",
            "9" * 20,
            "1/0",
            "a/b",
            "-",
        ),
    ]
)
NAMES = Names({"shop": (SHOP,)}, {"gold": ("shop",)})


@settings(max_examples=1500, deadline=None)
@given(st.lists(WORDS, max_size=40).map(" ".join) | st.text(max_size=200))
def test_any_text_is_rules_or_one_line_of_error(text):
    error = wrong(text)
    assert error is None or (error.startswith("x") and "\n" not in error)


def wrong(text):
    """What is wrong with a text; None where its table loads."""
    try:
        compiled = compile_rules(parse(text, "x"), NAMES)
    except RuleError as error:
        return str(error)
    Firewall(compiled.table)
    return None


def test_a_name_that_nobody_has_is_an_error_with_its_line():
    with pytest.raises(RuleError, match=r"x:2: no vassal is called 'shpo' \(did you mean 'shop'"):
        compile_rules(parse("\nin daddr vassal shpo accept", "x"), NAMES)
    with pytest.raises(RuleError, match=r"x:1: no plan is called 'tin'"):
        compile_rules(parse("in daddr plan tin accept", "x"), NAMES)


def test_a_vassal_without_address_is_nobody():
    ruleset = parse("policy out drop\nout saddr vassal idle accept", "x")
    firewall = Firewall(compile_rules(ruleset, Names({"idle": ()})).table)
    assert firewall.check(True, Flow(SHOP, OUTSIDE, 6, from_jail=1).pack(), 1) == Verdict.DROP


def test_a_rule_goes_on_counting_when_others_come_before_it():
    flow = Flow(SHOP, OUTSIDE, 17, 5, 53, length=100, from_jail=1).pack()
    first = compile_rules(parse("out udp dport 53 accept", "x"))
    firewall = Firewall(first.table)
    firewall.check(True, flow, 1)
    second = compile_rules(parse("in accept\nout tcp dport 53 drop\nout udp dport 53 accept", "x"))
    firewall.replace(second.table)
    firewall.check(True, flow, 2)
    assert firewall.counts()[2] == (first.identities[0], 2, 200)


def test_a_bad_table_leaves_the_old_one_in_force():
    flow = Flow(SHOP, OUTSIDE, 17, 5, 53, from_jail=1).pack()
    table = compile_rules(parse("out accept", "x")).table
    firewall = Firewall(table)
    for cut in range(len(table)):
        with pytest.raises(ValueError, match="table"):
            firewall.replace(table[:cut])
    assert firewall.check(True, flow, 1) == Verdict.ACCEPT
    assert len(firewall.counts()) == 3


def test_a_connection_outlives_the_rule_that_let_it_in_but_not_its_jail():
    syn = Flow(SHOP, OUTSIDE, 6, 5, 80, from_jail=1, tcp_flags=2).pack()
    answer = Flow(OUTSIDE, SHOP, 6, 80, 5, to_jail=1, tcp_flags=18).pack()
    closed = "in ct state established accept\n"
    firewall = Firewall(compile_rules(parse(closed + "out tcp dport 80 accept", "x")).table)
    firewall.check(True, syn, 1)
    firewall.replace(compile_rules(parse(closed, "x")).table)
    assert firewall.check(False, answer, 2) == Verdict.ACCEPT
    firewall.forget(1)
    assert firewall.check(False, answer, 3) == Verdict.DROP


def test_notes_are_bounded_and_what_is_lost_is_counted():
    firewall = Firewall(compile_rules(parse("out log accept", "x")).table)
    flow = Flow(SHOP, OUTSIDE, 17, 5, 53, from_jail=1).pack()
    for now in range(300):
        firewall.check(True, flow, now)
    assert firewall.note() == (0, 0, True, flow)
    assert len(list(iter(firewall.note, None))) == 255
    assert firewall.totals()["notes_lost"] == 44


def test_the_example_of_the_manual_is_understood():
    page = (Path(__file__).parents[2] / "docs/firewall.md").read_text()
    example = page.split("```\n")[1]
    address = (ip_address("192.168.0.9"),)
    names = Names({"shop.ini": address, "my blog.ini": address}, {"gold": ("shop.ini",)})
    assert len(compile_rules(parse(example, "manual"), names).rules) == 8
