"""Two hosts as one network: what ends say to each other, and what a router lets a trunk do."""

import contextlib
import random
import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import awaited
from netspaces import four
from routed import routed

from donjon.tuntap.federation import peer, wire
from donjon.tuntap.federation.wire import Announced, Kind, Said, Splitter, WireError
from donjon.tuntap.hostaddresses import packed
from donjon.tuntap.protocol import RouterError
from donjon.tuntap.rules import Names, compile_rules
from donjon.tuntap.rules import policy as policies

# -- what a file may say


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected NAME ADDR:PORT|- NETWORK"),
        ("far 1.2.3.4:5", "expected NAME"),
        ("far 1.2.3.4 10.0.0.0/8", "'1.2.3.4' is no ADDR:PORT"),
        ("far 1.2.3.4:99999 10.0.0.0/8", "'99999' is no port"),
        ("Far - 10.0.0.0/8", "'Far' is no name"),
        ("far..net - 10.0.0.0/8", "'far..net' is no name"),
        (f"{'a' * 64} - 10.0.0.0/8", "is no name"),
        ("far - ::/1", "has IPv4 addresses in it"),
        ("far - 10.0.0.1/8", "'10.0.0.1/8' is no network"),
        ("far - 0.0.0.0/0", "'0.0.0.0/0' is everything"),
        ("far - ::ffff:0:0/96", "has IPv4 addresses in it"),
        ("far - " + "10.0.0.0/8 " * 9, "more than 8 networks"),
    ],
)
def test_a_peer_that_makes_no_sense_says_why(text, why):
    with pytest.raises(ValueError, match=why.replace("|", r"\|")):
        peer.parse_peer(text)


def test_a_peer_has_what_is_in_its_networks():
    far = peer.peer(peer.parse_peer("far [::1]:7 10.2.0.0/24 fd00:2::/64"), peer.DEFAULT)
    assert far.where == (IPv6Address("::1"), 7)
    assert far.holds(IPv4Address("10.2.0.9"))
    assert far.holds(IPv6Address("fd00:2::9"))
    assert not far.holds(IPv4Address("10.3.0.9"))


# -- frames and announcements

NAMES = st.text(min_size=1, max_size=80).filter(wire.is_name)
ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda one: not one.ipv4_mapped)
FRAMES = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=60)), max_size=20
)  # fmt: skip


def cut(data, seed):
    """The same bytes in pieces of any size."""
    chance = random.Random(seed)
    while data:
        size = chance.randint(1, len(data))
        yield data[:size]
        data = data[size:]


@given(FRAMES, st.integers())
def test_a_stream_is_the_same_however_it_is_cut(frames, seed):
    data = b"".join(wire.frame(kind, content) for kind, content in frames)
    splitter, packets, said = Splitter(), b"", []
    for piece in cut(data, seed):
        for one in splitter.feed(piece):
            if isinstance(one, Said):
                said.append((one.kind, one.content))
            else:
                packets += one
    assert said == [one for one in frames if one[0] is not Kind.PACKET]
    assert packets == b"".join(wire.frame(*one) for one in frames if one[0] is Kind.PACKET)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes_are_frames_or_refused_and_what_is_kept_is_bounded(pieces):
    splitter = Splitter()
    with contextlib.suppress(WireError):
        for piece in pieces:
            splitter.feed(piece)
            assert len(splitter._rest) < wire.LARGEST + 4


@given(st.lists(st.tuples(ADDRESSES, NAMES), max_size=120))
def test_what_is_announced_is_what_is_understood(routes):
    announced, splitter, whole = Announced(), Splitter(), None
    for part in wire.announcement(routes):
        assert len(part) <= wire.LARGEST + 4
        (said,) = splitter.feed(part)
        assert whole is None
        whole = announced.feed(said.content)
    assert whole == routes


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_are_an_announcement_or_refused(parts):
    announced = Announced()
    with contextlib.suppress(WireError):
        for part in parts:
            for address, name in announced.feed(part) or []:
                assert wire.is_name(name)
                assert packed(address)


@given(st.binary(max_size=30), st.integers(0, 29), st.binary(min_size=1, max_size=1))
def test_a_damaged_announcement_never_breaks(name, at, byte):
    routes = [(IPv4Address("10.2.0.9"), "shop.ini"), (IPv6Address("fd00::9"), "blog.ini")]
    (part,) = wire.announcement(routes)
    content = bytearray(part[4:] + name)
    content[at] = byte[0]
    with contextlib.suppress(WireError):
        Announced().feed(bytes(content))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "without a beginning"),
        (b"\xff", "without a beginning"),
        (b"\2", "did not begin"),
        (b"\3\4\1", "an address that is cut off"),
        (b"\3\5\1\1\1\1\1a", "an address that is cut off"),
        (b"\3\4\1\1\1\1\2a", "a name that is cut off"),
        (b"\3\4\1\1\1\1\0", "a name that no vassal has"),
        (b"\3\4\1\1\1\1\1\xff", "a name that is no text"),
        (b"\3\4\1\1\1\1\1\n", "a name that no vassal has"),
        (b'\3\4\1\1\1\1\1"', "a name that no vassal has"),
        (b"\3\6" + bytes(10) + b"\xff\xff\1\1\1\1\1a", "an IPv4 address as one of IPv6"),
    ],
)
def test_an_announcement_that_makes_no_sense_is_refused(content, why):
    with pytest.raises(WireError, match=why):
        Announced().feed(content)


def test_an_announcement_has_an_end():
    announced = Announced()
    entry = b"\4\1\1\1\1\1a"
    assert announced.feed(b"\1" + entry * 8192) is None
    with pytest.raises(WireError, match="more than 8192 addresses"):
        announced.feed(b"\2" + entry)


@pytest.mark.parametrize("content", [b"", b"donjon\2" + bytes(8), b"DONJON\1" + bytes(8)])
def test_a_greeting_of_somebody_else_is_refused(content):
    with pytest.raises(WireError, match="a greeting of another"):
        wire.read_hello(content)


# -- rules


def test_the_policy_knows_vassals_behind_other_routers():
    tap = policies.TapNetwork(
        jails=("10.1.0.0/24",),
        host=("10.1.0.1",),
        allowances=(policies.Allowance("a.ini", peer="b.ini@far"),),
        published=(policies.Published("a.ini", 80),),
        remote=("10.2.0.0/24",),
        peers=frozenset({"far"}),
    )
    text = policies.text(tap)
    assert 'out saddr vassal "a.ini" daddr vassal "b.ini@far" ct state new accept' in text
    assert 'in saddr vassal "b.ini@far" daddr vassal "a.ini" ct state new accept' in text
    assert "saddr != { @jails, @remote }" in text
    assert "out daddr { @host, @jails, @remote } reject" in text
    names = Names({"a.ini": (IPv4Address("10.1.0.2"),), "b.ini@far": ()})
    assert compile_rules(policies.policy(tap), names).table


def test_a_name_with_an_at_is_a_vassal_of_ours_where_no_peer_is_called_so():
    tap = policies.TapNetwork(
        jails=("10.1.0.0/24",),
        host=("10.1.0.1",),
        allowances=(policies.Allowance("a.ini", peer="me@host.ini"),),
    )
    assert 'in saddr vassal "a.ini" daddr vassal "me@host.ini"' in policies.text(tap)


# -- a router with a trunk

FAR, NEAR = "10.6.0.9", four(2)


@pytest.fixture
def trunk():
    """A router, and the other end of its trunk to ``far``, which has 10.6.0.0/16."""
    with routed() as router, contextlib.ExitStack() as stack:
        near, far = map(stack.enter_context, socket.socketpair())
        far.settimeout(5)
        router.client.allot("far", ["10.6.0.0/16"])
        router.client.trunk("far", near.fileno())
        yield router, far


def datagram(source, destination):
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 30, 1, 0, 64, 17, 0) + ends
    return wire.frame(Kind.PACKET, head + struct.pack(">HHHH", 9, 9, 10, 0) + b"hi")


def say(space, destination):
    code = (
        "import socket; s=socket.socket(type=socket.SOCK_DGRAM);"
        f"s.bind(('{NEAR}', 9)); s.sendto(b'hi', ('{destination}', 9))"
    )
    space.run("/usr/bin/python3", "-c", code)


@pytest.mark.root
def test_a_trunk_has_what_was_announced_and_no_more(trunk):
    router, far = trunk
    router.jail(2)
    far.sendall(datagram(FAR, NEAR))
    counters = router.client.trunk_counters
    assert awaited(lambda: counters("far").drops["spoofed"] == 1)  # not announced
    router.client.routes("far", [packed(IPv4Address(one)) for one in (FAR, NEAR, "10.5.0.1")])
    far.sendall(datagram(FAR, NEAR))
    assert awaited(lambda: router.client.port_counters("2").in_packets == 1)
    for source in (NEAR, four(1)):
        far.sendall(datagram(source, NEAR))
    assert awaited(lambda: counters("far").drops["claimed"] == 2)
    far.sendall(datagram("10.5.0.1", NEAR))
    assert awaited(lambda: counters("far").drops["spoofed"] == 2)
    assert router.client.port_counters("2").in_packets == 1


@pytest.mark.root
def test_nothing_passes_from_a_trunk_to_the_host_the_outside_or_back(trunk):
    router, far = trunk
    router.client.routes("far", [packed(IPv4Address(FAR))])
    for destination in (four(1), "198.51.100.9", "10.6.0.10"):
        far.sendall(datagram(FAR, destination))
    assert awaited(lambda: router.client.trunk_counters("far").drops["no-receiver"] == 3)


@pytest.mark.root
def test_what_is_behind_a_trunk_goes_there_or_nowhere(trunk):
    router, far = trunk
    jail = router.jail(2)
    say(jail, FAR)  # allotted, not announced: not to the host either
    assert awaited(lambda: router.client.port_counters("2").drops["no-receiver"] >= 1)
    router.client.routes("far", [packed(IPv4Address(FAR))])
    say(jail, FAR)
    (frame,) = Splitter().feed(far.recv(1000))
    assert frame[4 + 12 : 4 + 20] == socket.inet_aton(NEAR) + socket.inet_aton(FAR)
    router.client.routes("far", [])
    before = router.client.port_counters("2").drops["no-receiver"]
    say(jail, FAR)
    assert awaited(lambda: router.client.port_counters("2").drops["no-receiver"] > before)


@pytest.mark.root
def test_nobody_here_gets_an_address_that_is_anothers_network(trunk):
    router, _ = trunk
    space = router.space()
    refused = pytest.raises(RouterError, match=r"address 10\.6\.0\.3 is another port's")
    with space.open_tun("uwsgi0") as tun, refused:
        router.client.attach("one", tun.fileno(), ["10.6.0.3"])
    with pytest.raises(RouterError, match=r"network 10\.6\.1\.0/24 is another router's"):
        router.client.allot("other", ["10.6.1.0/24"])


@pytest.mark.root
def test_the_next_router_keeps_networks_and_gets_another_trunk(trunk):
    router, _ = trunk
    jail = router.jail(2)
    router.restart()
    say(jail, FAR)
    assert awaited(lambda: router.client.port_counters("2").drops["no-receiver"] >= 1)
    near, far = socket.socketpair()
    with near, far:
        router.client.trunk("far", near.fileno())
        router.client.routes("far", [packed(IPv4Address(FAR))])
        far.settimeout(5)
        say(jail, FAR)
        assert far.recv(1000)[16:20] == socket.inet_aton(NEAR)


# -- the process of links

SEALED = """
import socket
from donjon import syscalls
from donjon.tuntap import isolation
from donjon.tuntap._plane import seal
syscalls.set_no_new_privs()
isolation.seal(seal(True))
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            socket.socket(family, kind).close()
            print(family.name, kind.name)
        except PermissionError:
            pass
"""


def test_the_process_of_links_makes_sockets_of_tcp_and_no_others():
    done = subprocess.run(
        [sys.executable, "-c", SEALED], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["AF_INET", "SOCK_STREAM", "AF_INET6", "SOCK_STREAM"]
