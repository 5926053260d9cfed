"""Idle tiers: an idle vassal on demand stands still until somebody connects."""

import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import hosting
import pytest
from patience import patient

from donjon.emperor.frost import Frost
from donjon.emperor.protocol import ToVassal
from donjon.emperor.vassal import State
from donjon.jail import cgroup_layout

pytestmark = [pytest.mark.root, pytest.mark.slow]
LAYOUT = cgroup_layout.look()
ONLY_V1 = ["unshare", "-m", "--propagation", "private", "sh", "-c",
           f'umount {LAYOUT.unified}; exec "$@"', "sh", *hosting.DONJON]  # fmt: skip
PROGRAMS = {"v2": hosting.DONJON, "v1": ONLY_V1}
KINDS = [pytest.param("v2"), pytest.param("v1", marks=pytest.mark.cgroup1)]
pytestmark += [pytest.mark.cgroup2]


def start(host, base, program=None, lines=""):
    """Start an Emperor over shop.ini, whose socket it holds."""
    (host.place / "vassals" / "shop.ini.sock").write_text(str(host.sock("shop")))
    host.start(
        f"plan-cgroup = {base}\nemperor-control = {host.place}/control\n"
        f"emperor-on-demand-extension = .sock\n{lines}",
        program,
    )
    hosting.wait_for(lambda: host.row("shop")["state"] == "on-demand", "sleep")


def vassal(host, text=""):
    path = host.vassal("shop", text)
    lines = path.read_text().replace(f"http-socket = {host.sock('shop')}", "http-socket = fd://0")
    path.write_text(lines)
    return path


def frozen(host, seconds=15):
    hosting.wait_for(lambda: host.row("shop")["frozen"], "frost", seconds)
    return host.row("shop")["pid"]


def processor_time(pids):
    return [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in pids]


def test_who_asks_while_it_is_read_again_goes_on_at_once():
    answers = []
    keeper = SimpleNamespace(tell=lambda vassal, word: answers.append((vassal.name, word)))
    vassal = SimpleNamespace(name="shop", state=State.REREADING, doorbell=object())
    frost = Frost(SimpleNamespace(keeper=keeper))
    frost.asked(vassal)
    assert answers == [("shop", ToVassal.GO_ON)]
    assert not frost.is_frozen(vassal)


@pytest.mark.parametrize("kind", KINDS)
def test_an_idle_vassal_is_frozen_and_thawed_by_a_connection(host, base, kind):
    place = "unified" if kind == "v2" else "freezer"
    vassal(host, "idle-freeze = 1\n")
    start(host, base, PROGRAMS[kind])
    first = host.answer("shop")
    master = frozen(host)
    group = Path(LAYOUT.unified if place == "unified" else LAYOUT.old[place], base, "shop.ini")
    if place == "unified":
        hosting.wait_for(lambda: "frozen 1" in (group / "cgroup.events").read_text(), "stillness")
    else:
        hosting.wait_for(lambda: "FROZEN" in (group / "freezer.state").read_text(), "stillness")
    family = [master, *hosting.descendants(master)]
    before = processor_time(family)
    hosting.pause(1.3)
    assert processor_time(family) == before
    again = hosting.ask(host.sock("shop"))
    assert again["pid"] == first["pid"], "the same worker answers"
    assert host.row("shop")["pid"] == master
    assert frozen(host) == master, "it is idle again"
    assert host.row("shop")["freezes"] == 2


def test_a_client_who_holds_a_connection_keeps_it_awake_and_is_served(host, base):
    vassal(host, "idle-freeze = 1\nsocket-timeout = 30\n")
    start(host, base)
    host.answer("shop")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(patient(10))
        client.connect(str(host.sock("shop")))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        hosting.pause(2.5)
        assert not host.row("shop")["frozen"]
        client.sendall(b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    frozen(host, 25)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_vassal_can_be_stopped_at_once(host, base, kind):
    path = vassal(host, "idle-freeze = 1\n")
    start(host, base, PROGRAMS[kind])
    host.answer("shop")
    master = frozen(host)
    path.unlink()
    hosting.wait_for(lambda: not hosting.alive(master), "end of the vassal", 5)
    assert "killing vassal" not in host.log()


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_emperor_takes_its_frozen_vassals_along(host, base, kind):
    vassal(host, "idle-freeze = 1\n")
    start(host, base, PROGRAMS[kind])
    host.answer("shop")
    master = frozen(host)
    family = [master, *hosting.descendants(master)]
    below = hosting.children(host.pid)
    host.emperor.send_signal(signal.SIGKILL)
    host.emperor.wait(patient(10))
    hosting.wait_for(lambda: not any(map(hosting.alive, [*family, *below])), "end of all", 8)


def test_a_frozen_vassal_is_not_missed_for_its_heartbeat_and_reloads(host, base):
    path = vassal(host, "idle-freeze = 1\nheartbeat = 1\n")
    start(host, base, lines="emperor-required-heartbeat = 2\n")
    host.answer("shop")
    master = frozen(host)
    hosting.pause(3)
    assert (host.row("shop")["frozen"], host.row("shop")["pid"]) == (1, master)
    os.utime(path)
    hosting.wait_for(
        lambda: host.row("shop")["respawns"] == 1 and host.row("shop")["accepting"], "a reload"
    )
    assert host.row("shop")["pid"] == master


def test_a_vassal_with_a_socket_of_its_own_is_never_frozen(host, base):
    vassal(host, f"idle-freeze = 1\nhttp-socket = {host.place}/sockets/own\n")
    start(host, base)
    host.answer("shop")
    hosting.wait_for(
        lambda: (
            "idle-freeze does nothing: the Emperor does not hold all of the sockets" in host.log()
        ),
        "the reason",
    )
    assert not host.row("shop")["frozen"]
