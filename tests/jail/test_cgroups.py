"""Control groups on the hierarchies that this machine has."""

import os
import signal
from pathlib import Path

import pytest

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import cgroup_files, cgroups, plan
from donjon.jail.spec import CgroupOption, CgroupPath, JailSpec
from donjon.origin import Origin

pytestmark = pytest.mark.root
NAME = f"donjon-jail-{os.getpid()}"
V1 = Path("/sys/fs/cgroup/memory")
V1_CPU = Path("/sys/fs/cgroup/cpu")
ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
V2 = next((Path(root) for root in ROOTS if os.path.exists(f"{root}/cgroup.controllers")), None)


def spec_of(*paths, **options):
    return JailSpec(
        cgroups=tuple(CgroupPath(str(path)) for path in paths),
        cgroup_options=tuple(
            CgroupOption(key, value, Origin("a.ini", 3, "cgroup-opt"))
            for key, value in options.items()
        ),
    )


@pytest.fixture(autouse=True)
def no_group_stays(host_unchanged):
    return


@pytest.mark.cgroup1
def test_a_v1_group_is_made_with_its_mode_and_values_and_removed_with_its_parent():
    path = V1 / NAME / "bob"
    spec = spec_of(path, **{"memory.limit_in_bytes": "268435456"})
    prepared = cgroups.prepare(spec)
    try:
        assert path.stat().st_mode & 0o777 == 0o700
        assert (path / "memory.limit_in_bytes").read_text() == "268435456\n"
        assert prepared.v2_fd == -1
        assert len(prepared.tasks_fds) == 1
    finally:
        prepared.close()
        assert cgroups.remove(prepared.created) == []
    assert not path.parent.exists()


@pytest.mark.cgroup1
def test_a_shared_parent_is_removed_with_its_last_group():
    made = [cgroups.prepare(spec_of(V1 / NAME / name)) for name in ("a", "b")]
    for prepared in made:
        prepared.close()
    assert cgroups.remove(made[0].created) == []
    assert (V1 / NAME / "b").is_dir()
    assert cgroups.remove(made[1].created) == []
    assert not (V1 / NAME).exists()


@pytest.mark.cgroup1
def test_who_adopts_the_parents_removes_them_too():
    prepared = cgroups.prepare(spec_of(V1 / NAME / "deep" / "x"))
    prepared.close()
    assert prepared.parents == [str(V1 / NAME / "deep"), str(V1 / NAME)]
    pid = os.fork()
    if pid == 0:
        cgroups._made_parents.clear()
        cgroups.adopt(prepared.parents)
        os._exit(len(cgroups.remove(prepared.created)))
    assert os.waitpid(pid, 0)[1] == 0
    assert not (V1 / NAME).exists()
    cgroups._made_parents.clear()


@pytest.mark.cgroup1
def test_instances_that_start_at_once_make_their_common_parent_together():
    for _round in range(25):
        gate, opens = os.pipe()
        pids = []
        for number in range(4):
            pids.append(os.fork())
            if pids[-1] == 0:
                status = 1
                try:
                    os.close(opens)
                    os.read(gate, 1)  # the end of file, for all at once
                    cgroups.prepare(spec_of(V1 / NAME / f"app{number}")).close()
                    status = 0
                finally:
                    os._exit(status)
        os.close(gate)
        os.close(opens)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        for group in [*(V1 / NAME).iterdir(), V1 / NAME]:
            if group.is_dir():
                group.rmdir()
        assert statuses == [0, 0, 0, 0]


@pytest.mark.cgroup1
def test_a_group_that_existed_is_used_and_stays():
    path = V1 / NAME
    path.mkdir()
    try:
        prepared = cgroups.prepare(spec_of(path))
        prepared.close()
        assert prepared.created == []
        assert cgroups.remove(prepared.created) == []
        assert path.is_dir()
    finally:
        path.rmdir()


@pytest.mark.cgroup1
def test_the_jail_step_enters_and_children_inherit(jail):
    def look():
        pid = os.fork()
        if pid == 0:
            groups = Path("/proc/self/cgroup").read_text()
            os._exit(0 if groups.count(NAME) == 2 else 1)
        status = os.waitpid(pid, 0)[1]
        return Path("/proc/self/cgroup").read_text(), status

    spec = spec_of(V1 / NAME, V1_CPU / NAME, **{"cpu.shares": "125"})
    try:
        text, status = jail(spec, look, born_in=frozenset({"pid", "fs"}))
        assert f"memory:/{NAME}" in text
        assert status == 0
        assert (V1_CPU / NAME / "cpu.shares").read_text() == "125\n"
    finally:
        assert cgroups.remove([str(V1 / NAME), str(V1_CPU / NAME)]) == []


@pytest.mark.cgroup1
def test_doors_that_the_emperor_opened_are_used_by_the_newborn(tmp_path):
    prepared = cgroups.prepare(spec_of(V1 / NAME))
    pid = os.fork()
    if pid == 0:
        for number in prepared.tasks_fds:
            os.write(number, b"0")
        os._exit(0 if NAME in Path("/proc/self/cgroup").read_text() else 1)
    prepared.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert cgroups.remove(prepared.created) == []


@pytest.mark.cgroup2
def test_a_process_is_born_in_its_v2_group():
    prepared = cgroups.prepare(spec_of(V2 / NAME))
    assert prepared.tasks_fds == []
    reader, writer = os.pipe()
    pid, pidfd = syscalls.clone3(0, cgroup=prepared.v2_fd)
    if pid == 0:
        os.write(writer, Path("/proc/self/cgroup").read_bytes())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert f"0::/{NAME}\n" in pipe.read()
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    prepared.close()
    assert cgroups.remove(prepared.created) == []


@pytest.mark.cgroup2
def test_a_plain_instance_enters_its_v2_group(jail):
    try:
        text = jail(spec_of(V2 / NAME), Path("/proc/self/cgroup").read_text)
        assert f"0::/{NAME}\n" in text
    finally:
        assert cgroups.remove([str(V2 / NAME)]) == []


@pytest.mark.cgroup2
def test_a_value_of_v1_is_written_under_its_v2_name():
    path = V2 / NAME
    prepared = cgroups.prepare(spec_of(path, **{"freezer.state": "THAWED", "no.such": "1"}))
    prepared.close()
    assert (path / "cgroup.freeze").read_text() == "0\n"
    assert cgroups.remove(prepared.created) == []


@pytest.mark.cgroup2
def test_two_groups_of_v2_are_one_too_many():
    with pytest.raises(JailError, match="one cgroup of version 2 only"):
        cgroups.check(spec_of(V2 / "a", V2 / "b"))


@pytest.mark.cgroup1
def test_a_value_that_the_kernel_refuses_names_key_value_and_reason_and_leaves_nothing():
    with pytest.raises(JailError) as caught:
        cgroups.prepare(spec_of(V1 / NAME / "x", **{"memory.limit_in_bytes": "much"}))
    text = str(caught.value)
    assert text == (
        f"a.ini:3: cgroup-opt: cannot write much to {V1}/{NAME}/x/memory.limit_in_bytes: "
        "Invalid argument"
    )
    assert not (V1 / NAME).exists()


@pytest.mark.cgroup1
def test_a_group_with_a_process_stays_until_it_is_dead():
    prepared = cgroups.prepare(spec_of(V1 / NAME))
    pid = os.fork()
    if pid == 0:
        prepared.enter()
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    prepared.close()
    assert cgroups.try_remove(prepared.created) == [str(V1 / NAME)]
    assert cgroups.remove(prepared.created, timeout=0.02) == [str(V1 / NAME)]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert cgroups.remove(prepared.created) == []


@pytest.mark.cgroup1
def test_a_directory_that_cannot_be_made_is_an_error_with_its_path():
    syscalls.inject("mkdir", 28)
    try:
        with pytest.raises(JailError, match=f"cannot make the cgroup {V1}/{NAME}/x: No space"):
            cgroups.prepare(spec_of(V1 / NAME / "x"))
    finally:
        syscalls.inject_clear()
    assert not (V1 / NAME).exists()


def test_the_plan_says_the_translated_names():
    if V2 is None:
        pytest.skip("no v2 hierarchy")
    made = plan.build(spec_of(V2 / NAME, **{"freezer.state": "THAWED"}), root=True)
    assert "cgroup.freeze=0 (for freezer.state=THAWED)" in made.describe()[0]


@pytest.mark.cgroup1
def test_the_plan_says_where_a_value_goes_and_what_goes_nowhere():
    options = {"cpu.weight": "50", "memory.max": "64M", "memory.high": "32M"}
    made = plan.build(spec_of(V1 / NAME, V1_CPU / NAME, **options), root=True)
    assert made.describe()[0].partition(": ")[2].rpartition(" [")[0] == (
        f"enter the cgroup {V1}/{NAME} with memory.limit_in_bytes=64M (for memory.max=64M); "
        f"enter the cgroup {V1_CPU}/{NAME} with cpu.shares=512 (for cpu.weight=50); "
        "memory.high=32M is in none of them"
    )


@pytest.mark.cgroup1
def test_memory_and_swap_are_limited_in_whichever_order_the_kernel_takes_them():
    path = V1 / NAME
    prepared = cgroups.prepare(spec_of(path, **{"memory.swap.max": "16M", "memory.max": "64M"}))
    prepared.close()
    try:
        for memory, swap in (("128M", "0"), ("32M", "8M")):
            again = cgroups.prepare(
                spec_of(path, **{"memory.swap.max": swap, "memory.max": memory})
            )
            again.close()
            both = cgroup_files.size(memory) + cgroup_files.size(swap)
            assert (path / "memory.memsw.limit_in_bytes").read_text() == f"{both}\n"
    finally:
        assert cgroups.remove(prepared.created) == []


@pytest.mark.cgroup1
def test_a_cpuset_takes_over_the_processors_of_the_group_above(jail):
    path = V1.parent / "cpuset" / NAME / "x"
    if not path.parent.parent.is_dir():
        pytest.skip("no cpuset hierarchy")
    spec = spec_of(path, **{"cpuset.cpus": "0"})
    prepared = cgroups.prepare(spec)
    try:
        assert sorted(jail(spec, lambda: os.sched_getaffinity(0))) == [0]
    finally:
        prepared.close()
        assert cgroups.remove(prepared.created) == []


def test_without_root_there_is_no_cgroup_step():
    assert plan.build(spec_of(V1 / NAME), root=False).steps == ()


GIVEN = {"memory.limit_in_bytes": "512M", "memory.max": "512M", "cpu.cfs_period_us": "50000"}


@pytest.mark.parametrize(
    ("key", "value", "version", "expected"),
    [
        ("cpu.shares", "1024", 2, "cpu.weight=100"),
        ("cpu.shares", "2", 2, "cpu.weight=1"),
        ("cpu.weight", "100", 1, "cpu.shares=1024"),
        ("cpu.cfs_quota_us", "25000", 2, "cpu.max=25000 50000"),
        ("cpu.cfs_quota_us", "-1", 2, "cpu.max=max 50000"),
        ("cpu.max", "25000", 1, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=25000"),
        ("cpu.max", "max 50000", 1, "cpu.cfs_period_us=50000 cpu.cfs_quota_us=-1"),
        ("memory.limit_in_bytes", "-1", 2, "memory.max=max"),
        ("memory.max", "max", 1, "memory.limit_in_bytes=-1"),
        ("memory.limit_in_bytes", "512M", 2, "memory.max=512M"),
        ("memory.memsw.limit_in_bytes", "768M", 2, f"memory.swap.max={256 << 20}"),
        ("memory.swap.max", "256M", 1, f"memory.memsw.limit_in_bytes={768 << 20}"),
        ("memory.high", "1G", 1, ""),
        ("pids.max", "64", 1, "pids.max=64"),
        ("pids.max", "64", 2, "pids.max=64"),
        ("freezer.state", "FROZEN", 2, "cgroup.freeze=1"),
        ("cgroup.freeze", "0", 1, "freezer.state=THAWED"),
        ("blkio.weight", "1000", 2, "io.weight=200"),
        ("io.weight", "2000", 2, "io.weight=2000 io.bfq.weight=1000"),
        ("io.weight", "8:0 50", 2, "io.weight=8:0 50 io.bfq.weight=8:0 50"),
        ("io.weight", "50", 1, "blkio.weight=250 blkio.bfq.weight=50"),
        ("blkio.throttle.read_bps_device", "8:0 1M", 2, "io.max=8:0 rbps=1048576"),
        (
            "io.max",
            "8:0 rbps=max wiops=100",
            1,
            "blkio.throttle.read_bps_device=8:0 0 blkio.throttle.write_iops_device=8:0 100",
        ),
    ],
)
def test_names_and_values_are_translated(key, value, version, expected):
    written = cgroup_files.translate(key, value, version, GIVEN)
    assert " ".join("=".join(pair) for pair in written) == expected


def test_the_period_of_a_quota_is_written_once():
    assert cgroup_files.translate("cpu.cfs_period_us", "50000", 2, {}) == (
        ("cpu.max", "max 50000"),
    )
    given = {"cpu.cfs_quota_us": "1000"}
    assert cgroup_files.translate("cpu.cfs_period_us", "50000", 2, given) == ()


def test_relative_shares_stay_relative():
    weights = [cgroup_files.translate("cpu.shares", n, 2)[0][1] for n in ("125", "250", "500")]
    assert weights == ["12", "24", "49"]


@pytest.mark.parametrize(
    ("key", "value", "needs"),
    [
        ("cpu.max", "half", "a number"),
        ("io.max", "8:0 speed=1", "MAJOR:MINOR and a value"),
        ("blkio.throttle.read_bps_device", "8:0", "MAJOR:MINOR and a value"),
    ],
)
def test_a_value_that_cannot_be_translated_is_refused_with_its_line(key, value, needs):
    with pytest.raises(JailError) as caught:
        cgroups.check(spec_of(V1 / NAME, **{key: value}))
    assert (
        str(caught.value) == f"a.ini:3: cgroup-opt: cgroup-opt {key} needs {needs}, not {value!r}"
    )


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_that_belong_together_the_wrong_one_is_named(turned):
    pair = [("cpu.cfs_period_us", "abc", 3), ("cpu.cfs_quota_us", "5", 4)]
    options = tuple(
        CgroupOption(key, value, Origin("a.ini", line, "cgroup-opt")) for key, value, line in pair
    )
    with pytest.raises(JailError, match=r"^a\.ini:3: .* cpu\.cfs_period_us needs a number"):
        cgroups.check(JailSpec(cgroup_options=options[::-1] if turned else options))


def test_controllers_are_named_by_their_files():
    assert cgroup_files.controller("memory.limit_in_bytes") == "memory"
    assert cgroup_files.controller("blkio.weight") == "io"
    assert cgroup_files.controller("cgroup.max.depth") == ""
