"""Streams of frames: an original peer and our router, our peer and an original router."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from netspaces import Space, four

pytestmark = [pytest.mark.root, pytest.mark.uwsgi]

DONJON = [sys.executable, "-m", "donjon"]
UWSGI = ["uwsgi", "--plugin", "tuntap"]
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


def begin(stack, space, program, place, *words):
    """Start an instance that serves nothing but what ``words`` say."""
    log = stack.enter_context((place / f"log{len(list(place.iterdir()))}").open("w+"))
    common = ["--master", "--socket", "127.0.0.1:0", "--uid", "65534", "--gid", "65534"]
    child = subprocess.Popen(
        space.command(*program, *common, *words), stdout=log, stderr=log, start_new_session=True
    )

    def end():
        child.send_signal(signal.SIGQUIT)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    stack.callback(end)
    return child, log


def begin_router(stack, space, program, place, address, *words):
    up = f"ip address add {HOST}/16 dev emperor0 && ip link set emperor0 up"
    return begin(
        stack,
        space,
        program,
        place,
        "--tuntap-router",
        f"emperor0 {address}",
        "--exec-as-root",
        up,
        *words,
    )


def begin_peer(stack, space, program, place, address, own=JAIL):
    up = f"ip address add {own}/16 dev uwsgi0 && ip link set uwsgi0 up"
    words = ("--jailed", "--tuntap-device", f"uwsgi0 {address}", "--exec-as-root", up)
    return begin(stack, space, program, place, *words)


def pings(space, address, *, within=8.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        words = space.command("ping", "-c", "1", "-W", "1", address)
        if (
            subprocess.run(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            ).returncode
            == 0
        ):
            return True
        select.select([], [], [], 0.05)
    return False


def address_of(kind, place):
    return str(place / "tuntap.socket") if kind == "unix" else "10.8.0.1:3017"


def there(space, place, kind):
    """Wait until the router listens."""
    end = time.monotonic() + 10
    look = (
        ("test", "-S", str(place / "tuntap.socket"))
        if kind == "unix"
        else ("sh", "-c", "ss -tln | grep -q 3017")
    )
    while time.monotonic() < end and subprocess.run(space.command(*look), check=False).returncode:
        select.select([], [], [], 0.05)


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
    _, log = begin_router(stack, host, router, tmp_path, address)
    there(host, tmp_path, kind)
    _, peer_log = begin_peer(stack, jail, peer, tmp_path, address)
    assert pings(jail, HOST), Path(log.name).read_text() + Path(peer_log.name).read_text()
    assert pings(host, JAIL)
    large = host.command("ping", "-c", "1", "-W", "2", "-s", "1400", JAIL)
    assert subprocess.run(large, stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_statistics_are_those_of_the_original_and_more(stack, spaces, tmp_path):
    host, jail = spaces
    address, stats = address_of("unix", tmp_path), str(tmp_path / "stats")
    begin_router(stack, host, DONJON, tmp_path, address, "--tuntap-router-stats", stats)
    there(host, tmp_path, "unix")
    begin_peer(stack, jail, UWSGI, tmp_path, address)
    assert pings(jail, HOST)
    with socket.socket(socket.AF_UNIX) as stream, stream.makefile() as answer:
        stream.connect(stats)
        seen = json.load(answer)
    (peer,) = seen["peers"]
    assert peer["addr"] == JAIL
    assert peer["addr_32"] == int.from_bytes(socket.inet_aton(JAIL), sys.byteorder)
    assert peer["tx"] >= 88
    assert peer["rx"] >= 88
    assert set(seen) >= {"version", "pid", "uid", "gid", "cwd", "device", "firewall"}


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
    first, _ = begin_router(stack, host, DONJON, tmp_path, address)
    there(host, tmp_path, "unix")
    begin_peer(stack, jail, DONJON, tmp_path, address)
    assert pings(jail, HOST)
    first.send_signal(signal.SIGQUIT)
    first.wait(10)
    begin_router(stack, host, DONJON, tmp_path, address)
    assert pings(jail, HOST)
