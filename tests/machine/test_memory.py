"""The host runs out of memory: the Emperor goes on, says what happened, and has all back afterwards."""

import mmap
import os
import signal
from pathlib import Path

import hosting
import pytest
from notes import note
from planned import get, start, well

from donjon.jail import cgroup_layout

pytestmark = [pytest.mark.root, pytest.mark.machine, pytest.mark.slow, pytest.mark.timeout(200)]
COUNTED = bool({"memory"} & cgroup_layout.look().controllers)
APP = """
kept = []
def application(environ, start_response):
    if environ["PATH_INFO"] == "/eat":
        while True:
            kept.append(bytearray(b"x") * (4 << 20))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""
MODEST = ("one", "two", "three")


@pytest.fixture
def host(host):
    (host.place / "app.py").write_text(APP)
    return host


def killed():
    """How many processes the kernel killed for want of memory since it started."""
    rows = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(rows["oom_kill"])


def test_a_vassal_takes_all_memory_of_the_host_and_only_it_is_ended(host, base):
    for name in ("greedy", *MODEST):
        host.vassal(name, "")
    start(host, base, "memory-max = 64G\n")
    for name in ("greedy", *MODEST):
        well(host, name, 30)
    neighbours = {name: hosting.descendants(host.row(name)["pid"]) for name in MODEST}
    emperor, before = host.emperor.pid, killed()
    assert get(host, "greedy", "/eat", 60) == ""
    assert killed() > before
    well(host, "greedy", 30)
    assert host.emperor.poll() is None
    assert {name: hosting.descendants(host.row(name)["pid"]) for name in MODEST} == neighbours
    assert host.pid == emperor
    if COUNTED:
        hosting.wait_for(lambda: host.row("greedy")["faults"].get("oom"), "the count", 30)
        assert "vassal greedy.ini: out of memory, processes killed: " in host.log()
    assert all(host.row(name)["faults"].get("oom") is None for name in MODEST)


def take_everything(times):
    """Be a process that the kernel does not kill, and take memory until it killed so many others."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        first, taken = killed(), []
        while killed() < first + times:
            piece = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for at in range(0, 1 << 20, 4096):
                piece[at] = 1
            taken.append(piece)
        os.write(tell, b"%d" % len(taken))
        signal.pause()
    os.close(tell)
    with open(told, "rb", buffering=0) as end:
        return pid, int(end.read(20) or 0)


def test_others_take_all_memory_and_everybody_is_back_when_they_are_gone(host, base):
    for name in MODEST:
        host.vassal(name, "")
    start(host, base, "pids = 64\n")
    for name in MODEST:
        well(host, name, 30)
    before = killed()
    hog, size = take_everything(6)
    try:
        assert host.emperor.poll() is None, host.log()[-3000:]
    finally:
        os.kill(hog, signal.SIGKILL)
        os.waitpid(hog, 0)
    for name in MODEST:
        well(host, name, 60)
    assert host.emperor.poll() is None, host.log()[-3000:]
    assert "killed by signal 9" in host.log() or "the spawner died" in host.log(), host.log()
    note(
        f"{killed() - before} processes killed while {size} MiB were taken, the Emperor none of them"
    )
