"""Faults of vassals: told by the kernel, counted, shown, told to hooks; neighbours live on."""

import json
import subprocess
from pathlib import Path

import hosting
import pytest
from planned import get, start, well

from donjon.jail import cgroup_layout

pytestmark = [pytest.mark.root, pytest.mark.cgroup1, pytest.mark.slow]
LAYOUT = cgroup_layout.look()
APP = """
import os, signal, threading, time
kept = []
def application(environ, start_response):
    what = environ["PATH_INFO"]
    text = "well"
    if what == "/eat":
        kept.append(bytearray(b"x") * (200 << 20))
    elif what == "/fork":
        refused = 0
        pids = []
        for _ in range(40):
            try:
                pid = os.fork()
            except BlockingIOError:
                refused += 1
                continue
            if pid == 0:
                signal.pause()
            pids.append(pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        text = str(refused)
    elif what == "/spin":
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pass
    elif what == "/crowd":
        for _ in range(3):
            if os.fork() == 0:
                os.sched_setaffinity(0, {0})
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    pass
                os._exit(0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


@pytest.fixture
def host(host):
    (host.place / "app.py").write_text(APP)
    return host


def faults(host, name):
    return host.row(name)["faults"]


def show(host, name, *words):
    done = subprocess.run(
        [*hosting.DONJON, "show", name, "--control", str(host.place / "control"), *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_oom_of_one_vassal_is_counted_and_told_and_takes_no_neighbour(host, base):
    for name in ("greedy", "modest"):
        host.vassal(name, "")
    told = host.place / "told"
    hook = (
        f'hook-fault = exec:echo "$UWSGI_VASSAL_CONFIG $DONJON_FAULT $DONJON_FAULT_COUNT '
        f'$DONJON_FAULT_PROCESSES" >> {told}\n'
    )
    start(host, base, "memory-max = 96M\nmemory-swap = 0\n", hook)
    for name in ("greedy", "modest"):
        well(host, name)
    masters = {name: host.master(name) for name in ("greedy", "modest")}
    neighbours = hosting.descendants(masters["modest"])
    assert get(host, "greedy", "/eat") == ""
    hosting.wait_for(lambda: faults(host, "greedy").get("oom"), "the count")
    assert faults(host, "greedy")["oom"] == 1
    assert faults(host, "modest") == {}
    well(host, "greedy")
    assert host.master("greedy") == masters["greedy"]
    assert hosting.descendants(masters["modest"]) == neighbours
    well(host, "modest")
    line = "vassal greedy.ini: out of memory, processes killed: 1"
    assert line in host.log()
    words = hosting.wait_for(lambda: told.read_text().split(), "the hook")
    assert words[:3] == ["greedy.ini", "oom", "1"]
    assert str(masters["greedy"]) in [word.partition(":")[0] for word in words[3:]]
    shown = json.loads(show(host, "greedy", "--json"))["resources"]
    assert shown["plan"] == "all"
    oom = next(one for one in shown["recent"] if one["kind"] == "oom")
    assert masters["greedy"] in [one["pid"] for one in oom["processes"]]
    assert "out of memory, processes killed: 1; there were" in show(host, "greedy")


def test_refused_forks_are_counted_by_whoever_looks(host, base):
    host.vassal("shop", "")
    start(host, base, "pids = 12\n")
    well(host, "shop")
    refused = int(get(host, "shop", "/fork"))
    assert refused >= 28
    assert json.loads(show(host, "shop", "--json"))["resources"]["faults"] == {"pids": refused}
    assert f"vassal shop.ini: no more processes allowed, refused: {refused}" in host.log()


def test_throttling_is_noticed_without_anybody_asking(host, base):
    host.vassal("shop", "")
    start(host, base, "cpu-max = 10%\n")
    well(host, "shop")
    get(host, "shop", "/spin")
    hosting.wait_for(lambda: faults(host, "shop").get("throttled", 0) > 3, "the count")


@pytest.mark.cgroup2
def test_pressure_is_told_by_the_kernel(host, base):
    host.vassal("shop", "processes = 1\n")
    start(host, base, "pressure = 5%\n")
    well(host, "shop")
    get(host, "shop", "/crowd")
    hosting.wait_for(lambda: faults(host, "shop").get("pressure-cpu"), "the fault")
    assert "vassal shop.ini: work waited 5% of the time for cpu" in host.log()


@pytest.mark.cgroup2
def test_pressure_is_watched_from_the_moment_a_plan_asks_for_it(host, base):
    host.vassal("shop", "processes = 1\n")
    start(host, base, "pids = 20\n")
    well(host, "shop")
    emperor = host.place / "emperor.ini"
    text = emperor.read_text()

    def watched():
        return sum(".pressure" in name for name in hosting.held(host.emperor.pid).values())

    assert watched() == 0
    hosting.replace_text(emperor, text.replace("pids = 20\n", "pids = 20\npressure = 5%\n"))
    hosting.wait_for(lambda: watched() == 3, "the triggers")
    hosting.replace_text(emperor, text)
    hosting.wait_for(lambda: watched() == 0, "no trigger")


def test_what_a_removed_vassal_left_running_is_killed_with_its_groups(host, base):
    stray = host.place / "stray"
    path = host.vassal("shop", f"exec-as-user = sh -c 'setsid sleep 1000 & echo $! > {stray}'\n")
    start(host, base, "pids = 20\n")
    well(host, "shop")
    pid = int(stray.read_text())
    assert hosting.alive(pid)
    path.unlink()
    hosting.wait_for(lambda: not hosting.alive(pid), "end of what it left")
    hosting.wait_for(
        lambda: not Path(LAYOUT.old["pids"], base, "shop.ini").exists(), "end of its group"
    )
