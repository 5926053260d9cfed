"""Names of vassals, and everything else by way of upstream: real jails, a resolver, a name server outside."""

import contextlib
import ipaddress
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from empire import Emperor, alive, wait_for
from hosting import DONJON, Host
from nameserver import ADDRESS, BIG, addresses, ask, forget_askers, nameserver
from netlab import HOST, OUTSIDE, server
from netspaces import enter

pytestmark = pytest.mark.root

POOL = ["192.168.79.0/24", "fd00:79::/64"]
ROUTER, ROUTER6 = "192.168.79.1", "fd00:79::1"
OTHER_POOL, OTHER_ROUTER = "192.168.81.0/24", "192.168.81.1"


@pytest.fixture(autouse=True)
def nobody_asks_on():
    yield
    forget_askers()


@contextlib.contextmanager
def started(place, lab, *dns, prefix=(), **spec):
    """An Emperor whose vassals have names."""
    found = Emperor(place)
    found.lab = lab
    spec = {
        "network_pool": POOL,
        "network_nat": True,
        "network_ledger": str(place / "ledger"),
        **spec,
    }
    found.start(prefix=[*lab.host.command(), *prefix], network_dns=list(dns), **spec)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            assert found.end() == 0, found.log()


@pytest.fixture(scope="module")
def inner(tmp_path_factory, lab):
    """One that asks nobody: ``shop`` may reach ``Db`` and ``my.cache``."""
    with started(tmp_path_factory.mktemp("inner"), lab, "none") as found:
        vassal(found, "Db.ini")
        vassal(found, "my.cache.ini")
        vassal(found, "shop.ini", ["Db.ini", "my.cache.ini"])
        yield found


@pytest.fixture(scope="module")
def outer(tmp_path_factory, lab):
    """One that asks outside, after an address where nobody is; ``a`` and ``b`` do not know each other."""
    more = {"network_pool": [OTHER_POOL], "network_device": "donjon1"}
    with started(tmp_path_factory.mktemp("outer"), lab, "127.0.0.1", OUTSIDE, **more) as found:
        vassal(found, "a.ini")
        vassal(found, "b.ini")
        yield found


def net(emperor):
    return emperor.ask({"verb": "net"})


def vassal(emperor, name, allow=(), **words):
    text = "".join(f"network-allow = {one}\n" for one in allow)
    emperor.vassal(name, text, network="tap", **words)
    return emperor.started(name)["pid"]


def pid(emperor, name):
    return emperor.record(name)[-1]["pid"]


def home(emperor, name):
    """The addresses of a vassal."""
    (row,) = [one for one in net(emperor)["vassals"] if one["name"] == name]
    return [one.partition("/")[0] for one in row["addresses"]]


def test_a_vassal_is_told_the_names_of_those_it_may_reach_and_of_no_others(inner):
    shop, db = pid(inner, "shop.ini"), pid(inner, "Db.ini")
    four, six = home(inner, "Db.ini")
    for name in ("db", "db.internal", "DB.Internal"):
        assert addresses(shop, ROUTER, name) == [four]
        assert addresses(shop, ROUTER, name, "AAAA") == [six]
    assert addresses(shop, ROUTER6, "db") == [four]
    assert addresses(shop, ROUTER6, "db", how="tcp") == [four]
    assert addresses(shop, ROUTER, "my.cache.internal") == home(inner, "my.cache.ini")[:1]
    assert addresses(shop, ROUTER, "shop") == home(inner, "shop.ini")[:1]
    for stranger in ("shop", "shop.internal", "my.cache.internal", "nobody", "nobody.internal"):
        assert addresses(db, ROUTER, stranger) == "NXDOMAIN"
    whole = ask(shop, ROUTER, "db", payload=4096)
    assert (whole["ttl"], whole["edns"], whole["payload"]) == ([0], 0, 1232)
    assert {"QR", "AA", "RA"} <= set(whole["flags"])
    assert ask(shop, ROUTER, "db", "MX")["rcode"] == "NOERROR"
    assert addresses(shop, ROUTER, "localhost", "AAAA") == ["::1"]
    assert addresses(shop, ROUTER, "www.example.") == "SERVFAIL"


def backwards(address):
    return ipaddress.ip_address(address).reverse_pointer


def test_addresses_have_names_for_those_who_may_know_them(inner):
    shop, db = pid(inner, "shop.ini"), pid(inner, "Db.ini")
    for address in home(inner, "Db.ini"):
        assert addresses(shop, ROUTER, backwards(address), "PTR") == ["db.internal."]
    mine = backwards(home(inner, "shop.ini")[0])
    assert addresses(db, ROUTER, mine, "PTR") == "NXDOMAIN"


def test_names_follow_vassals_that_come_change_and_go(inner):
    guest = vassal(inner, "guest.ini")
    file = inner.vassals / "host.ini"
    vassal(inner, "host.ini", **{"network-address": "192.168.79.50"})
    assert addresses(guest, ROUTER, "host") == "NXDOMAIN"
    inner.vassal("guest.ini", "network-allow = host.ini\n", network="tap", marker="changed")
    wait_for(lambda: addresses(guest, ROUTER, "host") == ["192.168.79.50"], "the name")
    vassal(inner, "host.ini", **{"network-address": "192.168.79.60"})
    wait_for(lambda: addresses(guest, ROUTER, "host") == ["192.168.79.60"], "the other address")
    file.unlink()
    wait_for(lambda: addresses(guest, ROUTER, "host") == "NXDOMAIN", "the end of the name")
    assert len(inner.record("guest.ini")) == 1


def test_a_jail_reaches_port_53_of_the_router_and_nothing_else_of_it(inner):
    words = [*enter(pid(inner, "Db.ini")), sys.executable, "-c", CONNECT]
    places = [(ROUTER, "53"), (ROUTER, "22"), (HOST, "53")]
    found = [subprocess.run([*words, *place], check=False).returncode for place in places]
    assert found == [0, 1, 1]


CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5)
except OSError:
    sys.exit(1)
"""


def test_nobody_outside_is_answered(inner, lab):
    lab.outside.run("ip", "route", "replace", "192.168.79.0/24", "via", HOST)
    assert addresses(pid(inner, "Db.ini"), ROUTER, "db") == home(inner, "Db.ini")[:1]
    assert addresses(lab.world, ROUTER, "db", patience=0.5) == "Timeout"
    assert addresses(lab.home, ROUTER, "db", patience=0.5) in REFUSED


REFUSED = ("Timeout", "ConnectionRefusedError", "PermissionError")


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def test_the_resolver_has_no_user_no_capability_no_files_and_one_port(inner, lab):
    assert (
        addresses(pid(inner, "Db.ini"), ROUTER, "db") == home(inner, "Db.ini")[:1]
    )  # it is sealed
    resolver = net(inner)["resolver"]["pid"]
    seen, router = status(resolver), status(net(inner)["router"]["pid"])
    (uid,) = set(seen["Uid"].split())
    assert int(uid) >= 0x7FFE0000
    assert uid not in router["Uid"].split()
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {int(seen[name], 16) for name in sets} == {0}
    assert (seen["Seccomp"], seen["NoNewPrivs"]) == ("2", "1")
    assert list(Path(f"/proc/{resolver}", "root").iterdir()) == []
    with server(lab.world, OUTSIDE, 7000):
        words = [sys.executable, "-c", CONNECT, OUTSIDE, "7000"]
        become = ["setpriv", "--clear-groups", f"--reuid={uid}"]
        for prefix, code in (([], 0), (become, 1)):
            done = subprocess.run([*lab.host.command(), *prefix, *words], check=False)
            assert done.returncode == code  # to port 53 alone, and with network-dns = none nowhere


def test_a_resolver_that_dies_is_replaced_and_nothing_opens(inner):
    shop, db = pid(inner, "shop.ini"), pid(inner, "Db.ini")
    four = home(inner, "Db.ini")[:1]
    assert addresses(shop, ROUTER, "db") == four
    os.kill(net(inner)["resolver"]["pid"], signal.SIGKILL)
    assert addresses(shop, ROUTER, "db", patience=20) == four  # it waited for the next one
    assert addresses(db, ROUTER, "shop") == "NXDOMAIN"
    assert net(inner)["resolver"]["restarts"] == 1
    control = ["--control", str(inner.place / "control")]
    words = [sys.executable, "-m", "donjon", "net", "--openmetrics", *control]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "donjon_resolver_restarts_total 1.0\n" in told


def test_other_names_are_asked_upstream_each_time_anew(outer, lab):
    a = pid(outer, "a.ini")
    with nameserver(lab.world, OUTSIDE) as upstream:
        for _ in range(3):
            assert addresses(a, OTHER_ROUTER, "www.example.") == [ADDRESS]
        asked = [upstream.asked() for _ in range(3)]
    assert len({one["port"] for one in asked}) == 3
    assert len({one["id"] for one in asked}) == 3
    assert addresses(a, OTHER_ROUTER, "www.example.") == "SERVFAIL"  # nothing was kept


def test_what_no_datagram_takes_comes_by_tcp(outer, lab):
    a = pid(outer, "a.ini")
    with nameserver(lab.world, OUTSIDE):
        cut = ask(a, OTHER_ROUTER, "big.example.", "TXT")
        assert "TC" in cut["flags"]
        assert cut["found"] == []
        whole = ask(a, OTHER_ROUTER, "big.example.", "TXT", how="tcp")
        assert sorted(whole["found"]) == [f'"{one}"' for one in BIG]


def test_only_an_answer_to_the_question_is_taken_and_silence_is_asked_again(outer, lab):
    a = pid(outer, "a.ini")
    with nameserver(lab.world, OUTSIDE) as upstream:
        assert addresses(a, OTHER_ROUTER, "forged.example.") == [ADDRESS]
        assert upstream.asked()["name"] == "forged.example."
        assert addresses(a, OTHER_ROUTER, "two.example.") == [ADDRESS]
        first, second = upstream.asked(), upstream.asked()
        assert first["name"] == second["name"] == "two.example."
        assert first["port"] != second["port"]


FLOOD = """
import socket, sys, dns.message
wire = dns.message.make_query('silent.example.', 'A').to_wire()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 53))
print('begun', flush=True)
while True:
    s.send(wire)
"""


def test_one_jail_that_asks_without_end_leaves_room_for_others(outer, lab):
    words = [*enter(pid(outer, "a.ini")), sys.executable, "-c", FLOOD, OTHER_ROUTER]
    look = lambda: addresses(pid(outer, "b.ini"), OTHER_ROUTER, "www.example.")  # noqa: E731
    with (
        nameserver(lab.world, OUTSIDE),
        subprocess.Popen(words, stdout=subprocess.PIPE) as flooding,
    ):
        try:
            assert flooding.stdout.readline() == b"begun\n"
            wait_for(lambda: look() == [ADDRESS], "an answer", 30)
            assert flooding.poll() is None
        finally:
            flooding.kill()


def test_the_hosts_name_servers_are_asked_as_they_are_now(tmp_path, lab):
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\nnameserver 192.168.82.1\n")
    change = f'mount --bind {conf} /etc/resolv.conf && exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", change, "sh"]
    more = {"network_pool": ["192.168.82.0/24"], "network_device": "donjon2"}
    with started(tmp_path, lab, "host", prefix=prefix, **more) as emperor:
        a = vassal(emperor, "a.ini")
        assert addresses(a, "192.168.82.1", "www.example.") == "SERVFAIL"
        conf.write_text(f"nameserver {OUTSIDE}\n")
        with nameserver(lab.world, OUTSIDE):
            asks = lambda: addresses(a, "192.168.82.1", "www.example.")  # noqa: E731
            wait_for(lambda: asks() == [ADDRESS], "the other server", 30)
        resolver = net(emperor)["resolver"]["pid"]
        emperor.process.kill()
        emperor.process.wait()
        wait_for(lambda: not alive(resolver), "end of the resolver")


APP = """
import json, socket
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    found = {one[4][0] for one in socket.getaddrinfo("db", 80, proto=socket.IPPROTO_TCP)}
    return [json.dumps({"db": sorted(found), "conf": open("/etc/resolv.conf").read()}).encode()]
"""


def test_an_application_in_its_jail_finds_its_neighbour_by_name(lab):
    host = Host(Path(tempfile.mkdtemp(prefix="donjon-dns.")))
    try:
        (host.place / "app.py").write_text(APP)
        host.start(
            "network-pool = 192.168.83.0/24\nnetwork-device = donjon3\nnetwork-nat = true\nnetwork-dns = none\n"
            f"network-ledger = {host.place}/ledger\nemperor-control = {host.place}/control\n",
            program=[*lab.host.command(), *DONJON],
        )
        more = f"rootfs = host\nnetwork = tap\nbind = {host.place}/sockets\n"
        host.vassal("db", f"{more}network-address = 192.168.83.40\nuid = 20001\n")
        wait_for(lambda: host.master("db") > 0, "a vassal")
        host.vassal("shop", f"{more}network-allow = db.ini\nuid = 20002\n")
        said = host.answer("shop")
        assert said == {"db": ["192.168.83.40"], "conf": "nameserver 192.168.83.1\n"}
    finally:
        host.close()


def test_a_port_that_is_somebody_elses_is_said(tmp_path, lab):
    more = {"network_pool": ["192.168.84.0/24"], "network_device": "donjon4"}
    with (
        nameserver(lab.home, "192.168.84.1", free=True),
        started(tmp_path, lab, "none", **more) as emperor,
    ):
        reason = "network-dns: cannot answer on 192.168.84.1 port 53: Address already in use"
        emperor.said(f"no network for vassals: {reason}")
        emperor.vassal("a.ini", network="tap")
        emperor.said(f"vassal a.ini: {reason}")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"network_dns": ["none", "host"]},
            "network-dns = none and host contradict each other (none",
        ),
        ({"network_dns": ["host"], "network_pool": []}, "network-dns needs network-pool"),
    ],
)
def test_what_contradicts_itself_ends_the_start(tmp_path, lab, spec, reason):
    emperor = Emperor(tmp_path)
    spec = {"network_pool": POOL, "network_ledger": str(tmp_path / "ledger"), **spec}
    emperor.start(prefix=lab.host.command(), wait=False, **spec)
    assert emperor.process.wait(20) == 1
    assert reason in emperor.log()
