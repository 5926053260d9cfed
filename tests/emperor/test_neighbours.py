"""Two Emperors on two hosts, network namespaces of the test's own, whose vassals share a network."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from ipaddress import ip_address, ip_network

import pytest
from authority import Authority
from empire import Emperor, wait_for
from hosting import descendants
from netlab import HOST, OUTSIDE, Lab, ask, server
from netspaces import enter, inside
from scarce import no_more_descriptors

from donjon.config.spec import EmperorSpec
from donjon.emperor import neighbours
from donjon.emperor.neighbours import Neighbours
from donjon.emperor.reactor import Reactor
from donjon.errors import OptionError
from donjon.origin import DEFAULT
from donjon.tuntap import protocol
from donjon.tuntap.federation import peer, wire

pytestmark = pytest.mark.root

PORT = 4433
NETWORKS = {"near": "192.168.71.0/24", "far": "192.168.72.0/24"}
NETWORKS6 = {"near": "fd00:71::/64", "far": "fd00:72::/64"}
REFUSED = ("ConnectionRefusedError", "TimeoutError", "OSError")
WHERE = {"near": HOST, "far": OUTSIDE}


@pytest.fixture(scope="module")
def other_lab():
    """Where hosts of one test are, beside the pair of all tests."""
    found = Lab()
    yield found
    found.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class Host:
    """One of the two: an Emperor in its network namespace, and its certificates."""

    def __init__(self, place, lab, name):
        place = place / name
        place.mkdir()
        self.name, self.place, self.certificates = name, place, place / "certificates"
        self.space = lab.host if name == "near" else lab.outside
        self.emperor = Emperor(place)
        self._births = {}
        self.other = "far" if name == "near" else "near"

    def start(self, *, peers=None, **spec):
        peers = peers or [self.peer()]
        files = {
            f"network_peer_{end}": str(self.certificates / end) for end in ("cert", "key", "ca")
        }
        if self.name == "far":
            files["network_peer_listen"] = f"{OUTSIDE}:{PORT}"
        fields = {
            "network_pool": [NETWORKS[self.name], NETWORKS6[self.name]],
            "network_ledger": str(self.place / "ledger"),
            "network_peers": peers,
            **files,
            **spec,
        }
        return self.emperor.start(prefix=self.space.command(), **fields)

    def peer(self, *networks):
        """The far one waits, the near one dials."""
        where = f"{WHERE[self.other]}:{PORT}" if self.name == "near" else "-"
        return " ".join(
            (self.other, where, *(networks or (NETWORKS[self.other], NETWORKS6[self.other])))
        )

    def net(self):
        return self.emperor.ask({"verb": "net"})

    @property
    def link(self):
        (found,) = self.net()["peers"]
        return found

    def vassal(self, name, *allowed):
        count = self._births[name] = self._births.get(name, 0) + 1
        self.emperor.vassal(
            name, network="tap", **({"network-allow": allowed[0]} if allowed else {})
        )
        return self.emperor.started(name, count)["pid"]

    def address(self, name, family=0):
        found = next(one for one in self.net()["vassals"] if one["name"] == name)
        return found["addresses"][family].partition("/")[0]

    def is_up(self):
        return wait_for(lambda: self.link["up"], f"link of {self.name}", 20)

    def knows(self, *names):
        return wait_for(lambda: set(names) == set(self.link["vassals"]), f"{names}", 20)

    def said(self, text):
        return wait_for(lambda: text in self.emperor.log(), f"{text!r}", 20)

    def end(self):
        process = self.emperor.process
        if process is not None and process.poll() is None:
            process.terminate()
            assert process.wait(20) == 0, self.emperor.log()


def two(place, lab, authority):
    """Both hosts, with certificates, not started."""
    both = Host(place, lab, "near"), Host(place, lab, "far")
    for one in both:
        authority.sign(one.certificates, one.name)
    return both


@pytest.fixture
def hosts(tmp_path, other_lab, authority):
    both = two(tmp_path, other_lab, authority)
    yield both
    for one in both:
        one.end()


@pytest.fixture(scope="module")
def pair(tmp_path_factory, lab, authority):
    """Both hosts with their link, for all tests of this file: each has vassals of its own."""
    both = two(tmp_path_factory.mktemp("pair"), lab, authority)
    for one in both:
        one.start()
    yield both
    for one in both:
        one.end()


@pytest.fixture
def joined(pair):
    for one in pair:
        one.is_up()
    yield pair
    for one in pair:
        for path in one.emperor.vassals.iterdir():
            path.unlink()
    for one in pair:
        wait_for(lambda one=one: not one.net()["vassals"], "end of all vassals", 20)


def pings(pid, address):
    words = [*enter(pid), "ping", "-c", "1", "-W", "1", address]
    return not subprocess.run(words, capture_output=True, check=False).returncode


def keeper_of(host):
    """The process that holds the links."""
    found = [
        pid
        for pid in descendants(host.emperor.process.pid)
        if b"federation.process" in command_of(pid)
    ]
    return found[0] if found else None


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_a_customers_vassals_on_two_hosts_reach_each_other_and_a_strangers_do_not(joined):
    near, far = joined
    a = near.vassal("shop.ini", "db.ini@far")
    b = far.vassal("db.ini", "shop.ini@near")
    stranger_near, stranger_far = near.vassal("evil.ini"), far.vassal("evil.ini")
    near.knows("db.ini"), far.knows("shop.ini")
    ours, theirs = near.address("shop.ini"), far.address("db.ini")
    with server(b, theirs, 80), server(a, ours, 80):
        assert ask(a, theirs, 80, 5) == ours
        assert ask(b, ours, 80, 5) == theirs
        for pid, address in ((stranger_near, theirs), (stranger_far, ours)):
            assert ask(pid, address, 80, 0.5) in REFUSED
    with server(stranger_far, far.address("evil.ini"), 80):
        assert ask(a, far.address("evil.ini"), 80, 0.5) in REFUSED
    with server(b, far.address("db.ini", 1), 80):
        assert ask(a, far.address("db.ini", 1), 80, 5) == near.address("shop.ini", 1)
        assert ask(stranger_near, far.address("db.ini", 1), 80, 0.5) in REFUSED
    counters = near.link["counters"]
    assert counters["from"]["packets"] > 0
    assert counters["to"]["bytes"] > 0


def test_both_ends_must_agree_and_a_whole_host_may_be_allowed(joined):
    near, far = joined
    a, b = near.vassal("shop.ini", "@far"), far.vassal("db.ini", "@near")
    c = far.vassal("closed.ini", "other.ini@near")
    near.knows("db.ini", "closed.ini")
    assert wait_for(lambda: pings(a, far.address("db.ini")), "ping")
    assert wait_for(lambda: pings(b, near.address("shop.ini")), "ping")
    assert not pings(a, far.address("closed.ini"))
    assert not pings(c, near.address("shop.ini"))


def test_a_link_that_is_cut_comes_back_and_nothing_leaks_meanwhile(joined, lab):
    near, far = joined
    a = near.vassal("shop.ini", "@far")
    far.vassal("db.ini", "@near")
    near.knows("db.ini")
    theirs = far.address("db.ini")
    assert wait_for(lambda: pings(a, theirs), "ping")
    lab.host.run("nft", "add", "table", "ip", "cut")
    chain = "{ type filter hook output priority 0 ; }"
    lab.host.run("nft", "add", "chain", "ip", "cut", "out", chain)
    reset = ("tcp", "dport", str(PORT), "reject", "with", "tcp", "reset")
    lab.host.run("nft", "add", "rule", "ip", "cut", "out", *reset)
    try:
        wait_for(lambda: not near.link["up"] and near.link["why"], "end of the link", 20)
        assert near.link["vassals"] == {}
        assert not pings(a, theirs)
        drops = next(one for one in near.net()["vassals"] if one["name"] == "shop.ini")["counters"]
        assert {"no-receiver", "firewall-out"} & drops["drops"].keys()
    finally:
        lab.host.run("nft", "delete", "table", "ip", "cut")
    near.is_up()
    assert wait_for(lambda: pings(a, theirs), "ping", 20)


_STREAM = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as link:
    print('begun', flush=True)
    for line in sys.stdin:
        link.sendall(line.encode())
        print(link.recv(100).decode().strip(), flush=True)
"""
_ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print('listening', flush=True)
    link, _ = server.accept()
    while block := link.recv(65536):
        link.sendall(block)
"""


class _Ended:
    """Ends a process."""

    def __init__(self, process):
        self.close = process.kill


def links(host, before):
    """How many links there have been since the log was as long as ``before``."""
    return host.emperor.log()[before:].count(f"another link to {host.other} is up")


def test_keys_are_rotated_under_a_connection_that_goes_on(joined, authority):
    near, far = joined
    a, b = near.vassal("shop.ini", "@far"), far.vassal("db.ini", "@near")
    near.knows("db.ini"), far.knows("shop.ini")
    theirs = far.address("db.ini")
    logs = [len(host.emperor.log()) for host in joined]

    def begin(pid, code):
        words = [*enter(pid), sys.executable, "-c", code, theirs, "80"]
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)

    with begin(b, _ECHO) as echo, contextlib.closing(_Ended(echo)):
        assert echo.stdout.readline() == "listening\n"
        with begin(a, _STREAM) as stream, contextlib.closing(_Ended(stream)):
            assert stream.stdout.readline() == "begun\n"

            def passes(word):
                stream.stdin.write(word + "\n")
                stream.stdin.flush()
                return stream.stdout.readline() == word + "\n"

            assert passes("first")
            for count, host in enumerate((far, near), 1):
                authority.sign(host.certificates, host.name)
                wait_for(lambda count=count: min(map(links, joined, logs)) >= count, "links", 20)
                assert passes(f"after {count}")
    for host in joined:
        assert host.link["up"]
    for host, before in zip(joined, logs, strict=True):
        assert "no link to" not in host.emperor.log()[before:]


def test_certificates_that_are_not_good_are_refused_until_they_are(hosts, authority, tmp_path):
    near, far = hosts
    Authority(tmp_path / "others", "others").sign(near.certificates, "near")
    for one in hosts:
        one.start()
    wait_for(lambda: "certificate is refused" in near.link["why"], "refusal", 20)
    assert not near.link["up"]
    assert not far.link["up"]
    authority.sign(far.certificates, "far", days=-1)
    authority.sign(near.certificates, "near")
    wait_for(lambda: "expired" in near.link["why"], "refusal", 20)
    authority.sign(far.certificates, "elsewhere")
    wait_for(lambda: "mismatch" in near.link["why"], "refusal", 20)
    assert not near.link["up"]
    authority.sign(far.certificates, "far")
    near.is_up()
    authority.sign(near.certificates, "elsewhere")
    far.said("who connected is refused: its certificate is of no peer")
    assert near.link["up"]  # the one that there was
    assert far.link["up"]


def test_what_a_peer_announces_beyond_its_networks_is_refused(hosts):
    near, far = hosts
    near.start(peers=[near.peer("192.168.72.2/32", "fd00:72::2/128")])
    far.start()
    near.is_up()
    a = near.vassal("shop.ini", "@far")
    first, second = far.vassal("a.ini", "@near"), far.vassal("b.ini", "@near")
    assert first != second
    near.knows("a.ini")
    wait_for(lambda: near.link["refused"] == 2, "a refusal", 20)
    near.said("announces 2 addresses that are not its own, as 192.168.72.3: refused")
    assert wait_for(lambda: pings(a, far.address("a.ini")), "ping")
    assert not pings(a, far.address("b.ini"))
    assert not pings(second, near.address("shop.ini"))


def dial(host, place):
    """Be a peer by hand."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(place / "ca")
    context.load_cert_chain(place / "cert", place / "key")
    with inside(host.space.pid):
        plain = socket.create_connection((OUTSIDE, PORT), 10)
    link = context.wrap_socket(plain, server_hostname="far")
    link.sendall(wire.hello(7))
    return link


NONSENSE = (
    b"\1\0\0\0",
    b"\0\xff\xff\0",
    wire.frame(wire.Kind.ROUTES, b"\0"),
    wire.frame(wire.Kind.ROUTES, b"\3\4abc"),
    wire.hello(7),
)


def test_a_peer_that_speaks_nonsense_loses_its_link_alone(hosts, authority, tmp_path):
    _, far = hosts
    far.start()
    wait_for(lambda: keeper_of(far), "process")
    before = keeper_of(far)
    authority.sign(tmp_path / "hand", "near")
    for nonsense in NONSENSE:
        with wait_for(lambda: dial(far, tmp_path / "hand"), "connection") as link:
            far.is_up()
            link.sendall(nonsense)
            wait_for(lambda: not far.link["up"], "end of the link", 20)
            assert "the peer sent" in far.link["why"]
    assert keeper_of(far) == before


def test_the_process_of_links_has_no_rights_and_is_replaced(joined):
    near, far = joined
    a = near.vassal("shop.ini", "@far")
    far.vassal("db.ini", "@near")
    near.knows("db.ini")
    pid = wait_for(lambda: keeper_of(near), "process")
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    assert status["CapEff"].strip() == status["CapBnd"].strip() == "0" * 16
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert "0" not in status["Uid"].split()
    assert os.listdir(f"/proc/{pid}/root") == []
    os.kill(pid, signal.SIGKILL)
    near.said("the links to peers ended")
    assert wait_for(lambda: keeper_of(near) not in (None, pid), "another one", 20)
    near.is_up()
    assert wait_for(lambda: pings(a, far.address("db.ini")), "ping", 20)


def test_a_router_that_is_killed_is_joined_again(joined):
    near, far = joined
    a = near.vassal("shop.ini", "@far")
    far.vassal("db.ini", "@near")
    near.knows("db.ini")
    assert wait_for(lambda: pings(a, far.address("db.ini")), "ping", 20)
    os.kill(near.net()["router"]["pid"], signal.SIGKILL)
    wait_for(lambda: near.net()["router"]["restarts"] == 1, "another router", 20)
    assert wait_for(lambda: pings(a, far.address("db.ini")), "ping", 20)


def test_a_start_that_fails_at_first_joins_peers_when_it_does_not(hosts):
    near, far = hosts
    with inside(near.space.pid):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND of linux/in.h
        server.bind(("192.168.71.1", 53))
        near.start(network_dns=["none"])
        near.said("no network for vassals: network-dns: cannot answer on 192.168.71.1")
        assert not near.link["up"]
    far.start()
    a = near.vassal("shop.ini", "@far")
    near.is_up()
    far.vassal("db.ini", "@near")
    near.knows("db.ini")
    assert wait_for(lambda: pings(a, far.address("db.ini")), "ping", 20)


class NoRouter:
    def allot(self, name, networks, done):
        done(None)

    def trunk(self, name, stream, done):
        done(None)

    def routes(self, name, addresses):
        pass


@pytest.fixture
def alone(tmp_path, authority, monkeypatch):
    """What an Emperor has of its peers, on a loop of ours."""
    monkeypatch.setattr(neighbours, "PAUSE", 0.1)
    authority.sign(tmp_path, "near")
    reactor = Reactor()
    spec = spec_of(tmp_path, "far - 10.1.0.0/16")
    found = Neighbours(spec, [ip_network("192.168.71.0/24")], reactor)
    found.begin(NoRouter())
    yield found
    found.close()
    reactor.close()


def turned(found, condition):
    def turn():
        found.reactor.turn(0.1)
        return condition()

    return wait_for(turn, "turns of the loop", 20)


def test_a_process_of_links_that_stands_still_holds_nobody_up_and_is_replaced(alone):
    pid = alone.pid
    os.kill(pid, signal.SIGSTOP)
    assert alone._started.channel.gettimeout() == 0
    for number in range(5000):
        alone.tell([(f"{number}.ini", [ip_address("192.168.71.2")], frozenset({"far"}))])
    turned(alone, lambda: alone.pid not in (-1, pid))


def test_a_process_of_links_that_cannot_be_told_for_want_of_descriptors_is_replaced(alone):
    for told in (
        lambda: alone.tell([("a.ini", [ip_address("192.168.71.2")], frozenset({"far"}))]),
        alone._router_resumed,
    ):
        pid = alone.pid
        with no_more_descriptors():
            told()
        turned(alone, lambda pid=pid: alone.pid not in (-1, pid))


def test_a_peer_that_announces_for_ever_leaves_the_loop_its_time(alone, monkeypatch):
    monkeypatch.setattr(neighbours, "REST", 1e9)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel, changes = alone._started.channel, []
    alone.reactor.forget(channel.fileno())
    os.dup2(near.fileno(), channel.fileno())  # as if far were the process's
    alone.reactor.watch(channel.fileno(), lambda _events: alone._hear())
    alone.changed = changes.append
    body = {"peer": "far", "up": True, "why": "", "refused": 0, "expires": 0}
    with near, far:
        for number in range(3):
            rows = json.dumps([[f"10.1.0.{number}", "a.ini"]]).encode()
            with protocol.memory("routes", rows) as memory:
                protocol.send(far, body, [memory.fileno()])
        turned(alone, lambda: changes)
        later = []
        alone.reactor.after(0.1, lambda: later.append(None))
        turned(alone, lambda: later)
        assert len(changes) == 1


def test_a_process_of_links_that_says_what_is_too_deep_is_replaced(alone, capfd):
    pid = alone.pid
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    alone.reactor.forget(alone._started.channel.fileno())
    os.dup2(near.fileno(), alone._started.channel.fileno())  # as if far were the process's
    alone.reactor.watch(alone._started.channel.fileno(), lambda _events: alone._hear())
    body = {"peer": "far", "up": True, "why": "", "refused": 0, "expires": 0}
    with near, far, protocol.memory("routes", b"[" * 100_000) as memory:
        protocol.send(far, body, [memory.fileno()])
        turned(alone, lambda: alone.pid not in (-1, pid))
    assert "it said nonsense" in capfd.readouterr().err


def test_of_two_that_dial_at_once_one_link_stays(hosts):
    near, far = hosts
    near.start(network_peer_listen=f"{HOST}:{PORT}")
    far.start(peers=[f"near {HOST}:{PORT} {NETWORKS['near']}"])
    near.is_up(), far.is_up()
    a = near.vassal("shop.ini", "@far")
    far.vassal("db.ini", "@near")

    def connections():
        words = ("ss", "-Htn", "state", "established", f"( sport = {PORT} or dport = {PORT} )")
        return len(near.space.run(*words).splitlines())

    wait_for(lambda: connections() == 1, "one connection", 20)
    near.knows("db.ini"), far.knows("shop.ini")
    assert wait_for(lambda: pings(a, far.address("db.ini")), "ping", 20)


def test_donjon_net_shows_peers(joined):
    near, _ = joined
    control = str(near.place / "control")
    words = [sys.executable, "-m", "donjon", "net", "--control", control]
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    head, row = shown.splitlines()[-2:]
    assert head.split()[:3] == ["PEER", "LINK", "VASSALS"]
    assert row.split()[:3] == ["far", "up", "0"]


def spec_of(place, *peers, **more):
    files = {f"network_peer_{end}": str(place / end) for end in ("cert", "key", "ca")}
    read = tuple(peer.peer(peer.parse_peer(one), DEFAULT) for one in peers)
    return EmperorSpec(network_peers=read, **{**files, **more})


@pytest.mark.parametrize(
    ("peers", "more", "why"),
    [
        (["far - 192.168.71.128/25"], {}, "of peer far cannot .*overlaps with 192.168.71.0/24 of"),
        (["far - 10.1.0.0/16", "far - 10.2.0.0/16"], {}, "there are two peers far"),
        (["far - 10.1.0.0/16", "a - 10.0.0.0/8"], {}, "overlaps with 10.1.0.0/16 of peer far"),
        (["far - 10.1.0.0/16"], {"network_peer_key": None}, "far needs network-peer-key"),
        (
            ["far - 10.1.0.0/16"],
            {"network_peer_ca": "/nowhere"},
            "cannot read network-peer-ca = /nowhere: No such file",
        ),
    ],
)
def test_what_cannot_be_is_said_at_the_start(tmp_path, authority, peers, more, why):
    authority.sign(tmp_path, "near")
    reactor = Reactor()
    try:
        with pytest.raises(OptionError, match=why):
            Neighbours(spec_of(tmp_path, *peers, **more), [ip_network("192.168.71.0/24")], reactor)
    finally:
        reactor.close()


def test_peers_need_addresses_of_our_own_and_who_listens_has_peers(hosts):
    for host, more, why in (
        (hosts[0], {"network_pool": []}, "network-peer needs network-pool"),
        (hosts[1], {"network_peers": []}, "network-peer-listen needs a network-peer"),
    ):
        host.start(wait=False, **more)
        assert host.emperor.process.wait(20) != 0
        assert why in host.emperor.log()
