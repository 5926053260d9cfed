"""Streams of frames: an original peer and our router, our peer and an original router."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from instances import DONJON, UWSGI, awaited, begin, pings
from netspaces import Space, four
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from routed import routed

from donjon.origin import DEFAULT
from donjon.tuntap import endpoint
from donjon.tuntap.peers import MOST_WAITING
from donjon.tuntap.rules import classic, compile_rules

pytestmark = [pytest.mark.root, pytest.mark.uwsgi]

HOST, JAIL = four(1), four(2)


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def spaces(stack):
    """The host's and a jail's namespace, with a cable between them for TCP."""
    host, jail = Space(), Space()
    stack.callback(jail.close)
    stack.callback(host.close)
    host.run(
        "ip",
        "link",
        "add",
        "cable",
        "type",
        "veth",
        "peer",
        "name",
        "cable",
        "netns",
        str(jail.pid),
    )
    host.up("cable", "10.8.0.1/24")
    jail.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", check=False)
    jail.up("cable", "10.8.0.2/24")
    return host, jail


def running(text):
    """The processes that name ``text``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended
            if text in path.read_text():
                found.append(int(path.parent.name))
    return found


def begin_router(stack, space, program, place, address, *words):
    up = f"ip address add {HOST}/16 dev emperor0 && ip link set emperor0 up"
    words = ("--tuntap-router", f"emperor0 {address}", "--exec-as-root", up, *words)
    return begin(stack, space, program, place / "router.log", *words)


def begin_peer(stack, space, program, place, address, own=JAIL):
    up = f"ip address add {own}/16 dev uwsgi0 && ip link set uwsgi0 up"
    words = ("--jailed", "--tuntap-device", f"uwsgi0 {address}", "--exec-as-root", up)
    return begin(stack, space, program, place / "peer.log", *words)


def address_of(kind, place):
    return str(place / "tuntap.socket") if kind == "unix" else "10.8.0.1:3017"


def there(space, place, kind):
    """Wait until the router listens."""
    look = (
        ("test", "-S", str(place / "tuntap.socket"))
        if kind == "unix"
        else ("sh", "-c", "ss -tln | grep -q 3017")
    )
    awaited(lambda: not subprocess.run(space.command(*look), check=False).returncode)


@pytest.mark.parametrize(
    ("router", "peer", "kind"),
    [
        (DONJON, UWSGI, "unix"),
        (UWSGI, DONJON, "unix"),
        (DONJON, DONJON, "unix"),
        (DONJON, UWSGI, "tcp"),  # an original router makes a file of this name and does not listen
        (DONJON, DONJON, "tcp"),
    ],
    ids=["original peer", "original router", "both ours", "original peer, tcp", "both ours, tcp"],
)
def test_peers_and_routers_of_both_kinds_understand_each_other(
    stack, spaces, tmp_path, router, peer, kind
):
    host, jail = spaces
    address = address_of(kind, tmp_path)
    begin_router(stack, host, router, tmp_path, address)
    there(host, tmp_path, kind)
    begin_peer(stack, jail, peer, tmp_path, address)
    logs = [(tmp_path / f"{name}.log").read_text() for name in ("router", "peer")]
    assert pings(jail, HOST), logs
    assert pings(host, JAIL)
    large = host.command("ping", "-c", "1", "-W", "2", "-s", "1400", JAIL)
    assert subprocess.run(large, stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_device_without_a_router_is_there_and_not_in_the_applications_hands(
    stack, spaces, tmp_path
):
    _, jail = spaces
    log = tmp_path / "log"
    child = begin(stack, jail, DONJON, log, "--jailed", "--tuntap-device", "bare0")
    status = Path("/proc", str(child.pid), "status")
    assert awaited(lambda: "Uid:\t65534" in status.read_text()), log.read_text()
    assert "bare0" in jail.run("ip", "link")
    held = [os.readlink(path) for path in Path("/proc", str(child.pid), "fd").iterdir()]
    assert "/dev/net/tun" not in held
    child.send_signal(signal.SIGQUIT)
    child.wait(10)
    assert awaited(lambda: "bare0" not in jail.run("ip", "link"))


def test_statistics_are_those_of_the_original_and_more(stack, spaces, tmp_path):
    host, jail = spaces
    address, stats = address_of("unix", tmp_path), str(tmp_path / "stats")
    begin_router(stack, host, DONJON, tmp_path, address, "--tuntap-router-stats", stats)
    there(host, tmp_path, "unix")
    begin_peer(stack, jail, UWSGI, tmp_path, address)
    assert pings(jail, HOST)
    seen = ask(stats)
    (peer,) = seen["peers"]
    assert peer["addr"] == JAIL
    assert peer["addr_32"] == int.from_bytes(socket.inet_aton(JAIL), sys.byteorder)
    assert peer["tx"] >= 88
    assert peer["rx"] >= 88
    assert set(seen) >= {"version", "pid", "uid", "gid", "cwd", "device", "firewall"}
    samples = {
        (one.name, *sorted(one.labels.values(), reverse=True)): one.value
        for family in text_string_to_metric_families(net(stats, "--openmetrics").stdout)
        for one in family.samples
    }
    assert samples["donjon_peer_packets_total", "out", JAIL] >= peer["out_packets"]
    assert samples["donjon_firewall_events_total", "accepted"] > 0
    assert net(stats).stdout.splitlines()[1].split()[0] == JAIL
    assert json.loads(net(stats, "--json").stdout)["pid"] == seen["pid"]
    nobody = net(str(tmp_path / "nobody"))
    assert nobody.returncode == 1
    assert "No such file or directory" in nobody.stderr


def net(stats, *words):
    """What ``donjon net`` says of a router at its statistics."""
    words = [sys.executable, "-m", "donjon", "net", "--router", stats, *words]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def ask(path):
    with socket.socket(socket.AF_UNIX) as stream, stream.makefile() as answer:
        stream.connect(path)
        return json.load(answer)


def test_a_router_that_is_killed_is_replaced_and_peers_find_it(stack, spaces, tmp_path):
    host, jail = spaces
    address, stats = address_of("unix", tmp_path), str(tmp_path / "stats")
    begin_router(stack, host, DONJON, tmp_path, address, "--tuntap-router-stats", stats)
    there(host, tmp_path, "unix")
    begin_peer(stack, jail, DONJON, tmp_path, address)
    assert pings(jail, HOST)
    os.kill(ask(stats)["pid"], signal.SIGKILL)
    start = time.monotonic()
    assert pings(jail, HOST)
    assert time.monotonic() - start < 1.5


def test_the_emperor_and_vassal_of_the_specification_run_as_written(stack, spaces, tmp_path):
    host, _ = spaces
    address, stats, vassals = (
        address_of("unix", tmp_path),
        tmp_path / "stats",
        tmp_path / "vassals",
    )
    vassals.mkdir()
    (vassals / "one.ini").write_text(
        f"""[uwsgi]
jailed = true
tuntap-device = uwsgi0 {address}
exec-as-root = ip link set lo up
exec-as-root = ip address add {JAIL}/16 dev uwsgi0
exec-as-root = ip link set uwsgi0 up
exec-as-root = ip route add default via {HOST}
exec-as-root = ping -c 1 {HOST}
uid = 65534
gid = 65534
master = true
socket = 127.0.0.1:0
"""
    )
    emperor = tmp_path / "emperor.ini"
    emperor.write_text(
        f"""[uwsgi]
tuntap-router = emperor0 {address} {stats}
exec-as-root = ip address add {HOST}/16 dev emperor0
exec-as-root = ip link set emperor0 up
emperor-use-clone = net
emperor = {vassals}
"""
    )
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(
            host.command(*DONJON, "--ini", str(emperor)), stdout=log, stderr=log
        )
    stack.callback(child.wait)
    stack.callback(child.send_signal, signal.SIGQUIT)
    assert awaited(stats.exists)
    seen = awaited(lambda: [peer["addr"] for peer in ask(str(stats))["peers"] if peer["rx"]])
    assert seen == [JAIL], (tmp_path / "log").read_text()
    assert pings(host, JAIL)


def test_the_chains_of_the_specification_hold(stack, spaces, tmp_path):
    host, jail = spaces
    address = address_of("unix", tmp_path)
    rules = (
        "--tuntap-router-firewall-out",
        f"allow 10.7.0.0/16 {HOST}",
        "--tuntap-router-firewall-out",
        "deny",
    )
    begin_router(stack, host, DONJON, tmp_path, address, *rules)
    there(host, tmp_path, "unix")
    begin_peer(stack, jail, DONJON, tmp_path, address)
    assert pings(jail, HOST)
    jail.run("ip", "route", "add", "10.9.0.0/16", "dev", "uwsgi0")
    host.run("ip", "address", "add", "10.9.0.1/32", "dev", "lo")
    assert not pings(jail, "10.9.0.1", within=1)


def test_a_peer_finds_the_next_router(stack, spaces, tmp_path):
    host, jail = spaces
    address = address_of("unix", tmp_path)
    first = begin_router(stack, host, DONJON, tmp_path, address)
    there(host, tmp_path, "unix")
    begin_peer(stack, jail, DONJON, tmp_path, address)
    assert pings(jail, HOST)
    assert running("emperor0 " + address)
    first.send_signal(signal.SIGQUIT)
    first.wait(10)
    assert awaited(lambda: not running("emperor0 " + address))  # its keeper ends with it
    begin_router(stack, host, DONJON, tmp_path, address)
    assert pings(jail, HOST)


def greet(path, *words):
    """Connect to a router, say ``words``, and return the stream."""
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(path)
    stream.settimeout(3)
    for word in words:
        stream.send(word)
    return stream


@pytest.fixture
def framed(stack, tmp_path):
    """A router that listens, and where."""
    router = stack.enter_context(routed())
    path = str(tmp_path / "tuntap.socket")

    def listen(*, credentials=False):
        with endpoint.listen(path, DEFAULT) as listener:
            router.client.listen(listener.fileno(), credentials=credentials)
        return router, path

    return listen


def udp(source, size=40, destination=HOST):
    head = struct.pack(">BBHHHBBH", 0x45, 0, size, 1, 0, 64, 17, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    return head + ends + struct.pack(">HHHH", 9, 9, size - 20, 0) + bytes(size - 28)


def frame(packet, kind=0):
    return struct.pack("<BHB", 0, len(packet), kind) + packet


def peers(router):
    return {tuple(row["addresses"]): row for row in router.client.counters().peers}


def test_the_first_peer_of_an_address_keeps_it_until_it_ends(framed):
    router, path = framed()
    with greet(path, frame(udp(JAIL))) as _:
        assert awaited(lambda: (JAIL,) in peers(router))
        with greet(path, frame(udp(JAIL))) as _:
            second = awaited(lambda: peers(router).get(()))
            assert awaited(lambda: peers(router)[()]["drops"]["claimed"]) == 1
            assert second["out_packets"] == 0
    assert awaited(lambda: not peers(router))
    with greet(path, frame(udp(JAIL))) as _:
        assert awaited(lambda: (JAIL,) in peers(router))


def test_nobody_claims_what_is_the_hosts_or_has_two(framed):
    router, path = framed()
    with greet(
        path, frame(udp(HOST)), frame(udp("127.0.0.1")), frame(udp("169.254.1.1"))
    ) as stream:
        assert awaited(
            lambda: () in peers(router) and sum(peers(router)[()]["drops"].values()) == 3
        )
        stream.send(frame(udp(JAIL)) + frame(udp(four(9))))
        assert (
            awaited(lambda: (JAIL,) in peers(router) and peers(router)[JAIL,]["drops"]["spoofed"])
            == 1
        )


def test_nobody_claims_an_address_that_he_may_not_send_from(framed):
    router, path = framed()
    allowed = classic.chains([], [("allow 10.7.0.0/16 0.0.0.0", DEFAULT), ("deny", DEFAULT)])
    router.client.rules(compile_rules(allowed).table)
    with greet(path, frame(udp("8.8.8.8"))) as stream:
        assert awaited(lambda: () in peers(router) and peers(router)[()]["drops"]["firewall-out"])
        stream.send(frame(udp(JAIL)))
        assert awaited(lambda: (JAIL,) in peers(router))


def test_each_of_many_that_connect_at_once_gets_its_address(framed, stack):
    router, path = framed()
    streams = [stack.enter_context(greet(path)) for _ in range(60)]
    assert awaited(lambda: len(router.client.counters().peers) == len(streams))
    for number, stream in enumerate(streams, 10):
        stream.send(frame(udp(four(number))))
    wanted = {(four(number),) for number in range(10, 10 + len(streams))}
    assert awaited(lambda: peers(router).keys() == wanted)


def test_rules_of_a_peer_are_ignored_and_counted(framed):
    router, path = framed()
    with greet(path, frame(bytes(24), kind=1), frame(udp(JAIL))) as _:
        assert awaited(lambda: (JAIL,) in peers(router))
        assert peers(router)[JAIL,]["drops"]["control"] == 1


@pytest.mark.parametrize(
    "nonsense", [b"\x01\x00\x00\x00", b"\x00\x04\x00\x07abcd", b"GET / HTTP/1.0\r\n\r\n"]
)
def test_who_speaks_nonsense_is_given_up(framed, nonsense):
    _, path = framed()
    with greet(path, nonsense) as stream:
        assert stream.recv(1) == b""


def test_a_frame_may_arrive_byte_by_byte(framed):
    router, path = framed()
    data = frame(udp(JAIL)) + frame(b"short") + frame(udp(JAIL))
    with greet(path, *(data[at : at + 1] for at in range(len(data)))) as _:
        assert awaited(
            lambda: (JAIL,) in peers(router) and peers(router)[JAIL,]["out_packets"] == 2
        )
        assert peers(router)[JAIL,]["drops"]["malformed"] == 1


def test_who_stops_reading_loses_what_is_for_him_alone(framed):
    router, path = framed()
    with greet(path, frame(udp(JAIL))) as reader, greet(path, frame(udp(four(3)))) as sender:
        assert awaited(lambda: {(JAIL,), (four(3),)} <= peers(router).keys())
        sender.sendall(frame(udp(four(3), 1400, JAIL)) * 1000)
        assert awaited(lambda: peers(router)[four(3),]["out_packets"] == 1001)
        seen = peers(router)[JAIL,]
        assert seen["in_packets"] + seen["drops"]["full"] == 1000
        assert seen["drops"]["full"] > 0
        with reader.makefile("rb") as stream:  # and what he reads at last are whole frames
            for _ in range(seen["in_packets"]):
                assert stream.read(1404) == frame(udp(four(3), 1400, JAIL))


def test_with_credentials_who_does_not_greet_is_sent_away(framed):
    router, path = framed(credentials=True)
    with greet(path, b"uwsgi-tuntap") as stream:
        assert awaited(lambda: peers(router))
        stream.send(frame(udp(JAIL)))
        assert awaited(lambda: (JAIL,) in peers(router))
        assert peers(router)[JAIL,]["credentials"] == [os.getpid(), os.getuid(), os.getgid()]
    with greet(path, frame(udp(JAIL))) as stream, contextlib.suppress(ConnectionResetError):
        assert stream.recv(1) == b""


def test_who_says_nothing_keeps_nobody_out(framed, stack):
    router, path = framed(credentials=True)
    silent = [stack.enter_context(greet(path)) for _ in range(MOST_WAITING)]
    with greet(path, b"uwsgi-tuntap") as _:
        assert awaited(lambda: peers(router))
        assert silent[0].recv(1) == b""
