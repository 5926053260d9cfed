"""What only a machine of its own shows of limits: swap, memory that is slowed down, weights of disks, groups
that end whole, an Emperor in another one's group."""

import contextlib
import os
import subprocess
from pathlib import Path

import hosting
import pytest
from notes import note
from planned import get, start, well

from donjon.jail import cgroup_layout

LAYOUT = cgroup_layout.look()
pytestmark = [
    pytest.mark.root,
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.timeout(200),
    pytest.mark.skipif(
        not {"cpu", "io", "memory"} <= LAYOUT.controllers, reason="controllers are of version 1"
    ),
]
APP = """
import mmap, os
kept = []
def application(environ, start_response):
    what, _, count = environ["PATH_INFO"].strip("/").partition("/")
    text = "well"
    if what == "eat":
        for _ in range(int(count)):
            kept.append(os.urandom(1 << 20))
    elif what == "fork":
        for _ in range(int(count)):
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "1000"])
    elif what == "processors":
        text = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


@pytest.fixture
def host(host):
    (host.place / "app.py").write_text(APP)
    return host


@pytest.fixture
def swap():
    """A swap file on the disk of this machine."""
    file = Path("/swapfile")
    with file.open("wb") as whole:
        for _ in range(256):  # User-Mode Linux cannot map so many pages in one process
            whole.write(bytes(1 << 20))
        os.fchmod(whole.fileno(), 0o600)
    subprocess.run(["mkswap", "-q", str(file)], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(["swapon", str(file)], check=False, capture_output=True, text=True)
    if done.returncode:
        file.unlink()
        pytest.skip(f"a kernel without swap: {done.stderr.strip()}")
    yield
    subprocess.run(["swapoff", str(file)], check=True)
    file.unlink()


def group(base, name):
    return Path(LAYOUT.unified, base, f"{name}.ini")


def number(path):
    return int(path.read_text())


def test_swap_is_as_much_as_the_plan_says(host, base, swap):
    plans = "memory-max = 48M\nmemory-swap = 64M\n[plan:dry]\nmemory-max = 48M\nmemory-swap = 0\n"
    for name in ("shop", "dry"):
        host.vassal(name, "")
    start(host, base, plans, "plan-assign = dry.ini dry\n")
    for name in ("shop", "dry"):
        well(host, name, 30)
    assert get(host, "shop", "/eat/60", 60) == "well"
    used = number(group(base, "shop") / "memory.swap.current")
    assert 0 < used <= 64 << 20
    assert host.row("shop")["faults"].get("oom") is None
    assert get(host, "dry", "/eat/60", 60) == ""
    hosting.wait_for(lambda: host.row("dry")["faults"].get("oom"), "the fault", 30)
    assert number(group(base, "dry") / "memory.swap.current") == 0
    assert get(host, "shop", "/eat/80", 60) == ""
    hosting.wait_for(lambda: host.row("shop")["faults"].get("oom"), "the fault", 30)


def test_memory_above_high_is_slowed_down_and_told_and_nobody_is_killed(host, base, swap):
    host.vassal("shop", "")
    start(host, base, "memory-high = 40M\nmemory-max = 256M\n")
    well(host, "shop", 30)
    assert get(host, "shop", "/eat/80", 120) == "well"
    hosting.wait_for(lambda: host.row("shop")["faults"].get("memory-high"), "the fault", 30)
    assert number(group(base, "shop") / "memory.current") < 60 << 20
    assert host.row("shop")["faults"].get("oom") is None


def test_a_group_that_is_to_end_whole_ends_whole(host, base):
    directory = f"{LAYOUT.unified}/{base}/whole.ini"
    for name in ("whole", "neighbour"):
        host.vassal(name, "")
    (host.place / "vassals" / "whole.ini").write_text(
        (host.place / "vassals" / "whole.ini").read_text()
        + f"cgroup = {directory}\ncgroup-opt = memory.max=64M\ncgroup-opt = memory.swap.max=0\n"
        "cgroup-opt = memory.oom.group=1\n"
    )
    host.start(f"emperor-control = {host.place}/control\n")
    for name in ("whole", "neighbour"):
        well(host, name, 30)
    neighbours = hosting.descendants(host.row("neighbour")["pid"])
    assert get(host, "whole", "/fork/3") == "well"
    family = [host.row("whole")["pid"], *hosting.descendants(host.row("whole")["pid"])]
    assert len(family) >= 5
    assert get(host, "whole", "/eat/200", 60) == ""
    hosting.wait_for(lambda: not any(map(hosting.alive, family)), "the end of all of it", 30)
    well(host, "whole", 30)
    assert hosting.descendants(host.row("neighbour")["pid"]) == neighbours


def test_a_vassal_runs_on_the_processors_of_its_group(host, base):
    if "cpuset" not in LAYOUT.controllers:
        pytest.skip("a kernel without cpuset")
    last = os.cpu_count() - 1
    host.vassal(
        "shop", f"cgroup = {LAYOUT.unified}/{base}/shop.ini\ncgroup-opt = cpuset.cpus={last}\n"
    )
    host.start("")
    well(host, "shop", 30)
    assert get(host, "shop", "/processors") == str(last)
    assert (group(base, "shop") / "cpuset.cpus.effective").read_text().strip() == str(last)


def is_weighing(device):
    """Have a scheduler that knows weights, if there is one."""
    choice = Path("/sys/block", device, "queue/scheduler")
    subprocess.run(["modprobe", "-q", "bfq"], check=False)
    if "bfq" not in choice.read_text():
        return False
    choice.write_text("bfq")
    return True


def disk():
    info = os.stat("/")
    return Path(f"/sys/dev/block/{os.major(info.st_dev)}:{os.minor(info.st_dev)}").resolve().name


READER = """
import mmap, os, sys, time
file, page = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 65536)
begun = time.monotonic()
while time.monotonic() < begun + float(sys.argv[2]):
    if not os.readv(file, [page]):
        os.lseek(file, 0, os.SEEK_SET)
"""


def test_a_disk_is_shared_by_weight(host, base):
    if not is_weighing(disk()):
        pytest.skip("no scheduler of disks here knows weights")
    names = {"light": "100", "heavy": "300"}
    for name in names:
        (host.place / f"{name}.big").write_bytes(os.urandom(1 << 20) * 16)
        host.vassal(name, "")
    (host.place / "reader.py").write_text(READER)
    os.sync()
    start(
        host,
        base,
        "io-weight = 100\n[plan:heavy]\nio-weight = 300\n",
        "plan-assign = heavy.ini heavy\n",
    )
    readers = []
    for name, weight in names.items():
        well(host, name, 30)
        told = group(base, name) / "io.bfq.weight"
        if not told.exists():
            pytest.skip("a kernel whose BFQ knows no groups")
        assert told.read_text().split()[-1] == weight
        command = ["python3", str(host.place / "reader.py"), str(host.place / f"{name}.big"), "20"]
        readers.append(subprocess.Popen(command))
        (group(base, name) / "cgroup.procs").write_text(str(readers[-1].pid))
    for reader in readers:
        assert reader.wait() == 0
    done = {
        name: sum(
            int(word.partition("=")[2])
            for word in (group(base, name) / "io.stat").read_text().split()
            if word.startswith("rbytes")
        )
        for name in names
    }
    note(f"disk shared by weight 1:3 as 1:{done['heavy'] / done['light']:.2f}")
    assert done["heavy"] > done["light"] * 1.5


def test_an_emperor_in_the_group_of_another_keeps_its_vassals_in_it(host, base):
    top = Path(LAYOUT.unified, base, "outer")
    inner = host.place / "inner"
    inner.mkdir()
    (inner / "deep.ini").write_text(
        f"[uwsgi]\nchdir = {host.place}\nhttp-socket = {host.sock('deep')}\nchmod-socket = 666\n"
        "wsgi-file = app.py\nmaster = true\n"
    )
    (inner / "plans.ini").write_text(
        "[plan:small]\nmemory-max = 40M\nmemory-swap = 0\npids = 20\n"
    )
    (host.place / "vassals" / "outer.ini").write_text(
        f"[uwsgi]\nemperor = {inner}/deep.ini\nplan-file = {inner}/plans.ini\nplan-assign = * small\n"
        f"plan-cgroup = {base}/outer/vassals\ncgroup = {top}/self\ncgroup-opt = memory.max=512M\n"
    )
    host.start(f"emperor-control = {host.place}/control\n")
    well(host, "deep", 60)
    (below,) = [path for path in (top / "vassals").iterdir() if path.is_dir()]
    assert number(below / "memory.max") == 40 << 20
    assert get(host, "deep", "/eat/100", 60) == ""
    well(host, "deep", 60)
    with contextlib.suppress(ValueError):
        assert "oom_kill 0" not in (below / "memory.events").read_text()
    (host.place / "vassals" / "outer.ini").unlink()
    hosting.wait_for(lambda: not top.exists(), "the end of both and their groups", 60)
