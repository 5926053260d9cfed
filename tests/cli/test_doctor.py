"""``doctor`` tries, judges and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from donjon.verbs.finding import Level, judged

AREAS = ["kernel", "namespaces", "control groups", "python"]


@pytest.mark.root
def test_this_host_can_do_the_main_job(donjon):
    done = donjon("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("the main job can run here\n")


@pytest.mark.root
def test_findings_for_programs_are_values(donjon):
    answer = json.loads(donjon("doctor", "--json").stdout)
    areas = list(dict.fromkeys(each["area"] for each in answer["findings"]))
    assert answer["able"] is True
    assert areas == AREAS
    assert {each["level"] for each in answer["findings"]} <= {"ok", "warn", "missing"}
    unhelped = [f for f in answer["findings"] if f["level"] != "ok" and not f["remedy"]]
    assert unhelped == []


@pytest.mark.root
def test_a_call_that_the_kernel_lacks_is_missing(donjon):
    done = donjon("doctor", DONJON_INJECT="close_range:ENOSYS")
    assert done.returncode == 1
    assert "missing  close_range: Function not implemented" in done.stdout
    assert "a kernel of 5.11 or newer" in done.stdout
    assert done.stdout.endswith("the main job cannot run here\n")


@pytest.mark.root
def test_mounts_by_descriptor_can_be_done_without(donjon):
    done = donjon("doctor", DONJON_INJECT="openat2:ENOSYS,open_tree:ENOSYS:0:-1,fsopen:ENOSYS")
    assert done.returncode == 0
    assert "warn     openat2: Function not implemented" in done.stdout
    assert "warn     mount by descriptor (fsopen, fsmount)" in done.stdout


@pytest.mark.root
def test_what_can_be_mounted_is_tried(donjon):
    done = donjon("doctor", DONJON_INJECT="loop_ctl_get_free:EACCES,mount_setattr:EINVAL:0:-1")
    assert done.returncode == 0
    assert "warn     loop devices: Permission denied" in done.stdout
    assert "warn     mounts with mapped owners: Invalid argument" in done.stdout
    assert "there is no bind with idmap" in done.stdout


@pytest.mark.root
def test_no_namespace_is_believed_without_a_try(donjon):
    done = donjon("doctor", DONJON_INJECT="clone3:ENOSPC:0:-1")
    assert done.returncode == 1
    for name in ("mount", "pid", "network", "ipc"):
        assert f"missing  {name}: No space left on device" in done.stdout


@pytest.mark.root
def test_another_user_is_told_to_be_root(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "donjon", "doctor"],
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        check=False,
    )
    assert done.returncode == 1
    assert "missing  root: this is uid 65534" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.root
@pytest.mark.cgroup2
def test_no_group_is_left_behind(donjon):
    def groups():
        return {str(path) for path in Path("/sys/fs/cgroup").glob("**/donjon-doctor-*")}

    before = groups()
    donjon("doctor")
    assert groups() == before


def test_what_is_needed_is_missing_and_the_rest_a_warning():
    assert judged("a", "n", None, needed=True).level is Level.OK
    assert judged("a", "n", "no", needed=True).level is Level.MISSING
    assert judged("a", "n", "no", needed=False).level is Level.WARN
