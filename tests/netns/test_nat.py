"""The host's table: what nft says to every table that can be asked for, and what stands in it."""

import subprocess
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from donjon.netns.nat import Opening, Port, script
from donjon.netns.wanted import table_name

FOUR, SIX = some.ip_addresses(v=4), some.ip_addresses(v=6)
NUMBERS = some.integers(1, 65535)


def ports(addresses):
    return some.builds(
        Port,
        protocol=some.sampled_from(["tcp", "udp"]),
        address=some.none() | addresses,
        port=NUMBERS,
        jail=addresses,
        inner=NUMBERS,
    )


def check(text):
    words = ["unshare", "-n", "nft", "-c", "-f", "-"]
    return subprocess.run(words, input=text, check=False, capture_output=True, text=True)


@pytest.mark.root
@given(some.lists(ports(FOUR) | ports(SIX), max_size=5), some.booleans())
@settings(max_examples=25, deadline=None)
def test_nft_takes_every_table(published, masquerade):
    text = script("donjon0", ["192.168.0.0/24", "fd00::/64"], published, masquerade=masquerade)
    done = check(text)
    assert (done.returncode, done.stderr) == (0, ""), text


@pytest.mark.root
def test_nft_takes_openings():
    four, six = IPv4Address("192.168.0.2"), IPv6Address("fd00::2")
    openings = [
        Opening(jail=jail, first=first, last=last, ports=ports)
        for jail, ends in (
            (four, ("198.51.100.1", "198.51.100.1")),
            (four, ("198.51.100.1", "198.51.100.9")),
            (four, ("0.0.0.0", "255.255.255.255")),
            (six, ("2001:db8::", "2001:db8::ffff")),
            (six, ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        )
        for first, last in (map(ip_address, ends),)
        for ports in (None, (53, 53), (0, 65535), (5000, 5100))
    ]
    done = check(script("donjon0", ["192.168.0.0/24"], (), openings, masquerade=True))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.root
@pytest.mark.parametrize("device", ["tap-x.1", "a_b", "-", "1.", "0" * 15])
def test_nft_takes_the_name_of_every_device(device):
    removed = f"add table inet {table_name(device)}\ndelete table inet {table_name(device)}\n"
    done = check(removed + script(device, ["192.168.0.0/24"], masquerade=True))
    assert (done.returncode, done.stderr) == (0, "")


def test_two_devices_have_two_tables():
    assert len({table_name(one) for one in ("a-b", "a_b", "a.b")}) == 3


def test_a_table_speaks_of_its_own_device_only():
    text = script("tap-x.1", ["192.168.0.0/24"], masquerade=True)
    assert table_name("tap-x.1") == "donjon_tap-x.1"
    rules = [line for line in text.splitlines() if line.startswith("    ") and "type " not in line]
    assert rules
    assert all('"tap-x.1"' in rule for rule in rules)


def test_without_masquerade_nothing_is_translated():
    assert "nat" not in script("d", ["192.168.0.0/24"], masquerade=False).split()
