"""What plans promise, measured, where the controllers are of version 2."""

import os
from pathlib import Path

import pytest
from hosting import pause, wait_for
from planned import get, start, well

from donjon.jail import cgroup_layout

LAYOUT = cgroup_layout.look()
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not {"cpu", "io"} <= LAYOUT.controllers, reason="controllers are of version 1"
    ),
]
APP = """
import mmap, os, threading, time
def spin():
    while True:
        pass
def read():
    file = os.open("big", os.O_RDONLY | os.O_DIRECT)
    page, begun = mmap.mmap(-1, 65536), time.monotonic()
    while os.readv(file, [page]):
        pass
    os.close(file)
    return time.monotonic() - begun
def application(environ, start_response):
    text = "well"
    if environ["PATH_INFO"] == "/spin":
        threading.Thread(target=spin, daemon=True).start()
    elif environ["PATH_INFO"] == "/read":
        threading.Thread(target=lambda: open("took", "w").write(str(read())), daemon=True).start()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""
THREADS = "enable-threads = true\n"


@pytest.fixture
def host(host):
    (host.place / "app.py").write_text(APP)
    return host


def spent(base, name):
    """Seconds of processor time that a vassal's group used."""
    lines = Path(LAYOUT.unified, base, f"{name}.ini", "cpu.stat").read_text().split("\n")
    return int(lines[0].split()[1]) / 1e6


def uptime():
    return float(Path("/proc/uptime").read_text().split()[0])


@pytest.mark.skipif(os.cpu_count() != 1, reason="shares are scarce on one processor only")
def test_processors_are_shared_by_weight(host, base):
    plans = "[plan:heavy]\ncpu-weight = 300\n"
    for name in ("light", "heavy"):
        host.vassal(name, THREADS)
    start(host, base, f"cpu-weight = 100\n{plans}", "plan-assign = heavy.ini heavy\n")
    for name in ("light", "heavy"):
        well(host, name, 60)
    for name in ("light", "heavy"):
        assert get(host, name, "/spin") == "well"
    before = {name: spent(base, name) for name in ("light", "heavy")}
    pause(20)
    used = {name: spent(base, name) - before[name] for name in before}
    assert used["heavy"] / used["light"] == pytest.approx(3, rel=0.1)


def test_a_ceiling_of_processor_time_holds(host, base):
    host.vassal("shop", THREADS)
    start(host, base, "cpu-max = 30%\n")
    well(host, "shop", 60)
    assert get(host, "shop", "/spin") == "well"
    begun, before = uptime(), spent(base, "shop")
    pause(15)
    share = (spent(base, "shop") - before) / (uptime() - begun)
    assert share == pytest.approx(0.3, rel=0.1)


def test_a_disk_is_read_as_fast_as_the_plan_says(host, base):
    info = os.stat(host.place)
    device = f"{os.major(info.st_dev)}:{os.minor(info.st_dev)}"
    known = Path("/sys/dev/block", device)
    if not known.exists():
        pytest.skip("/tmp lies on no block device")
    (host.place / "big").write_bytes(os.urandom(1 << 20) * 20)
    os.sync()
    host.place.chmod(0o777)
    host.vassal("shop", THREADS)
    start(host, base, f"io-bytes = 2M\nio-device = /dev/{known.resolve().name}\n")
    well(host, "shop", 60)
    assert get(host, "shop", "/read") == "well"
    took = host.place / "took"
    assert float(wait_for(took.read_text, "the time it took", 40)) == pytest.approx(10, rel=0.15)
