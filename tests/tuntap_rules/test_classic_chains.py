"""uWSGI's chains: TUN-04 to TUN-08."""

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.origin import Origin
from donjon.tuntap._firewall import Firewall
from donjon.tuntap.flow import Flow
from donjon.tuntap.rules import RuleError, classic, compile_rules

IN, OUT = False, True
ORIGIN = Origin("emperor.ini", 7, "tuntap-router-firewall-out")
OUTGOING = (
    "allow 192.168.0.0/24 192.168.0.1",
    "deny 192.168.0.0/24 192.168.0.0/24",
    "allow 192.168.0.0/24 0.0.0.0",
    "deny",
)
INCOMING = (
    "allow 192.168.0.1 192.168.0.0/24",
    "deny 192.168.0.0/24 192.168.0.0/24",
    "allow 0.0.0.0 192.168.0.0/24",
    "deny",
)


def firewall(incoming=(), outgoing=()):
    ruleset = classic.chains(
        [(text, ORIGIN) for text in incoming], [(text, ORIGIN) for text in outgoing]
    )
    return Firewall(compile_rules(ruleset).table)


def passes(rules, out, source, destination):
    flow = Flow(ip_address(source), ip_address(destination), 17, from_jail=int(out), to_jail=1)
    return rules.check(out, flow.pack(), 1) == 0


@pytest.mark.parametrize(
    ("out", "source", "destination", "expected"),
    [
        (OUT, "192.168.0.2", "192.168.0.1", True),
        (OUT, "192.168.0.2", "192.168.0.3", False),
        (OUT, "192.168.0.2", "8.8.8.8", True),
        (OUT, "192.168.1.2", "8.8.8.8", False),
        (OUT, "fe80::1", "ff02::2", False),
        (IN, "192.168.0.1", "192.168.0.2", True),
        (IN, "192.168.0.3", "192.168.0.2", False),
        (IN, "8.8.8.8", "192.168.0.2", True),
        (IN, "8.8.8.8", "192.168.1.2", False),
    ],
)
def test_the_specifications_rules(out, source, destination, expected):
    assert passes(firewall(INCOMING, OUTGOING), out, source, destination) == expected


def test_the_specifications_rules_remember_no_connections():
    rules = firewall(INCOMING, OUTGOING)
    passes(rules, OUT, "192.168.0.2", "8.8.8.8")
    assert rules.totals()["connections"] == 0


def test_without_a_match_a_packet_is_allowed():
    assert passes(firewall(), OUT, "10.0.0.1", "10.0.0.2")
    assert passes(firewall(outgoing=["deny 10.0.0.9 0.0.0.0"]), OUT, "10.0.0.1", "10.0.0.2")


def test_the_first_match_decides():
    assert passes(firewall(outgoing=["allow", "deny"]), OUT, "10.0.0.1", "10.0.0.2")
    assert not passes(firewall(outgoing=["deny", "allow"]), OUT, "10.0.0.1", "10.0.0.2")


def test_0000_is_any_address_whatever_its_mask():
    assert not passes(firewall(outgoing=["deny 0.0.0.0/32 0.0.0.0/8"]), OUT, "10.0.0.1", "fd00::1")


@given(
    st.ip_addresses(v=4),
    st.integers(0, 32),
    st.integers(0, 31),
    st.sampled_from(["source", "destination"]),
)
def test_a_mask_is_as_long_as_it_says(base, length, flipped, end):
    peer = "203.0.113.77" if base != ip_address("203.0.113.77") else "203.0.113.78"
    address = IPv4Address(int(base) ^ 1 << flipped)
    rule = f"deny {base}/{length} 0.0.0.0" if end == "source" else f"deny 0.0.0.0 {base}/{length}"
    rules = firewall(outgoing=[rule])
    denied = str(base) == "0.0.0.0" or address in ip_network(f"{base}/{length}", strict=False)
    if str(address) != peer:
        ends = (address, peer) if end == "source" else (peer, address)
        assert passes(rules, OUT, *ends) != denied


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "deny 10.0.0.1",
            "deny 10.0.0.1 10.0.0.2 10.0.0.3",
            "denny",
            "deny 10.0.0.1/33 1.1.1.1",
        ),
        *("deny 10.0.0.1/-1 1.1.1.1", "deny 10.0.0 1.1.1.1", "deny 10.0.0.0/255.0.0.0 1.1.1.1"),
        *("deny 1.1.1.1/ 0.0.0.0", "deny ::ffff:1.1.1.1 0.0.0.0", "deny 0.0.0.0/x 1.1.1.1"),
    ],
)
def test_what_is_no_rule_is_an_error_and_never_a_rule_that_allows(text):
    with pytest.raises(RuleError, match=r"^emperor\.ini:7: tuntap-router-firewall-out: expected "):
        firewall(outgoing=[text])
