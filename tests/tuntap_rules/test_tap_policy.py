"""What a vassal with `network = tap` reaches, and who reaches it (security cases 70 and 76)."""

from ipaddress import ip_address

import pytest

from donjon.origin import Origin
from donjon.tuntap._firewall import Firewall
from donjon.tuntap.flow import Flow
from donjon.tuntap.rules import Names, RuleError, compile_rules, policy

ORIGIN = Origin("shop.ini", 3, "network-allow")
VASSALS = {"shop": "192.168.0.2", "db": "192.168.0.3", "blog": "192.168.0.4"}
JAILS = {"192.168.0.2": 1, "192.168.0.3": 2, "192.168.0.4": 3, "fd00:7::2": 1}
SECOND = 1_000_000_000
ACCEPT, DROP, REJECT = range(3)
SYN, ANSWER, ACK = 2, 18, 16


class World:
    """A router with three jails and the policy in force."""

    def __init__(self, **exceptions):
        tap = policy.TapNetwork(
            ("192.168.0.0/24", "fd00:7::/64"), ("192.168.0.1", "203.0.113.0/24"), **exceptions
        )
        names = Names({name: (ip_address(address),) for name, address in VASSALS.items()})
        self.firewall = Firewall(compile_rules(policy.policy(tap), names).table)

    def send(self, source, destination, port=80, sport=40000, flags=SYN, protocol=6):
        flow = Flow(
            ip_address(source),
            ip_address(destination),
            protocol,
            sport,
            port,
            tcp_flags=flags if protocol == 6 else 0,
            from_jail=JAILS.get(source, 0),
            to_jail=JAILS.get(destination, 0),
        )
        verdict = ACCEPT
        for out, passes in ((True, flow.from_jail), (False, flow.to_jail)):
            if passes and verdict == ACCEPT:
                verdict = self.firewall.check(out, flow.pack(), SECOND)
        return verdict


@pytest.mark.parametrize(
    "near",
    [
        *("192.168.0.1", "192.168.0.3", "203.0.113.9", "127.0.0.1", "169.254.169.254", "0.0.0.0"),
        *("100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255"),
    ],
)
@pytest.mark.parametrize("protocol", [6, 17])
def test_a_vassal_reaches_nobody_near(near, protocol):
    assert World().send("192.168.0.2", near, protocol=protocol) != ACCEPT


@pytest.mark.parametrize(
    "near",
    ["::1", "fe80::1", "ff02::1", "fd00:7::3", "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "::7f00:1"],
)
def test_a_vassal_reaches_nobody_near_in_ipv6(near):
    assert World().send("fd00:7::2", near) != ACCEPT


def test_a_vassal_reaches_the_outside_and_is_answered():
    world = World()
    assert world.send("192.168.0.2", "198.51.100.7") == ACCEPT
    assert world.send("198.51.100.7", "192.168.0.2", 40000, 80, ANSWER) == ACCEPT
    assert world.send("198.51.100.7", "192.168.0.2", 40001, 80, ANSWER) == DROP


def test_the_outside_opens_nothing():
    world = World()
    assert world.send("198.51.100.7", "192.168.0.2") == DROP
    assert world.send("198.51.100.7", "192.168.0.2", flags=ACK) == DROP
    assert world.send("192.168.0.1", "192.168.0.2") == DROP


def test_two_vassals_that_both_speak_first_do_not_meet():
    world = World()
    assert world.send("192.168.0.2", "192.168.0.3") == REJECT
    assert world.send("192.168.0.3", "192.168.0.2", 40000, 80, ANSWER) != ACCEPT
    assert world.send("192.168.0.3", "192.168.0.2", 40000, 80, ACK) != ACCEPT
    assert world.send("192.168.0.2", "192.168.0.3", flags=ACK) != ACCEPT


def test_a_link_goes_both_ways_and_to_no_third():
    world = World(links=(("shop", "db"),))
    assert world.send("192.168.0.2", "192.168.0.3") == ACCEPT
    assert world.send("192.168.0.3", "192.168.0.2", 40000, 80, ANSWER) == ACCEPT
    assert world.send("192.168.0.3", "192.168.0.2", 22) == ACCEPT
    assert world.send("192.168.0.4", "192.168.0.3") == REJECT
    assert world.send("192.168.0.2", "192.168.0.4") == REJECT


def test_an_allowed_vassal_is_reached_and_only_answers():
    world = World(allowances=(policy.allowance("shop", "db", ORIGIN),))
    assert world.send("192.168.0.3", "192.168.0.2", 22) == REJECT
    assert world.send("192.168.0.2", "192.168.0.3") == ACCEPT
    assert world.send("192.168.0.3", "192.168.0.2", 40000, 80, ANSWER) == ACCEPT


def test_an_allowed_port_of_the_host_is_reached_and_no_other():
    world = World(allowances=(policy.allowance("shop", "203.0.113.5:5432", ORIGIN),))
    assert world.send("192.168.0.2", "203.0.113.5", 5432) == ACCEPT
    assert world.send("192.168.0.2", "203.0.113.5", 5433) == REJECT
    assert world.send("192.168.0.4", "203.0.113.5", 5432) == REJECT


def test_an_allowed_network_of_jails_does_not_open_them():
    world = World(allowances=(policy.allowance("shop", "192.168.0.0/24", ORIGIN),))
    assert world.send("192.168.0.2", "192.168.0.3") == DROP
    assert world.send("192.168.0.2", "192.168.0.1") == ACCEPT


def test_a_published_port_is_open_to_the_outside_only():
    world = World(published=(policy.Published("shop", 80),))
    assert world.send("198.51.100.7", "192.168.0.2", 80, 5) == ACCEPT
    assert world.send("192.168.0.2", "198.51.100.7", 5, 80, ANSWER) == ACCEPT
    assert world.send("198.51.100.7", "192.168.0.2", 81, 5) == DROP
    assert world.send("192.168.0.4", "192.168.0.2", 80) == REJECT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db", policy.Allowance("shop", peer="db")),
        ("db.ini", policy.Allowance("shop", peer="db.ini")),
        ("10.0.0.0/8", policy.Allowance("shop", network="10.0.0.0/8")),
        ("10.0.0.5:53", policy.Allowance("shop", network="10.0.0.5", ports="53")),
        ("fd00::1", policy.Allowance("shop", network="fd00::1")),
        ("[fd00::/8]:53-54", policy.Allowance("shop", network="fd00::/8", ports="53-54")),
    ],
)
def test_an_allowance_is_a_vassal_or_a_network_with_ports(text, expected):
    assert policy.allowance("shop", text, ORIGIN) == expected


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "10.0.0.0/99:80", 'a"b', "a\nb", "db:80", "x" * 300]
)
def test_what_is_neither_is_an_error_with_its_line(text):
    with pytest.raises(RuleError, match=r"^shop\.ini:3: network-allow: expected a vassal's name"):
        policy.allowance("shop", text, ORIGIN)


def test_a_name_never_becomes_a_rule():
    with pytest.raises(RuleError, match="no vassal can be called"):
        policy.policy(policy.TapNetwork((), (), links=(('a" accept\nin accept #', "b"),)))
