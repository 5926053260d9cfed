"""The two back ends of control groups: what they read, and how they freeze, kill and tell."""

import os
import select
import signal
import time
from pathlib import Path

import pytest
from patience import patient

from donjon import syscalls
from donjon.jail import cgroup_layout, cgroups
from donjon.jail.cgroup_text import table
from donjon.jail.cgroup_v1 import Version1
from donjon.jail.cgroup_v2 import Version2
from donjon.jail.spec import CgroupOption, CgroupPath, JailSpec

pytestmark = pytest.mark.root
NAME = f"donjon-jail-drivers-{os.getpid()}"
LAYOUT = cgroup_layout.look()
KERNEL = tuple(int(word) for word in os.uname().release.split(".")[:2])
KILLS_GROUPS = pytest.mark.skipif(KERNEL < (5, 14), reason="no cgroup.kill before Linux 5.14")


@pytest.fixture
def group(host_unchanged):
    """Make a group below a controller of version 1, or (``unified``) of version 2."""
    made = []

    def make(controller, **options):
        place = LAYOUT.unified if controller == "unified" else LAYOUT.old[controller]
        spec = JailSpec(
            cgroups=(CgroupPath(f"{place}/{NAME}"),),
            cgroup_options=tuple(CgroupOption(*one) for one in options.items()),
        )
        made.append(cgroups.prepare(spec))
        return made[-1], f"{place}/{NAME}"

    yield make
    for prepared in made:
        prepared.close()
        assert cgroups.remove(prepared.created) == []


@pytest.fixture
def inside():
    """Start processes in a group; they end with the test."""
    pids = []

    def start(prepared, work):
        pid = os.fork()
        if pid == 0:
            prepared.enter()
            try:
                work()
            finally:
                os._exit(0)
        pids.append(pid)
        return pid

    yield start
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def spin():
    while True:
        pass


def eat(count):
    memory = bytearray(count)
    for at in range(0, count, 4096):
        memory[at] = 1


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + patient(seconds)
    while time.monotonic() < end:
        if value := condition():
            return value
        select.select([], [], [], 0.01)
    raise AssertionError("it did not come")


def ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.cgroup1
@pytest.mark.cgroup2
def test_a_hybrid_host_is_seen_as_one():
    assert LAYOUT.kind == "hybrid"
    assert LAYOUT.groups(["cpu", "io"], "x") == [
        f"{LAYOUT.unified}/x",
        f"{LAYOUT.old['cpu']}/x",
        f"{LAYOUT.old['blkio']}/x",
    ]
    assert LAYOUT.missing(["cpu", "rdma"]) == ["rdma"]


def test_a_host_of_version_2_has_one_group_for_all(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    info = tmp_path / "mountinfo"
    info.write_text(f"30 23 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    layout = cgroup_layout.look(str(info))
    assert layout.kind == "v2"
    assert layout.groups(["cpu", "memory", "pids", "io"], "x") == [f"{tmp_path}/x"]


def test_a_host_of_version_1_counts_and_freezes_by_controllers(tmp_path):
    info = tmp_path / "mountinfo"
    info.write_text(
        "30 23 0:26 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "31 23 0:27 / /c/freezer rw - cgroup cgroup rw,freezer\n"
        "32 23 0:28 / /c/systemd rw - cgroup cgroup rw,name=systemd\n"
    )
    layout = cgroup_layout.look(str(info))
    assert layout.kind == "v1"
    assert layout.groups(["cpu"], "x") == ["/c/cpu,cpuacct/x", "/c/freezer/x"]


@pytest.mark.cgroup1
def test_version_1_tells_use_and_limits_in_the_words_of_version_2(group, inside):
    prepared, path = group("memory", **{"memory.max": "64M", "memory.swap.max": "0"})
    reader, writer = os.pipe()

    def work():
        memory = bytearray(16 << 20)
        for at in range(0, len(memory), 4096):
            memory[at] = 1
        os.write(writer, b"x")
        signal.pause()

    inside(prepared, work)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    use = Version1().use(path)
    assert use.memory_max == 64 << 20
    assert use.swap_max == 0
    assert 16 << 20 <= use.memory <= 64 << 20
    assert use.cpu_weight is None
    _prepared, path = group("cpu", **{"cpu.weight": "50", "cpu.max": "20000"})
    use = Version1().use(path)
    assert (use.cpu_weight, use.cpu_percent) == (50, 20.0)
    _prepared, path = group("pids", **{"pids.max": "7"})
    assert (Version1().use(path).pids, Version1().use(path).pids_max) == (0, 7)
    _prepared, path = group("blkio")
    assert (Version1().use(path).io_bytes, Version1().use(path).io_operations) == (0, 0)


@pytest.mark.cgroup1
def test_a_group_that_is_gone_uses_nothing():
    assert Version1().use("/sys/fs/cgroup/memory/none") == Version1().use("/none")
    assert Version2().counts("/none") == Version1().counts("/none")


@pytest.mark.cgroup1
def test_out_of_memory_is_told_by_an_eventfd_and_counted(group, inside):
    prepared, path = group("memory", **{"memory.max": "16M", "memory.swap.max": "0"})
    (notice,) = Version1().notices(path)
    pid = inside(prepared, lambda: eat(64 << 20))
    try:
        assert select.select([notice.fd], [], [], 10)[0] == [notice.fd]
        assert os.read(notice.fd, 8) == (1).to_bytes(8, "little")
    finally:
        os.close(notice.fd)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert Version1().counts(path).oom_kill == 1


@pytest.mark.cgroup1
def test_refused_forks_are_counted(group, inside):
    prepared, path = group("pids", **{"pids.max": "1"})

    def work():
        try:
            os.fork()
        except BlockingIOError:
            return

    pid = inside(prepared, work)
    os.waitpid(pid, 0)
    assert Version1().counts(path).pids == 1


@pytest.mark.cgroup1
def test_a_ceiling_of_processor_time_is_counted_where_it_slows(group, inside):
    prepared, path = group("cpu", **{"cpu.max": "10000"})
    inside(prepared, spin)
    counts = wait_for(lambda: (c := Version1().counts(path)).throttled > 2 and c)
    assert counts.throttled_usec > 0


@pytest.mark.cgroup2
def test_waiting_for_a_processor_is_told(group, inside):
    prepared, path = group("unified")
    if not Path(path, "cpu.pressure").exists():
        pytest.skip("a kernel without CONFIG_PSI")
    trigger = Version2().pressure(path, "cpu", 5)
    try:
        for _ in range(3):
            inside(prepared, lambda: (os.sched_setaffinity(0, {0}), spin()))
        poller = select.epoll()
        with poller:
            poller.register(trigger, select.EPOLLPRI)
            assert poller.poll(10) == [(trigger, select.EPOLLPRI)]
    finally:
        os.close(trigger)


@pytest.mark.cgroup1
@pytest.mark.cgroup2
@pytest.mark.parametrize(("place", "driver"), [("unified", Version2()), ("freezer", Version1())])
def test_a_frozen_group_stands_still_and_goes_on(place, driver, group, inside):
    prepared, path = group(place)
    pid = inside(prepared, spin)
    wait_for(lambda: ticks(pid) > 0)
    assert driver.freeze(path, frozen=True)
    if place == "unified":
        wait_for(lambda: table(f"{path}/cgroup.events")["frozen"])
    else:
        wait_for(lambda: Path(path, "freezer.state").read_text() == "FROZEN\n")
    stood = ticks(pid)
    select.select([], [], [], 0.2)
    assert ticks(pid) == stood
    assert driver.freeze(path, frozen=False)
    wait_for(lambda: ticks(pid) > stood)


@pytest.mark.cgroup2
@KILLS_GROUPS
def test_a_group_is_killed_whole_even_while_it_is_frozen(group, inside):
    prepared, path = group("unified")
    pids = [inside(prepared, spin) for _ in range(3)]
    wait_for(lambda: len(Path(path, "cgroup.procs").read_text().split()) == 3)
    Version2().freeze(path, frozen=True)
    assert Version2().kill(path)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [signal.SIGKILL] * 3


@pytest.mark.cgroup1
def test_what_a_version_cannot_it_says(group):
    _prepared, path = group("memory")
    assert not Version1().kill(path)
    assert not Version1().freeze(path, frozen=True)
    assert Version1().pressure(path, "memory", 10) == -1


@pytest.mark.cgroup2
@KILLS_GROUPS
def test_a_group_that_was_killed_whole_may_kill_who_is_born_in_it(group):
    """Why only groups that are given up are killed so: Linux 6.18 does, and may not for ever."""
    prepared, path = group("unified")
    assert Version2().kill(path)
    pid, pidfd = syscalls.clone3(0, cgroup=prepared.v2_fd)
    if pid == 0:
        os._exit(7)
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert (result.si_code, result.si_status) in {
        (os.CLD_KILLED, signal.SIGKILL),
        (os.CLD_EXITED, 7),
    }


@pytest.mark.cgroup2
def test_a_controller_is_switched_on_from_the_root_down_where_an_option_needs_it(host_unchanged):
    root = Path(LAYOUT.unified)
    if "hugetlb" not in (root / "cgroup.controllers").read_text().split():
        pytest.skip("no controller of version 2 that nobody else uses")
    had = "hugetlb" in (root / "cgroup.subtree_control").read_text().split()
    path = root / NAME / "x"
    options = (CgroupOption("hugetlb.2MB.max", "4M"), CgroupOption("no.such", "1"))
    prepared = cgroups.prepare(JailSpec(cgroups=(CgroupPath(str(path)),), cgroup_options=options))
    try:
        assert (path / "hugetlb.2MB.max").read_text() == f"{4 << 20}\n"
    finally:
        prepared.close()
        assert cgroups.remove(prepared.created) == []
        if not had:
            (root / "cgroup.subtree_control").write_text("-hugetlb")
