"""The router process with real devices, in network namespaces of the test's own."""

import errno
import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from hosting import held
from netspaces import four
from patience import patient
from routed import ALLOW_ALL, routed

from donjon.tuntap import counters, isolation, launch
from donjon.tuntap._plane import CAUSES
from donjon.tuntap.client import Bandwidth
from donjon.tuntap.protocol import RouterError, RouterGoneError
from donjon.tuntap.rules import compile_rules, parse

pytestmark = pytest.mark.root


@pytest.fixture
def router():
    with routed() as one:
        yield one


def pings(space, address, *words):
    words = ("ping", "-c", "1", "-W", "2", *words, address)
    return (
        subprocess.run(space.command(*words), stdout=subprocess.DEVNULL, check=False).returncode
        == 0
    )


def send_as(space, source):
    """Send a datagram from any address, as a jail that may everything would."""
    space.run("ip", "address", "add", f"{source}/32", "dev", "lo", check=False)
    text = (
        "import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"s.bind(('{source}', 0)); s.sendto(b'x', ('{four(1)}', 9))"
    )
    space.run("/usr/bin/python3", "-c", text)


def drops(router, name, cause):
    return router.client.port_counters(name).drops[cause]


def awaited(look, wanted=True):
    end = time.monotonic() + patient(5)
    while (seen := look()) != wanted and time.monotonic() < end:
        select.select([], [], [], 0.01)
    return seen


def test_the_causes_of_drops_are_those_of_the_data_plane():
    assert len(counters.CAUSES) == CAUSES


def test_a_jail_reaches_the_host_by_both_families(router):
    jail = router.jail(2)
    assert pings(jail, four(1))
    assert pings(jail, "fd07::1")
    assert pings(router.host, four(2))
    seen = router.client.port_counters("2")
    assert seen.out_packets >= 3
    assert seen.in_packets >= 3
    assert seen.in_bytes >= 3 * 84


def test_two_jails_reach_each_other_where_rules_allow_it(router):
    one, two = router.jail(2), router.jail(3)
    assert pings(one, four(3))
    assert pings(two, "fd07::2")


def test_large_and_fragmented_packets_pass(router):
    jail = router.jail(2)
    assert pings(jail, four(1), "-s", "8000")
    assert pings(jail, "fd07::1", "-s", "8000")


@pytest.mark.parametrize("source", [four(9), four(1), "10.9.9.9"])
def test_a_source_that_is_not_the_jails_is_dropped_and_counted(router, source):
    jail = router.jail(2)
    before = router.client.port_counters("2").dropped
    send_as(jail, source)
    assert awaited(lambda: router.client.port_counters("2").dropped > before)
    assert router.client.port_counters("2").out_packets == 0


def test_another_jails_source_is_counted_as_claimed(router):
    jail, _ = router.jail(2), router.jail(3)
    send_as(jail, four(3))
    assert awaited(lambda: drops(router, "2", "claimed"), 1) == 1


def test_a_router_that_cannot_be_watched_is_ended(monkeypatch):
    pids = []

    def refuse(pid):
        pids.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(launch.syscalls, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        launch.start()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_an_address_has_one_owner(router):
    router.jail(2)
    space = router.space()
    with space.open_tun("uwsgi0") as tun:
        with pytest.raises(RouterError, match=r"address 10\.7\.0\.2 is another port's"):
            router.client.attach("other", tun.fileno(), ["10.7.0.9", four(2)])
        with pytest.raises(RouterError, match=r"address 10\.7\.0\.1 is another port's"):
            router.client.attach("other", tun.fileno(), [four(1)])
        router.client.attach("other", tun.fileno(), ["10.7.0.9"])  # what was refused left nothing


def test_what_is_no_tun_device_is_refused(router):
    near, far = socket.socketpair()
    with near, far, pytest.raises(RouterError, match="this is no tun device"):
        router.client.attach("other", near.fileno(), ["10.7.0.9"])


def test_a_detached_jail_is_cut_off_and_its_address_is_free(router):
    jail = router.jail(2)
    router.client.detach("2")
    assert not pings(jail, four(1), "-W", "1")
    again = router.jail(2)
    assert pings(again, four(1))


def test_a_jail_that_ends_harms_nobody(router):
    jail, other = router.jail(2), router.jail(3)
    jail.close()
    assert pings(other, four(1))
    router.client.detach("2")
    assert pings(other, four(1))


def test_without_rules_nothing_passes(router):
    jail = router.jail(2)
    router.reap(signal.SIGKILL)
    router.started = router.start()
    router.client._table = None  # as if none had ever been given
    router.client.resume(router.started.channel)
    assert not pings(jail, four(1), "-W", "1")
    assert drops(router, "2", "firewall-out") > 0
    router.client.rules(ALLOW_ALL)
    assert pings(jail, four(1))


def test_who_is_rejected_is_told(router):
    jail = router.jail(2)
    rules = "policy in accept\npolicy out accept\nout tcp dport 9 reject\nout udp dport 9 reject\n"
    router.client.rules(compile_rules(parse(rules, "rules")).table)
    text = (
        "import socket; s = socket.socket(socket.AF_INET, socket.{kind}); s.settimeout(3);"
        "s.connect(('10.7.0.1', 9)); s.send(b'x'); s.recv(1)"
    )
    for kind, error in (("SOCK_STREAM", "ConnectionRefusedError"), ("SOCK_DGRAM", "OSError")):
        said = jail.run("/usr/bin/python3", "-c", text.format(kind=kind), check=False)
        assert error in said
    assert drops(router, "2", "firewall-out") == 2


def test_a_flood_leaves_the_neighbour_its_packets(router):
    flooder, other = router.jail(2), router.jail(3)
    text = (
        "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "end = time.monotonic() + 3\n"
        "while time.monotonic() < end: s.sendto(b'x', ('10.7.0.1', 9))"
    )
    with subprocess.Popen(flooder.command("/usr/bin/python3", "-c", text)):
        said = other.run("ping", "-c", "100", "-i", "0.01", "-q", four(1))
    assert " 0% packet loss" in said
    assert router.client.port_counters("2").out_packets > 10_000


@pytest.mark.parametrize("table", [b"", ALLOW_ALL[:-1], ALLOW_ALL + b"\0" * 8, b"\xff" * 64])
def test_a_bad_table_changes_nothing(router, table):
    jail = router.jail(2)
    with pytest.raises(RouterError):
        router.client.rules(table)
    assert pings(jail, four(1))


def test_a_new_router_takes_over_and_counters_go_on(router):
    jail = router.jail(2)
    assert pings(jail, four(1))
    before = router.client.port_counters("2").out_packets
    start = time.monotonic()
    router.restart()
    assert pings(jail, four(1))
    assert time.monotonic() - start < 1
    assert router.client.port_counters("2").out_packets > before


def test_a_router_that_ended_is_said_to_be_gone(router):
    router.reap(signal.SIGKILL)
    with pytest.raises(RouterGoneError, match=r"does not answer to|ended before"):
        router.client.rules(ALLOW_ALL)
    router.started = router.start()
    router.client.resume(router.started.channel)


def test_rules_that_nobody_took_are_the_next_routers(router):
    jail = router.jail(2)
    router.reap(signal.SIGKILL)
    with pytest.raises(RouterGoneError):
        router.client.rules(compile_rules(parse("policy in drop\n", "rules")).table)
    router.started = router.start()
    router.client.resume(router.started.channel)
    assert not pings(jail, four(1), "-W", "1")
    assert drops(router, "2", "firewall-out") > 0


def test_what_a_router_refused_is_not_given_to_the_next(router):
    jail = router.jail(2)
    with pytest.raises(RouterError, match="port 0 is attached already"):
        router.client.device(router.device.fileno())
    router.restart()
    assert pings(jail, four(1))


def test_a_jail_without_its_device_costs_the_others_nothing_at_a_restart(router):
    jail, other = router.jail(2), router.jail(3)
    jail.run("ip", "link", "delete", "uwsgi0")
    router.reap(signal.SIGKILL)
    router.started = router.start()
    refused = router.client.resume(router.started.channel)
    assert {name: str(error) for name, error in refused.items()} == {
        "2": "this is no tun device: File descriptor in bad state"
    }
    assert pings(other, four(1))


def status(router):
    lines = Path(f"/proc/{router.started.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_the_router_has_no_privilege_left(router):
    seen = status(router)
    for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert seen[key] == "0" * 16
    assert seen["NoNewPrivs"] == "1"
    assert seen["Seccomp"] == "2"
    assert seen["Uid"].split() == [str(isolation.NOBODY)] * 4
    assert seen["Groups"].strip() == ""


def test_the_router_has_no_files_and_no_network(router):
    pid = router.started.pid
    assert os.listdir(Path("/proc", str(pid), "root")) == []
    for name in ("net", "mnt", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    files = [
        path for path in held(pid).values() if path.startswith("/") and path != "/dev/net/tun"
    ]
    assert set(files) <= {"/dev/null", "/if_inet6", os.readlink("/proc/self/fd/2")} | {
        path for path in files if path.endswith("/net/if_inet6") or "memfd:" in path
    }


def test_the_router_ends_with_its_supervisor():
    with routed() as one:
        one.client._channel.shutdown(socket.SHUT_RDWR)
        assert select.select([one.started.pidfd.fileno()], [], [], 5)[0]


def rate(server, client, *words):
    """Bytes per second that a run of iperf3 of five seconds received."""
    with subprocess.Popen(
        server.command("iperf3", "-s", "-1", "--forceflush"), stdout=subprocess.PIPE, text=True
    ) as one:
        while "listening" not in one.stdout.readline():
            pass
        answer = json.loads(client.run("iperf3", "-c", four(1), "-J", "-t", "5", *words))
        one.stdout.read()
    return answer["end"]["sum_received"]["bytes"] / answer["end"]["sum_received"]["seconds"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("-R",)])
def test_bandwidth_is_kept_within_five_percent(router, words):
    limit = 20_000_000
    jail = router.jail(2, Bandwidth(out=limit, into=limit))
    assert 0.95 * limit * 0.96 < rate(router.host, jail, *words) < 1.05 * limit
