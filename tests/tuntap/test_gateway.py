"""The gateway over UDP: routes of ``tuntap-router-route``, between ours and an original router."""

import contextlib
import json
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from instances import DONJON, UWSGI, awaited, begin, pings
from netspaces import Space, enter, inside
from routed import Routed

from donjon.origin import DEFAULT
from donjon.tuntap import gateway, routes
from donjon.tuntap.protocol import RouterError
from donjon.tuntap.rules import classic, compile_rules

NEAR, FAR = "10.8.0.1", "10.8.0.2"
OWN, OTHER = "10.7.0.2", "10.6.0.2"


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def join(near, far):
    """A cable between two hosts."""
    peer = ("type", "veth", "peer", "name", "cable", "netns", str(far.pid))
    near.run("ip", "link", "add", "cable", *peer)
    near.up("cable", f"{NEAR}/24")
    far.up("cable", f"{FAR}/24")


# -- what a file may say


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.0/8 10.0.0.0/8", "expected SRC"),
        ("10.0.0.0/8 10.0.0.0/8 1.2.3.4", "'1.2.3.4' is no ADDR:PORT"),
        ("10.0.0.0/8 10.0.0.0/8 1.2.3.4:0", "'0' is no port: a number from 1 to 65535"),
        ("10.0.0.0/8 10.0.0.0/8 1.2.3.4:x", "'x' is no port"),
        ("10.0.0.0/33 10.0.0.0/8 1.2.3.4:1", "'10.0.0.0/33' is no address"),
        ("a b c:1", "'a' is no address"),
    ],
)
def test_a_route_that_makes_no_sense_says_why(text, why):
    with pytest.raises(ValueError, match=why):
        routes.parse_route(text)


def test_a_route_is_packed_as_the_data_plane_reads_it():
    read = routes.route(routes.parse_route("0.0.0.0 10.6.0.9/16 1.2.3.4:258"), DEFAULT)
    source, destination, target, bits, more, port, family = routes.ROUTE.unpack(read.packed())
    assert (bits, more, family, port) == (0, 112, 4, b"\1\2")
    assert source == bytes(16)
    assert destination == bytes(10) + b"\xff\xff" + bytes([10, 6, 0, 0])
    assert target[:4] == bytes([1, 2, 3, 4])


def test_a_gateway_of_one_family_has_no_routes_of_the_other():
    six = routes.route(routes.parse_route("::/0 ::/0 [::1]:9"), DEFAULT)
    with pytest.raises(RouterError, match=r"a route to ::1 cannot go through the gateway 127"):
        gateway.open_gateway("127.0.0.1:9", [six], DEFAULT)


def test_a_gateway_that_cannot_be_bound_says_where_and_why():
    with pytest.raises(RouterError, match=r"cannot bind the gateway 192\.0\.2\.1:9 .*: Cannot as"):
        gateway.open_gateway("192.0.2.1:9", [], DEFAULT)


# -- our router alone


class Gated(Routed):
    """A router with a gateway on its host's loopback, and a stranger's socket there."""

    def __init__(self, stack, *texts):
        super().__init__(stack)
        with self.host_network():
            self.stranger = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            self.stranger.bind(("127.0.0.1", 7001))
            self.stranger.settimeout(5)
            read = [routes.route(routes.parse_route(text), DEFAULT) for text in texts]
            with gateway.open_gateway("127.0.0.1:7000", read, DEFAULT) as udp:
                self.client.gateway(udp.fileno(), [one.packed() for one in read])

    def host_network(self):
        return inside(self.host.pid)

    def send(self, packet):
        self.stranger.sendto(packet, ("127.0.0.1", 7000))

    def drops(self, cause):
        return self.client.gateway_counters().drops[cause]


def datagram(source, destination, port=9):
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 30, 1, 0, 64, 17, 0)
    total = sum(struct.unpack(">10H", head + ends))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", 0xFFFF - (total & 0xFFFF) - (total >> 16))
    return head + ends + struct.pack(">HHHH", port, port, 10, 0) + b"hi"


def say(space, source, destination):
    """Send a datagram out of a namespace."""
    code = (
        "import socket; s=socket.socket(type=socket.SOCK_DGRAM);"
        f"s.bind(('{source}', 9)); s.sendto(b'hi', ('{destination}', 9))"
    )
    subprocess.run([*enter(space.pid), "/usr/bin/python3", "-c", code], check=True)


@contextlib.contextmanager
def heard(space, address):
    """A socket in a namespace; what is yielded says what it hears, and from whom."""
    with inside(space.pid):
        own = socket.socket(type=socket.SOCK_DGRAM)
        own.bind((address, 9))
    own.settimeout(5)
    with own:
        yield lambda: own.recvfrom(100)


@pytest.mark.root
def test_packets_of_a_route_leave_in_datagrams_as_they_are(stack):
    gated = Gated(stack, "0.0.0.0 10.6.0.0/16 127.0.0.1:7001")
    jail = gated.jail(2)
    say(jail, OWN, OTHER)
    packet = gated.stranger.recv(100)
    assert packet[12:20] == socket.inet_aton(OWN) + socket.inet_aton(OTHER)
    assert packet[20:24] == b"\0\x09\0\x09"
    assert packet.endswith(b"hi")
    assert gated.client.gateway_counters().in_packets == 1
    assert gated.client.gateway_counters().in_bytes == 30


@pytest.mark.root
def test_what_comes_from_a_gateway_reaches_a_jail_and_nobody_else(stack):
    gated = Gated(stack, "0.0.0.0 10.6.0.0/16 127.0.0.1:7001")
    jail = gated.jail(2)
    with heard(jail, OWN) as hear:
        gated.send(datagram(OTHER, OWN))
        assert hear() == (b"hi", (OTHER, 9))
    gated.send(datagram(OTHER, "10.7.0.1"))  # the host
    gated.send(datagram(OTHER, "198.51.100.9"))  # the outside
    gated.send(datagram(OTHER, "10.6.0.3"))  # back to where it came from
    assert awaited(lambda: gated.drops("no-receiver") == 3)


@pytest.mark.root
def test_a_gateway_is_not_believed_with_the_address_of_a_jail_or_the_host(stack):
    gated = Gated(stack)
    gated.jail(2), gated.jail(3)
    for source in ("10.7.0.3", "10.7.0.1"):
        gated.send(datagram(source, OWN))
    for source in ("127.0.0.1", "0.0.0.0", "224.0.0.1"):
        gated.send(datagram(source, OWN))
    gated.send(b"")
    gated.send(b"x" * 19)
    assert awaited(lambda: (gated.drops("claimed"), gated.drops("malformed")) >= (3, 2))
    assert gated.client.port_counters("2").in_packets == 0


@pytest.mark.root
def test_both_chains_are_asked_about_a_gateway(stack):
    gated = Gated(stack, "0.0.0.0 10.6.0.0/16 127.0.0.1:7001")
    jail = gated.jail(2)
    chains = classic.chains(
        [(f"allow 10.6.0.3 {OWN}", DEFAULT), ("deny", DEFAULT)],
        [(f"allow {OWN} 10.6.0.3", DEFAULT), ("deny", DEFAULT)],
    )
    gated.client.rules(compile_rules(chains).table)
    say(jail, OWN, OTHER)
    say(jail, OWN, "10.6.0.3")
    assert gated.stranger.recv(100)[16:20] == socket.inet_aton("10.6.0.3")
    assert gated.client.port_counters("2").drops["firewall-out"] >= 1
    with heard(jail, OWN) as hear:
        gated.send(datagram(OTHER, OWN))
        gated.send(datagram("10.6.0.3", OWN))
        assert hear()[1] == ("10.6.0.3", 9)
    assert gated.client.port_counters("2").drops["firewall-in"] == 1


@pytest.mark.root
def test_the_next_router_has_the_gateway_too(stack):
    gated = Gated(stack, "0.0.0.0 10.6.0.0/16 127.0.0.1:7001")
    jail = gated.jail(2)
    gated.restart()
    say(jail, OWN, OTHER)
    assert gated.stranger.recv(100)[16:20] == socket.inet_aton(OTHER)


# -- two hosts


def begin_host(stack, space, program, place, name, own, network, other):
    """A router whose jail is in ``network``; what is for the other's goes to its gateway."""
    address, stats = str(place / f"{name}.socket"), "127.0.0.1:7010"
    up = "ip link set emperor0 up"
    there = {NEAR: FAR, FAR: NEAR}[own]
    words = ("--tuntap-router", f"emperor0 {address} {stats} {own}:7000", "--exec-as-root", up)
    route = ("--tuntap-router-route", f"{network}.0/24 {other}.0/24 {there}:7000")
    begin(stack, space, program, place / f"{name}.log", *words, *route)
    assert awaited(Path(address).exists), (place / f"{name}.log").read_text()
    jail = Space()
    stack.callback(jail.close)
    jail.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
    up = f"ip address add {network}.2/8 dev uwsgi0 && ip link set uwsgi0 up"
    tun = ("--jailed", "--tuntap-device", f"uwsgi0 {address}", "--exec-as-root", up)
    peer = UWSGI if program is UWSGI else DONJON
    begin(stack, jail, peer, place / f"{name}-jail.log", *tun)
    assert awaited(lambda: "uwsgi0" in jail.run("ip", "address", "show", "up"))
    return jail


@pytest.mark.root
@pytest.mark.uwsgi
def test_two_hosts_are_joined_one_of_them_with_an_original_router(stack, tmp_path):
    near, far = Space(), Space()
    stack.callback(near.close)
    stack.callback(far.close)
    join(near, far)
    ours = begin_host(stack, near, DONJON, tmp_path, "ours", NEAR, "10.7.1", "10.7.2")
    theirs = begin_host(stack, far, UWSGI, tmp_path, "theirs", FAR, "10.7.2", "10.7.1")
    logs = [path.read_text() for path in sorted(tmp_path.glob("*.log"))]
    register(theirs)
    register(ours)
    assert pings(ours, "10.7.2.2"), logs
    assert pings(theirs, "10.7.1.2"), logs
    with (
        inside(near.pid),
        socket.create_connection(("127.0.0.1", 7010)) as stream,
        stream.makefile() as answer,
    ):
        seen = json.load(answer)["gateway"]
    assert seen["in_packets"] >= 2
    assert seen["out_packets"] >= 2
    assert not seen["drops"]


def register(space):
    """A peer's first packet tells its router which address it has."""
    space.run("ping", "-c", "1", "-W", "1", "10.9.9.9", check=False)
