"""The host's table: what nft says to every table that can be asked for, and what stands in it."""

import subprocess
from ipaddress import IPv4Address, IPv6Address

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
    openings = [
        Opening(jail=IPv4Address("192.168.0.2"), network="198.51.100.0/24", ports="53"),
        Opening(jail=IPv6Address("fd00::2"), network="2001:db8::/64", ports="5000-5100"),
        Opening(jail=IPv4Address("192.168.0.2"), network="198.51.100.1"),
    ]
    done = check(script("donjon0", ["192.168.0.0/24"], (), openings, masquerade=True))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_speaks_of_its_own_device_only():
    text = script("tap-x.1", ["192.168.0.0/24"], masquerade=True)
    assert table_name("tap-x.1") == "donjon_tap_x_1"
    rules = [line for line in text.splitlines() if line.startswith("    ") and "type " not in line]
    assert rules
    assert all('"tap-x.1"' in rule for rule in rules)


def test_without_masquerade_nothing_is_translated():
    assert "nat" not in script("d", ["192.168.0.0/24"], masquerade=False).split()
