"""Vassals with networks of their own, on a host that is a namespace of the test's."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from empire import wait_for
from netempire import address, network, pid, ruling, start, table
from netlab import HOST, HOST6, OUTSIDE, OUTSIDE6, ask, server, sink
from netspaces import enter, inside

from donjon.config.options import network as options

pytestmark = pytest.mark.root


SEND = """
import socket, struct, sys
source, target = map(socket.inet_aton, sys.argv[1:])
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 0, 0, 64, 17, 0, source, target)
total = sum(struct.unpack("!10H", head))
head = head[:10] + struct.pack("!H", 0xFFFF & ~(total + (total >> 16))) + head[12:]
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as link:
    link.sendto(head + struct.pack("!HHHH", 9, 7009, 12, 0) + target, ("tun0", 0x0800))
"""
"""Sends a datagram, whose content is where it is sent, past the routes of who sends."""


def send(emperor, name, target):
    """Send a datagram from a vassal to port 7009."""
    words = [sys.executable, "-c", SEND, address(emperor, name), target]
    subprocess.run([*enter(pid(emperor, name)), *words], check=True)


@pytest.fixture
def emperor(tmp_path, lab):
    with ruling(tmp_path, lab) as found:
        yield found


def test_none_is_a_loopback_that_is_up_and_nothing_else(emperor):
    start(emperor, network_pool=[])
    emperor.vassal("a.ini", network="none")
    inside = pid(emperor, "a.ini")
    assert emperor.lab.addresses(inside) == {"lo": ["127.0.0.1/8", "::1/128"]}
    with server(inside, "127.0.0.1", 80):
        assert ask(inside, "127.0.0.1", 80) == "127.0.0.1"


def test_host_is_the_hosts_also_where_vassals_are_born_without_one(emperor):
    start(emperor, network_pool=[], use_clone=["net", "uts"])
    emperor.vassal("h.ini", network="host")
    emperor.vassal("o.ini")
    assert emperor.lab.namespace(pid(emperor, "h.ini")) == emperor.lab.namespace(emperor.lab.home)
    assert emperor.lab.namespace(pid(emperor, "o.ini")) != emperor.lab.namespace(emperor.lab.home)
    assert "net" not in emperor.started("h.ini")["born_in"]


def test_a_tap_reaches_the_outside_and_neither_host_nor_neighbour(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    emperor.vassal("b.ini", network="tap")
    a, b = pid(emperor, "a.ini"), pid(emperor, "b.ini")
    lab, theirs = emperor.lab, address(emperor, "b.ini")
    with (
        server(lab.world, OUTSIDE, 7000),
        server(lab.home, "0.0.0.0", 7001),
        server(b, theirs, 80),
    ):
        assert ask(a, OUTSIDE, 7000) == HOST  # behind the host's address
        assert ask(b, OUTSIDE, 7000) == HOST
        assert ask(a, theirs, 80, 0.3) != address(emperor, "a.ini")
        for host in (HOST, "192.168.77.1"):
            assert ask(a, host, 7001, 0.3) in ("TimeoutError", "ConnectionRefusedError", "OSError")
        assert ask(b, theirs, 80) == theirs
    with server(lab.world, OUTSIDE6, 7000):
        assert ask(a, OUTSIDE6, 7000) == HOST6


def test_the_spoofed_source_of_a_neighbour_gets_nowhere(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    emperor.vassal("b.ini", network="tap")
    a, theirs = pid(emperor, "a.ini"), address(emperor, "b.ini") if pid(emperor, "b.ini") else ""
    subprocess.run([*enter(a), "ip", "address", "add", f"{theirs}/32", "dev", "tun0"], check=True)
    send = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.bind((sys.argv[1], 0)); s.sendto(b'x', (sys.argv[2], 9))"
    )
    subprocess.run([*enter(a), sys.executable, "-c", send, theirs, OUTSIDE], check=True)
    drops = wait_for(lambda: network(emperor, "a.ini")["counters"]["drops"], "a drop")
    assert "claimed" in drops or "spoofed" in drops


def test_a_published_port_shows_who_connects_and_is_the_only_one(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap", publish="8080:80")
    emperor.vassal("b.ini", network="tap")
    a, b, lab = pid(emperor, "a.ini"), pid(emperor, "b.ini"), emperor.lab
    lab.outside.run("ip", "route", "replace", "192.168.77.0/24", "via", HOST)
    with server(a, "0.0.0.0", 80), server(b, "0.0.0.0", 80), server(a, "0.0.0.0", 81):
        assert ask(lab.world, HOST, 8080) == OUTSIDE
        assert ask(lab.home, HOST, 8080) == HOST
        for name, port in (("a.ini", 81), ("b.ini", 80)):
            assert ask(lab.world, address(emperor, name), port, 0.3) == "TimeoutError"
    with server(a, "::", 80):
        assert ask(lab.world, HOST6, 8080) == OUTSIDE6


def test_the_host_reaches_a_published_port_at_127_0_0_1(emperor):
    start(emperor)
    emperor.vassal("a.ini", "publish = 8080:80\npublish = 127.0.0.1:8081:81\n", network="tap")
    a, lab = pid(emperor, "a.ini"), emperor.lab
    with server(a, "0.0.0.0", 80), server(a, "0.0.0.0", 81):
        for port in (8080, 8081):
            assert ask(lab.home, "127.0.0.1", port) == "192.168.77.1"
        assert ask(lab.world, HOST, 8080) == OUTSIDE
        assert ask(lab.world, HOST, 8081) == ask(lab.home, HOST, 8081) == "ConnectionRefusedError"
        lab.outside.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
        lab.outside.run(
            "ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"
        )
        lab.outside.run("ip", "route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local")
        lab.outside.run("ip", "route", "add", "127.0.0.1", "via", HOST)
        assert ask(lab.world, "127.0.0.1", 8081, 0.3) == "TimeoutError"


def test_a_vassal_does_not_reach_127_0_0_1_of_the_host(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap", publish="127.0.0.1:8081:81")
    pid(emperor, "a.ini")
    drops = lambda: sum(network(emperor, "a.ini")["counters"]["drops"].values())  # noqa: E731
    before = drops()
    send(emperor, "a.ini", "127.0.0.1")
    wait_for(lambda: drops() > before, "a drop")


def test_not_even_who_is_allowed_every_network_reaches_127_0_0_1_of_the_host(emperor):
    start(emperor)
    words = "network-allow = 0.0.0.0/0\npublish = 8080:80\n"
    emperor.vassal("a.ini", words, network="tap")
    pid(emperor, "a.ini")
    switch, lab = "/proc/sys/net/ipv4/conf/donjon0/route_localnet", emperor.lab
    assert lab.host.run("cat", switch) == "1\n"
    with inside(lab.home):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver:
        receiver.settimeout(20)
        receiver.bind(("0.0.0.0", 7009))
        for target in ("127.0.0.1", HOST):
            send(emperor, "a.ini", target)
        assert receiver.recv(100) == socket.inet_aton(HOST)
    emperor.vassal("a.ini", "network-allow = 0.0.0.0/0\n", network="tap")
    wait_for(lambda: lab.host.run("cat", switch) == "0\n", "the switch as it was")


def test_a_port_is_published_once(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap", publish="8080:80")
    pid(emperor, "a.ini")
    emperor.vassal("b.ini", network="tap", publish="8080:81")
    emperor.said("cannot publish port 8080/tcp: a.ini publishes it")


def test_a_change_of_what_is_published_needs_no_restart(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    a, lab = pid(emperor, "a.ini"), emperor.lab
    emperor.vassal("a.ini", network="tap", publish="8090:80", marker="changed")
    wait_for(lambda: "8090" in table(lab), "the port in the table")
    with server(a, "0.0.0.0", 80):
        wait_for(lambda: ask(lab.world, HOST, 8090, 0.3) == OUTSIDE, "an answer")
    assert len(emperor.record("a.ini")) == 1


def test_network_allow_opens_a_neighbour_in_one_direction(emperor):
    start(emperor)
    emperor.vassal("db.ini", network="tap")
    db = pid(emperor, "db.ini")
    emperor.vassal("a.ini", network="tap", **{"network-allow": "db.ini"})
    a = pid(emperor, "a.ini")
    with server(db, "0.0.0.0", 5432), server(a, "0.0.0.0", 80):
        assert ask(a, address(emperor, "db.ini"), 5432) == address(emperor, "a.ini")
        assert ask(db, address(emperor, "a.ini"), 80, 0.3) != address(emperor, "db.ini")


def test_network_allow_opens_a_port_of_the_host(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap", **{"network-allow": f"{HOST}:7001"})
    a, lab = pid(emperor, "a.ini"), emperor.lab
    with server(lab.home, "0.0.0.0", 7001), server(lab.home, "0.0.0.0", 7002):
        assert ask(a, HOST, 7001) == address(emperor, "a.ini")
        assert ask(a, HOST, 7002, 0.3) == "TimeoutError"


def test_network_rules_are_asked_first_and_read_again(emperor):
    rules = emperor.place / "rules"
    rules.write_text(f"out daddr {OUTSIDE} tcp dport 7000 drop\n")
    start(emperor, network_rules=str(rules))
    emperor.vassal("a.ini", network="tap")
    a, lab = pid(emperor, "a.ini"), emperor.lab
    with server(lab.world, OUTSIDE, 7000), server(lab.world, OUTSIDE, 7003):
        assert ask(a, OUTSIDE, 7003) == HOST
        assert ask(a, OUTSIDE, 7000, 0.3) == "TimeoutError"
        rules.write_text("nonsense\n")
        emperor.process.send_signal(signal.SIGHUP)
        emperor.said("network-rules stay as they were")
        assert ask(a, OUTSIDE, 7000, 0.3) == "TimeoutError"
        rules.write_text("")
        emperor.process.send_signal(signal.SIGHUP)
        wait_for(lambda: ask(a, OUTSIDE, 7000, 0.3) == HOST, "the new rules")


def test_what_a_rule_notes_is_a_line_of_the_log(emperor):
    rules = emperor.place / "rules"
    rules.write_text('# what is watched\nout tcp dport 7000 log prefix "web"\n')
    start(emperor, network_rules=str(rules))
    emperor.vassal("a.ini", network="tap")
    a, lab = pid(emperor, "a.ini"), emperor.lab
    with server(lab.world, OUTSIDE, 7000):
        assert ask(a, OUTSIDE, 7000) == HOST
    emperor.said(f"[emperor] packet out of a.ini: tcp {address(emperor, 'a.ini')}:")
    emperor.said(f" > {OUTSIDE}:7000, 60 bytes: accept ({rules}:2 web)\n")


_MANY = """
import socket, sys
kept = []
def more():
    try:
        kept.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), 2))
    except OSError:
        return 0
    kept[-1].recv(1)
    return 1
print(*[more() for _ in range(5)], flush=True)
sys.stdin.readline()
kept.pop().close()
while not more():
    pass
print(len(kept), flush=True)
"""

_KEEP = """
import selectors, socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
links = selectors.DefaultSelector()
links.register(server, selectors.EVENT_READ)
print('listening', flush=True)
while True:
    for key, _ in links.select():
        if key.fileobj is server:
            link = server.accept()[0]
            link.sendall(b'x')
            links.register(link, selectors.EVENT_READ)
        elif not key.fileobj.recv(1):
            links.unregister(key.fileobj)
            key.fileobj.close()
"""


def test_a_jail_at_the_cap_of_its_plan_loses_its_own_new_connections(emperor):
    plans = emperor.place / "plans.ini"
    plans.write_text("[plan:few]\nconnections = 3\n")
    start(emperor, plan_file=str(plans))
    emperor.vassal("a.ini", network="tap", plan="few")
    emperor.vassal("b.ini", network="tap")
    a, b, lab = pid(emperor, "a.ini"), pid(emperor, "b.ini"), emperor.lab

    def many(inside):
        return program(inside, _MANY, OUTSIDE, "7000")

    with contextlib.ExitStack() as programs:
        keeper = programs.enter_context(program(lab.world, _KEEP, OUTSIDE, "7000"))
        assert keeper.stdout.readline() == "listening\n"
        few, other = (programs.enter_context(many(one)) for one in (a, b))
        assert few.stdout.readline() == "1 1 1 0 0\n"
        assert other.stdout.readline() == "1 1 1 1 1\n"
        assert network(emperor, "a.ini")["counters"]["drops"]["connections"] >= 2
        assert "connections" not in network(emperor, "b.ini")["counters"]["drops"]
        few.stdin.write("close one\n")
        few.stdin.flush()
        assert few.stdout.readline() == "3\n"


@contextlib.contextmanager
def program(inside, code, *words):
    """Python in the namespace of a process, as long as it is needed."""
    pipe = subprocess.PIPE
    command = [*enter(inside), sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_address_of_the_operators_choice(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap", **{"network-address": "192.168.77.50"})
    a = pid(emperor, "a.ini")
    found = emperor.lab.addresses(a)["tun0"]
    assert found == ["192.168.77.50/24", "fd00:77::32/64"]


def test_veth_is_an_end_in_a_bridge(emperor):
    lab = emperor.lab
    lab.host.run("ip", "link", "add", "br0", "type", "bridge")
    try:
        lab.host.run("ip", "address", "add", "10.9.0.1/24", "dev", "br0")
        lab.host.run("ip", "link", "set", "br0", "up")
        start(emperor, network_pool=[])
        emperor.vassal("v.ini", network="veth:br0", **{"network-address": "10.9.0.7/24"})
        v = pid(emperor, "v.ini")
        assert lab.addresses(v)["eth0"] == ["10.9.0.7/24"]
        with server(v, "10.9.0.7", 80):
            wait_for(lambda: ask(lab.home, "10.9.0.7", 80, 0.5) == "10.9.0.1", "an answer")
        emperor.vassal("w.ini", network="veth:nobridge", **{"network-address": "10.9.0.8/24"})
        emperor.said("cannot join the bridge nobridge")
        os.kill(v, signal.SIGKILL)
        pid(emperor, "v.ini", 2)
        for mtu in (1400, 1300, 1200, 1100):  # a jail in the place of one that just died
            words = {"network-address": "10.9.0.7/24", "network-mtu": str(mtu)}
            emperor.vassal("v.ini", network="veth:br0", **words)
            pid(emperor, "v.ini", 3 + (1400 - mtu) // 100)
        assert "File exists" not in emperor.log()
        show = ("ip", "-json", "link", "show", "master", "br0")
        wait_for(lambda: len(json.loads(lab.host.run(*show))) == 1, "the end of the others")
    finally:
        lab.host.run("ip", "link", "del", "br0")


def test_in_a_user_namespace_it_cannot_change_its_network(emperor):
    ids = str(emperor.place / "ids")
    start(emperor, use_clone=["user", "pid", "net"], id_range_ledger=ids)
    words = {"id-range": "1500000000:65536", "record": "/dev/null"}
    emperor.vassal("a.ini", network="tap", **words)
    a = wait_for(lambda: max(emperor.row("a.ini")["pid"], 0), "its process")
    wait_for(lambda: network(emperor, "a.ini"), "its network")
    assert "tun0" in emperor.lab.addresses(a)
    change = ["nsenter", f"--user=/proc/{a}/ns/user", f"--net=/proc/{a}/ns/net"]
    done = subprocess.run(
        [*change, "ip", "address", "add", "192.168.77.99/24", "dev", "tun0"],
        capture_output=True,
        check=False,
    )
    assert b"not permitted" in done.stderr


def test_the_mtu_is_the_files(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap", **{"network-mtu": "1400"})
    a = pid(emperor, "a.ini")
    words = [*enter(a), "ip", "-json", "link", "show", "tun0"]
    assert (
        json.loads(subprocess.run(words, check=True, capture_output=True).stdout)[0]["mtu"] == 1400
    )


def test_another_device_changes_the_jail(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    first = pid(emperor, "a.ini")
    emperor.vassal("a.ini", network="none")
    second = pid(emperor, "a.ini", 2)
    assert second != first
    assert list(emperor.lab.addresses(second)) == ["lo"]


def test_without_a_pool_a_tap_has_no_address(emperor):
    start(emperor, network_pool=[])
    emperor.vassal("a.ini", network="tap")
    emperor.said("network = tap needs addresses (network-pool = 192.168.0.0/24")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"publish": "80:80"}, "a.ini:2: publish: publish needs network = tap"),
        ({"network": "none", "network-allow": "b.ini"}, "network-allow needs network = tap"),
        ({"network": "tap", "publish": "80:80"}, "publish needs network-nat"),
        (
            {"network": "tap", "network-allow": "10.0.0.0/8:x"},
            "expected a vassal's name, a network",
        ),
        ({"network": "tap", "unshare": "net"}, "contradict each other"),
        (
            {"network": "tap", "network-address": "10.9.9.9"},
            "is not a vassal's address of network-pool",
        ),
        ({"network": "taps"}, "not one of none, host, tap, veth:BRIDGE"),
        ({"network": "tap", "network-mtu": "9"}, "not between 68 and 65521"),
    ],
)
def test_what_cannot_be_is_one_line(emperor, words, reason):
    start(emperor, network_nat=False)
    emperor.vassal("a.ini", **words)
    emperor.said(reason)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("publish", "[fe80::1%x accept]:80:80"),
        ("network-address", "fe80::1%x accept/64"),
        ("network-pool", "fe80::%x accept/64"),
    ],
)
def test_no_text_goes_to_nft_as_a_zone(name, value):
    (option,) = [one for one in options.OPTIONS if one.name == name]
    with pytest.raises(ValueError, match="an address with a zone"):
        option.parse(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.0.0.0:80:80", "without an address it is a port of all"),
        ("[::]:80:80", "without an address it is a port of all"),
        ("[::1]:80:80", "the kernel leads nobody from ::1 to a jail"),
    ],
)
def test_a_port_that_nobody_could_reach_is_refused(value, reason):
    (option,) = [one for one in options.OPTIONS if one.name == "publish"]
    with pytest.raises(ValueError, match=reason):
        option.parse(value)


def test_rules_that_mean_nothing_end_the_start(emperor):
    rules = emperor.place / "rules"
    rules.write_text("out accept\nin nonsense\n")
    start(emperor, network_rules=str(rules), wait=False)
    assert emperor.process.wait(20) == 1
    assert f"{rules}:2" in emperor.log()


def test_bandwidth_of_a_plan_is_kept(emperor):
    plans = emperor.place / "plans.ini"
    plans.write_text("[plan:slow]\nbandwidth = 200K\n")
    start(emperor, plan_file=str(plans))
    emperor.vassal("a.ini", network="tap", plan="slow")
    a, lab = pid(emperor, "a.ini"), emperor.lab
    with sink(lab.world, OUTSIDE, 7009) as received:
        pour = "import socket, sys; socket.create_connection((sys.argv[1], 7009)).sendall(bytes(400000))"
        words = [*enter(a), sys.executable, "-c", pour, OUTSIDE]
        begun = time.monotonic()
        subprocess.run(words, check=True)
        assert received() == 400000
        assert time.monotonic() - begun > 1.4  # 2 s at 200 KiB/s, but for the burst


def test_a_customers_file_may_not_choose_its_network(emperor):
    start(emperor, tyrant=True)
    file = emperor.vassal("a.ini", network="host")
    os.chown(file, 65534, 65534)
    emperor.said("a.ini:2: network is for the operator only")


def test_a_device_that_is_somebody_elses_is_said(emperor):
    lab = emperor.lab
    lab.host.run("ip", "link", "add", "donjon0", "type", "bridge")
    try:
        start(emperor)
        emperor.said("no network for vassals: cannot make the device donjon0")
        emperor.vassal("a.ini", network="tap")
        emperor.said("vassal a.ini: cannot make the device donjon0")
    finally:
        lab.host.run("ip", "link", "del", "donjon0")


def test_a_plan_differs_from_a_running_network_where_the_file_does(emperor):
    start(emperor)

    def diff(**words):
        file = emperor.vassal("a.ini", network="tap", **words)
        pid(emperor, "a.ini")
        control = ["--control", str(emperor.place / "control")]
        run = [sys.executable, "-m", "donjon", "plan", "--diff", "a.ini", *control, str(file)]
        done = subprocess.run(run, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert diff() == (0, "")
    emperor.vassals = emperor.place / "drafts"
    emperor.vassals.mkdir()
    assert diff(**{"network-address": "192.168.77.2"}) == (0, "")
    for words in ({"network-mtu": "1400"}, {"network-address": "192.168.77.9"}):
        status, said = diff(**words)
        assert status == 1
        assert "+as-vassal: enter a network namespace" in said


@pytest.mark.parametrize("pool", ["198.51.100.128/25", "198.51.0.0/16", "2001:db8::/48"])
def test_a_pool_that_is_the_hosts_own_network_is_refused(emperor, pool):
    there = "2001:db8::/64" if ":" in pool else "198.51.100.0/24"
    start(emperor, network_pool=[pool])
    emperor.said(f"network-pool = {pool} overlaps with {there}: the host has that on cable0")
    assert "donjon0" not in emperor.lab.addresses(emperor.lab.home)


def test_show_and_net_tell_it(emperor):
    start(emperor)
    emperor.vassal("a.ini", network="tap")
    pid(emperor, "a.ini")
    control = ["--control", str(emperor.place / "control")]
    run = [sys.executable, "-m", "donjon"]
    shown = subprocess.run(
        [*run, "show", "a.ini", *control], check=True, capture_output=True, text=True
    )
    assert "network:  tap 192.168.77.2/24" in shown.stdout
    assert "enter a network namespace made for it: tap, 192.168.77.2/24" in shown.stdout
    listed = subprocess.run([*run, "net", *control], check=True, capture_output=True, text=True)
    assert "192.168.77.2/24 fd00:77::2/64" in listed.stdout
    whole = subprocess.run(
        [*run, "net", "--json", *control], check=True, capture_output=True, text=True
    )
    assert json.loads(whole.stdout)["vassals"][0]["counters"]["drops"] is not None
