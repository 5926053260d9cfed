"""Who enters a jail is in a group ``shell`` below the vassal's, on both versions."""

import json
import signal
import subprocess
from pathlib import Path

import hosting
import pytest

from donjon.jail import cgroup_layout, shellgroup

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.cgroup1, pytest.mark.cgroup2]
LAYOUT = cgroup_layout.look()
GOLD = "[plan:gold]\ncpu-weight = 400\nmemory-max = 256M\npids = 64\n"
APART = ("cpu", "memory", "pids")


def start(host, base, lines=""):
    host.start(f"plan-cgroup = {base}\nemperor-control = {host.place}/control\n{lines}{GOLD}")
    host.answer("shop")


def enter(host, *words):
    command = [*hosting.DONJON, "enter", "--control", str(host.place / "control"), "shop", *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def inside(caller):
    """The command, once it runs."""
    caller.stdin.write(b"here\n")
    caller.stdin.flush()
    assert caller.stdout.readline() == b"here\n"
    return hosting.descendants(caller.pid)[1]


def group(controller, base, name=""):
    place = LAYOUT.old[controller] if controller else LAYOUT.unified
    return Path(place, base, "shop.ini", name)


def pids(path):
    return list(map(int, (path / "cgroup.procs").read_text().split()))


def test_a_command_is_counted_apart_and_limited_with_the_vassal(host, base):
    host.vassal("shop", "uid = 33\ngid = 33\nplan = gold\n")
    start(host, base)
    with enter(host, "/bin/cat") as caller:
        newcomer = inside(caller)
        for controller in (*APART, ""):
            assert newcomer in pids(group(controller, base, "shell")), controller
            assert newcomer not in pids(group(controller, base)), controller
            assert host.master("shop") in pids(group(controller, base)), controller
        command = [*hosting.DONJON, "show", "--json", "--control", f"{host.place}/control", "shop"]
        shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        shell = shown["resources"]["shell"]
        assert shell["pids"] == 2, "envoy and command"
        assert 0 < shell["memory"] < shown["resources"]["use"]["memory"]
        (group("", base, "shell") / "cgroup.kill").write_text("1")
        assert caller.wait(15) == 128 + signal.SIGKILL
        assert hosting.alive(host.master("shop"))
    many = "i=0; while [ $i -lt 100 ]; do sleep 600 >/dev/null & i=$((i+1)); done; echo all"
    with enter(host, "/bin/sh", "-c", many) as caller:
        said, _ = caller.communicate(timeout=30)
        assert said == b"", "the ceiling of 64 processes is the whole vassal's"
    assert caller.returncode == 2, "sh cannot fork"


def test_groups_go_with_the_vassal_and_who_is_in_them(host, base):
    path = host.vassal("shop", "uid = 33\ngid = 33\nplan = gold\n")
    start(host, base)
    with enter(host, "/bin/cat") as caller:
        newcomer = inside(caller)
        path.unlink()
        hosting.wait_for(lambda: not hosting.alive(newcomer), "its end")
        caller.communicate(timeout=15)
    hosting.wait_for(lambda: not group("memory", base).exists(), "removal")
    assert "still in use" not in host.log()


def test_groups_go_with_a_killed_emperor(host, base):
    host.vassal("shop", "uid = 33\ngid = 33\nplan = gold\n")
    start(host, base)
    with enter(host, "/bin/cat") as caller:
        newcomer = inside(caller)
        host.emperor.send_signal(signal.SIGKILL)
        host.emperor.wait(10)
        hosting.wait_for(lambda: not hosting.alive(newcomer), "its end")
        caller.communicate(timeout=15)
    places = [group(controller, base) for controller in (*APART, "")]
    hosting.wait_for(lambda: not any(map(Path.exists, places)), "removal")


def test_a_vassal_of_which_somebody_is_a_guest_is_not_frozen(host, base):
    path = host.vassal("shop", "uid = 33\ngid = 33\nplan = gold\nidle-freeze = 1\n")
    text = path.read_text().replace(f"http-socket = {host.sock('shop')}", "http-socket = fd://0")
    path.write_text(text)
    (host.place / "vassals" / "shop.ini.sock").write_text(str(host.sock("shop")))
    start(host, base, "emperor-on-demand-extension = .sock\n")
    hosting.wait_for(lambda: host.row("shop")["frozen"], "frost")
    with enter(host, "/bin/cat") as caller:
        inside(caller)
        assert not host.row("shop")["frozen"]
        hosting.pause(1.5)
        assert not host.row("shop")["frozen"]
        caller.communicate(timeout=15)
    hosting.wait_for(lambda: host.row("shop")["frozen"], "frost")


def test_there_is_none_where_limits_hold_for_one_group_alone(base):
    place = Path(LAYOUT.old["blkio"], f"{base}-flat")
    place.mkdir()
    try:
        assert shellgroup.make(str(place)) is None
        assert not (place / "shell").exists()
    finally:
        place.rmdir()


def test_a_group_that_somebody_else_made_is_left_alone(host, base):
    host.vassal("shop", "uid = 33\ngid = 33\nplan = gold\n")
    start(host, base)
    strange = group("pids", base, "shell")
    strange.mkdir()
    try:
        with enter(host, "/bin/cat") as caller:
            newcomer = inside(caller)
            assert newcomer in pids(group("pids", base))
            assert newcomer in pids(group("memory", base, "shell"))
            caller.communicate(timeout=15)
    finally:
        strange.rmdir()
