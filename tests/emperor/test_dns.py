"""Names of vassals, and everything else by way of upstream: real jails, a resolver, a name server outside."""

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
from netlab import HOST, OUTSIDE
from netspaces import enter

pytestmark = pytest.mark.root

POOL = ["192.168.79.0/24", "fd00:79::/64"]
ROUTER, ROUTER6 = "192.168.79.1", "fd00:79::1"


@pytest.fixture
def emperor(tmp_path, lab):
    found = Emperor(tmp_path)
    found.lab = lab
    yield found
    forget_askers()
    if found.process is not None and found.process.poll() is None:
        assert found.end() == 0, found.log()


def start(emperor, *dns, **spec):
    return emperor.start(
        prefix=emperor.lab.host.command(),
        network_pool=POOL,
        network_nat=True,
        network_ledger=str(emperor.place / "ledger"),
        network_dns=list(dns or [OUTSIDE]),
        **spec,
    )


def net(emperor):
    return emperor.ask({"verb": "net"})


def vassal(emperor, name, allow=(), **words):
    text = "".join(f"network-allow = {one}\n" for one in allow)
    emperor.vassal(name, text, network="tap", **words)
    return emperor.started(name)["pid"]


def home(emperor, name):
    """The addresses of a vassal."""
    (row,) = [one for one in net(emperor)["vassals"] if one["name"] == name]
    return [one.partition("/")[0] for one in row["addresses"]]


def test_a_vassal_is_told_the_names_of_those_it_may_reach_and_of_no_others(emperor):
    start(emperor, "none")
    db = vassal(emperor, "Db.ini")
    vassal(emperor, "my.cache.ini")
    shop = vassal(emperor, "shop.ini", ["Db.ini", "my.cache.ini"])
    four, six = home(emperor, "Db.ini")
    for name in ("db", "db.internal", "DB.Internal"):
        assert addresses(shop, ROUTER, name) == [four]
        assert addresses(shop, ROUTER, name, "AAAA") == [six]
    assert addresses(shop, ROUTER6, "db") == [four]
    assert addresses(shop, ROUTER, "my.cache.internal") == home(emperor, "my.cache.ini")[:1]
    assert addresses(shop, ROUTER, "shop") == home(emperor, "shop.ini")[:1]
    for stranger in ("shop", "shop.internal", "my.cache.internal", "nobody", "nobody.internal"):
        assert addresses(db, ROUTER, stranger) == "NXDOMAIN"
    whole = ask(shop, ROUTER, "db", payload=4096)
    assert (whole["ttl"], whole["edns"], whole["payload"]) == ([0], 0, 1232)
    assert {"QR", "AA", "RA"} <= set(whole["flags"])
    assert ask(shop, ROUTER, "db", "MX")["rcode"] == "NOERROR"
    assert addresses(shop, ROUTER, "localhost", "AAAA") == ["::1"]


def test_addresses_have_names_for_those_who_may_know_them(emperor):
    start(emperor, "none")
    db = vassal(emperor, "db.ini")
    shop = vassal(emperor, "shop.ini", ["db.ini"])
    four, six = home(emperor, "db.ini")
    back = ".".join(reversed(four.split("."))) + ".in-addr.arpa"
    assert addresses(shop, ROUTER, back, "PTR") == ["db.internal."]
    nibbles = "".join(
        part.zfill(4) for part in ("fd00", "79", "", "", "", "", "", six.rpartition(":")[2])
    )
    assert addresses(shop, ROUTER, ".".join(reversed(nibbles)) + ".ip6.arpa", "PTR") == [
        "db.internal."
    ]
    mine = ".".join(reversed(home(emperor, "shop.ini")[0].split("."))) + ".in-addr.arpa"
    assert addresses(db, ROUTER, mine, "PTR") == "NXDOMAIN"


def test_names_follow_vassals_that_come_change_and_go(emperor):
    start(emperor, "none")
    db = emperor.vassals / "db.ini"
    vassal(emperor, "db.ini", **{"network-address": "192.168.79.50"})
    shop = vassal(emperor, "shop.ini")
    assert addresses(shop, ROUTER, "db") == "NXDOMAIN"
    emperor.vassal("shop.ini", "network-allow = db.ini\n", network="tap", marker="changed")
    wait_for(lambda: addresses(shop, ROUTER, "db") == ["192.168.79.50"], "the name")
    vassal(emperor, "db.ini", **{"network-address": "192.168.79.60"})
    wait_for(lambda: addresses(shop, ROUTER, "db") == ["192.168.79.60"], "the other address")
    db.unlink()
    wait_for(lambda: addresses(shop, ROUTER, "db") == "NXDOMAIN", "the end of the name")
    assert len(emperor.record("shop.ini")) == 1


def test_other_names_are_asked_upstream_each_time_anew(emperor):
    start(emperor)
    a = vassal(emperor, "a.ini")
    with nameserver(emperor.lab.world, OUTSIDE) as upstream:
        for _ in range(3):
            assert addresses(a, ROUTER, "www.example.") == [ADDRESS]
        asked = [upstream.asked() for _ in range(3)]
    assert len({one["port"] for one in asked}) == 3
    assert len({one["id"] for one in asked}) == 3
    assert addresses(a, ROUTER, "www.example.") == "SERVFAIL"  # nothing was kept


def test_what_no_datagram_takes_comes_by_tcp(emperor):
    start(emperor)
    a = vassal(emperor, "a.ini")
    with nameserver(emperor.lab.world, OUTSIDE):
        cut = ask(a, ROUTER, "big.example.", "TXT")
        assert "TC" in cut["flags"]
        assert cut["found"] == []
        whole = ask(a, ROUTER, "big.example.", "TXT", how="tcp")
        assert sorted(whole["found"]) == [f'"{one}"' for one in BIG]
        assert addresses(a, ROUTER6, "www.example.", how="tcp") == [ADDRESS]


def test_an_answer_to_another_question_or_with_another_id_is_none(emperor):
    start(emperor)
    a = vassal(emperor, "a.ini")
    with nameserver(emperor.lab.world, OUTSIDE):
        assert addresses(a, ROUTER, "forged.example.") == [ADDRESS]


def test_who_does_not_answer_is_asked_again_and_then_another_one(emperor):
    start(emperor, "127.0.0.1", f"{OUTSIDE}:5353")
    a = vassal(emperor, "a.ini")
    with nameserver(emperor.lab.world, OUTSIDE, 5353) as upstream:
        assert addresses(a, ROUTER, "www.example.") == [ADDRESS]
        assert upstream.asked()["name"] == "www.example."
        assert addresses(a, ROUTER, "two.example.") == [ADDRESS]
        first, second = upstream.asked(), upstream.asked()
        assert first["name"] == second["name"]
        assert first["port"] != second["port"]


def test_the_hosts_name_servers_are_asked_as_they_are_now(emperor, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\nnameserver 192.168.79.1\n")
    change = f'mount --bind {conf} /etc/resolv.conf && exec "$@"'
    prefix = [*emperor.lab.host.command(), "unshare", "-m", "sh", "-c", change, "sh"]
    emperor.start(
        prefix=prefix,
        network_pool=POOL[:1],
        network_nat=True,
        network_ledger=str(tmp_path / "ledger"),
        network_dns=["host"],
    )
    a = vassal(emperor, "a.ini")
    assert addresses(a, ROUTER, "www.example.") == "SERVFAIL"
    conf.write_text(f"nameserver {OUTSIDE}\n")
    with nameserver(emperor.lab.world, OUTSIDE):
        wait_for(lambda: addresses(a, ROUTER, "www.example.") == [ADDRESS], "the other server", 30)


def test_a_jail_reaches_port_53_of_the_router_and_nothing_else_of_it(emperor):
    start(emperor, "none")
    a = vassal(emperor, "a.ini")
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5)"

    def try_(host, port):
        words = [*enter(a), sys.executable, "-c", connect, host, str(port)]
        return subprocess.run(words, check=False, capture_output=True).returncode

    assert try_(ROUTER, 53) == 0
    assert try_(ROUTER, 22) != 0
    assert try_(HOST, 53) != 0


def test_nobody_outside_is_answered(emperor):
    lab = emperor.lab
    start(emperor, "none")
    a = vassal(emperor, "a.ini")
    assert addresses(a, ROUTER, "a") == home(emperor, "a.ini")[:1]
    lab.outside.run("ip", "route", "replace", "192.168.79.0/24", "via", HOST)
    assert addresses(lab.world, ROUTER, "a", patience=0.5) == "Timeout"
    assert addresses(lab.home, ROUTER, "a", patience=0.5) in (
        "Timeout",
        "ConnectionRefusedError",
        "PermissionError",
    )


def test_a_resolver_that_dies_is_replaced_and_nothing_opens(emperor):
    start(emperor, "none")
    db = vassal(emperor, "db.ini")
    shop = vassal(emperor, "shop.ini", ["db.ini"])
    four = home(emperor, "db.ini")[:1]
    assert addresses(shop, ROUTER, "db") == four
    os.kill(net(emperor)["resolver"]["pid"], signal.SIGKILL)
    assert addresses(shop, ROUTER, "db", patience=20) == four  # it waited for the next one
    assert addresses(db, ROUTER, "shop") == "NXDOMAIN"
    assert net(emperor)["resolver"]["restarts"] == 1
    vassal(emperor, "late.ini", ["db.ini"])
    assert addresses(emperor.record("late.ini")[0]["pid"], ROUTER, "db") == four


def test_the_resolver_has_no_user_no_files_and_ends_with_the_emperor(emperor):
    start(emperor, "none")
    a = vassal(emperor, "a.ini")
    assert addresses(a, ROUTER, "a") == home(emperor, "a.ini")[:1]  # it is sealed now
    pid = net(emperor)["resolver"]["pid"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    router = net(emperor)["router"]["pid"]
    assert set(status["Uid"].split()) == {str(0x7FFFFFF1)}
    assert set(status["Uid"].split()) != set(
        Path(f"/proc/{router}/status").read_text().split("Uid:\t")[1].split("\n")[0].split()
    )
    assert {
        int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    } == {0}
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    assert list(Path(f"/proc/{pid}", "root").iterdir()) == []
    emperor.process.kill()
    emperor.process.wait()
    wait_for(lambda: not alive(pid), "end of the resolver")


def test_one_jail_that_asks_without_end_leaves_room_for_others(emperor):
    start(emperor)
    a, b = vassal(emperor, "a.ini"), vassal(emperor, "b.ini")
    flood = (
        "import socket, sys, dns.message\n"
        "wire = dns.message.make_query('silent.example.', 'A').to_wire()\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 53))\n"
        "print('begun', flush=True)\n"
        "while True: s.send(wire)\n"
    )
    words = [*enter(a), sys.executable, "-c", flood, ROUTER]
    with (
        nameserver(emperor.lab.world, OUTSIDE),
        subprocess.Popen(words, stdout=subprocess.PIPE) as flooding,
    ):
        try:
            assert flooding.stdout.readline() == b"begun\n"
            wait_for(lambda: addresses(b, ROUTER, "www.example.") == [ADDRESS], "an answer", 30)
            assert flooding.poll() is None
        finally:
            flooding.kill()


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
            "network-pool = 192.168.79.0/24\nnetwork-nat = true\nnetwork-dns = none\n"
            f"network-ledger = {host.place}/ledger\nemperor-control = {host.place}/control\n",
            program=[*lab.host.command(), *DONJON],
        )
        more = f"rootfs = host\nnetwork = tap\nbind = {host.place}/sockets\n"
        host.vassal("db", f"{more}network-address = 192.168.79.40\nuid = 20001\n")
        wait_for(lambda: host.master("db") > 0, "a vassal")
        host.vassal("shop", f"{more}network-allow = db.ini\nuid = 20002\n")
        said = host.answer("shop")
        assert said == {"db": ["192.168.79.40"], "conf": f"nameserver {ROUTER}\n"}
    finally:
        host.close()


def test_a_port_that_is_somebody_elses_is_said(emperor):
    with nameserver(emperor.lab.home, "0.0.0.0"):
        start(emperor, "none")
        emperor.said(f"network-dns: cannot answer on {ROUTER} port 53: Address already in use")
        emperor.vassal("a.ini", network="tap")
        emperor.said("vassal a.ini: network-dns: cannot answer")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"network_dns": ["none", "host"]},
            "network-dns = none and host contradict each other (none is",
        ),
        ({"network_dns": ["host"], "network_pool": []}, "network-dns needs network-pool"),
    ],
)
def test_what_contradicts_itself_ends_the_start(emperor, spec, reason):
    spec = {"network_pool": POOL, "network_ledger": str(emperor.place / "ledger"), **spec}
    emperor.start(prefix=emperor.lab.host.command(), wait=False, **spec)
    assert emperor.process.wait(20) == 1
    assert reason in emperor.log()
