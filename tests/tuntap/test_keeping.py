"""Who keeps the router of ``tuntap-router``: other rules without a new router, and its own end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from empire import alive, children
from instances import DONJON, awaited, pings, reaches
from netspaces import Space, four

pytestmark = pytest.mark.root

HOST, JAIL = four(1), four(2)


class Instance:
    """A configuration that is run in a namespace, and what it says."""

    def __init__(self, place, space, name, text):
        self.place, self.name = place, name
        self.file = place / f"{name}.ini"
        self.write(text)
        with (place / f"{name}.log").open("w") as log:
            command = space.command(*DONJON, "--ini", str(self.file))
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def write(self, text):
        self.file.write_text(f"[uwsgi]\n{text}")

    def log(self):
        return (self.place / f"{self.name}.log").read_text()

    def said(self, text, count=1):
        assert awaited(lambda: self.log().count(text) >= count), (text, self.log())

    def end(self):
        self.process.send_signal(signal.SIGQUIT)
        try:
            assert self.process.wait(20) in (0, 1, -signal.SIGKILL), self.log()
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def joined(stack, tmp_path):
    """A router's instance that dropped root, and a jail that is joined to it."""
    host, jail = Space(), Space()
    stack.callback(jail.close)
    stack.callback(host.close)
    router = Instance(tmp_path, host, "router", configuration(tmp_path))
    stack.callback(router.end)
    assert awaited((tmp_path / "socket").is_socket), router.log()
    up = f"ip address add {JAIL}/16 dev uwsgi0 && ip link set uwsgi0 up"
    peer = f"""jailed = true
tuntap-device = uwsgi0 {tmp_path}/socket
exec-as-root = {up}
uid = 65534
gid = 65534
master = true
socket = 127.0.0.1:0
"""
    stack.callback(Instance(tmp_path, jail, "peer", peer).end)
    assert pings(jail, HOST), router.log()
    return router, jail


def configuration(place, *rules, server=True):
    serves = "uid = 65534\ngid = 65534\nmaster = true\nsocket = 127.0.0.1:0\n"
    text = "".join(f"tuntap-router-firewall-out = {rule}\n" for rule in rules)
    return f"""{text}tuntap-router = emperor0 {place}/socket {place}/stats
exec-as-root = ip address add {HOST}/16 dev emperor0 && ip link set emperor0 up
{serves if server else f"emperor = {place}/vassals"}
"""


def stats(place):
    with socket.socket(socket.AF_UNIX) as stream, stream.makefile() as answer:
        stream.connect(str(place / "stats"))
        return json.load(answer)


def keeper_of(place):
    """The process above the router."""
    words = Path("/proc", str(stats(place)["pid"]), "stat").read_text().rpartition(")")[2]
    return int(words.split()[1])


def test_other_rules_are_in_force_after_a_reload_and_wrong_ones_change_nothing(joined, tmp_path):
    router, jail = joined
    before = stats(tmp_path)["pid"]
    router.write(configuration(tmp_path, "deny"))
    router.process.send_signal(signal.SIGHUP)
    router.said("the rules of the tuntap router are read again")
    assert not reaches(jail, HOST)
    router.write(configuration(tmp_path, "allow", "nonsense 10.0.0.0/8 0.0.0.0"))
    router.process.send_signal(signal.SIGHUP)
    router.said("the rules of the tuntap router stay as they were")
    assert f"{router.file}:3: tuntap-router-firewall-out" in router.log()
    assert not reaches(jail, HOST)
    router.write(configuration(tmp_path, "allow"))
    router.process.send_signal(signal.SIGHUP)
    assert pings(jail, HOST), router.log()
    assert stats(tmp_path)["pid"] == before  # one router all the time


def test_a_keeper_that_is_killed_is_replaced_with_the_rules_it_had_read(joined, tmp_path):
    router, jail = joined
    router.write(configuration(tmp_path, f"allow 0.0.0.0 {HOST}", "deny"))
    router.process.send_signal(signal.SIGHUP)
    router.said("the rules of the tuntap router are read again")
    assert pings(jail, HOST)
    for count in (1, 2):
        keeper, first = keeper_of(tmp_path), stats(tmp_path)["pid"]
        os.kill(keeper, signal.SIGKILL)
        router.said("the keeper of the tuntap router died, its deputy goes on", count)
        assert pings(jail, HOST), router.log()
        assert awaited(lambda dead=first: not alive(dead))
        assert len(stats(tmp_path)["rules"]) == 4  # two, and the policies
        assert stats(tmp_path)["device"]["in_packets"] > 0
    assert router.process.poll() is None


def test_a_deputy_that_is_killed_is_replaced(joined, tmp_path):
    router, jail = joined
    keeper, known = keeper_of(tmp_path), stats(tmp_path)["pid"]
    (deputy,) = set(children(keeper)) - {known}
    os.kill(deputy, signal.SIGKILL)
    (next_one,) = awaited(lambda: set(children(keeper)) - {known, deputy})
    assert stats(tmp_path)["pid"] == known
    os.kill(keeper, signal.SIGKILL)
    assert pings(jail, HOST), router.log()
    assert keeper_of(tmp_path) == next_one


def test_keeper_deputy_and_router_end_with_the_instance(joined, tmp_path):
    router, _ = joined
    keeper = keeper_of(tmp_path)
    theirs = [keeper, *children(keeper)]
    assert len(theirs) == 3
    workers = set(children(router.process.pid)) - {keeper}
    router.process.kill()
    assert awaited(lambda: not any(alive(one) for one in theirs))
    for one in workers:  # they live on, as the original's without no-orphans
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def test_an_emperors_reload_reads_the_rules_of_its_router_again(stack, tmp_path):
    host = Space()
    stack.callback(host.close)
    (tmp_path / "vassals").mkdir()
    router = Instance(tmp_path, host, "router", configuration(tmp_path, server=False))
    stack.callback(router.end)
    assert awaited(lambda: len(stats_or_none(tmp_path)["rules"]) == 2), router.log()
    router.write(configuration(tmp_path, "deny", server=False))
    router.process.send_signal(signal.SIGHUP)
    assert awaited(lambda: len(stats(tmp_path)["rules"]) == 3), router.log()


def stats_or_none(place):
    try:
        return stats(place)
    except OSError:
        return {"rules": ()}
