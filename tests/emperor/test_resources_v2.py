"""Plans and faults on a host whose controllers are of version 2."""

import json
import subprocess
from pathlib import Path

import hosting
import pytest
from planned import get, start, well

from donjon.jail import cgroup_layout

LAYOUT = cgroup_layout.look()
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(
        not {"cpu", "memory", "pids"} <= LAYOUT.controllers, reason="controllers are of version 1"
    ),
]
APP = """
import os
kept = []
def application(environ, start_response):
    text = "well"
    if environ["PATH_INFO"] == "/eat":
        kept.append(bytearray(b"x") * (200 << 20))
    elif environ["PATH_INFO"] == "/fork":
        refused, pids = 0, []
        for _ in range(20):
            try:
                pid = os.fork()
            except BlockingIOError:
                refused += 1
                continue
            if pid == 0:
                os.read(0, 1)
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        text = str(refused)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


@pytest.fixture
def host(host):
    (host.place / "app.py").write_text(APP)
    return host


def test_a_plan_is_written_to_one_group_and_changed_in_it(host, base):
    host.vassal("shop", "")
    plan = "cpu-weight = 400\ncpu-max = 150%\nmemory-high = 200M\nmemory-max = 256M\npids = 64\n"
    start(host, base, plan)
    well(host, "shop", 30)
    group = Path(LAYOUT.unified, base, "shop.ini")
    files = {"cpu.weight": "400", "cpu.max": "150000 100000", "pids.max": "64",
             "memory.high": str(200 << 20), "memory.max": str(256 << 20)}  # fmt: skip
    assert {name: (group / name).read_text().strip() for name in files} == files
    master = host.row("shop")["pid"]
    assert str(master) in (group / "cgroup.procs").read_text().split()
    done = subprocess.run(
        [*hosting.DONJON, "plans", "--json", "--control", str(host.place / "control")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (shop,) = json.loads(done.stdout)
    assert (shop["use"]["memory_max"], shop["use"]["cpu_percent"]) == (256 << 20, 150.0)
    assert 0 < shop["use"]["memory"] < 256 << 20
    emperor = host.place / "emperor.ini"
    hosting.replace_text(
        emperor, emperor.read_text().replace("memory-high = 200M\n", "").replace("150%", "50%")
    )
    hosting.wait_for(
        lambda: (group / "cpu.max").read_text() == "50000 100000\n", "the changed ceiling", 30
    )
    assert (group / "memory.high").read_text() == "max\n"
    assert host.row("shop")["pid"] == master


def test_the_kernel_tells_of_memory_and_the_neighbour_lives(host, base):
    for name in ("greedy", "modest"):
        host.vassal(name, "")
    start(host, base, "memory-max = 96M\n")
    for name in ("greedy", "modest"):
        well(host, name, 30)
    neighbours = hosting.descendants(host.row("modest")["pid"])
    # the kernel ends the connection with the process; a busy guest looks long for memory before it kills
    assert get(host, "greedy", "/eat", 60) == ""
    hosting.wait_for(lambda: host.row("greedy")["faults"].get("oom"), "the count", 30)
    assert host.row("modest")["faults"].get("oom") is None
    assert hosting.descendants(host.row("modest")["pid"]) == neighbours
    well(host, "greedy", 30)


def test_the_kernel_tells_of_refused_forks(host, base):
    host.vassal("shop", "")
    start(host, base, "pids = 12\n")
    well(host, "shop", 30)
    refused = int(get(host, "shop", "/fork"))
    assert refused >= 8
    hosting.wait_for(lambda: host.row("shop")["faults"].get("pids") == refused, "the count", 30)
    assert "vassal shop.ini: no more processes allowed, refused: " in host.log()
