"""Each step of a birth made to fail in a whole Emperor: the operator reads why, nothing is left."""

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest
from hosting import Host, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup1]

REASON = os.strerror(errno.EXFULL)  # an error that nothing else gives
STEPS = [
    "capbset_drop",
    "capset",
    "cgroup_write",
    "clone3",
    "mount_setattr",
    "move_mount",
    "pivot_root",
    "set_no_new_privs",
    "setgroups",
    "sethostname",
    "setresgid",
    "setresuid",
    "setrlimit",
    "umount2",
]
JAIL = """uid = 10021
gid = 10021
rootfs = host
hostname = shop
limit-nproc = 50
cgroup = {group}
cgroup-opt = pids.max=40
"""


@pytest.fixture
def group():
    path = Path(f"/sys/fs/cgroup/pids/donjon-faults-{os.getpid()}")
    yield path
    assert not path.exists()


@pytest.fixture
def host(group):
    one = Host(Path(tempfile.mkdtemp(prefix="donjon-faults.")))
    yield one
    one.close()


@pytest.mark.parametrize("step", STEPS)
def test_the_operator_reads_why_a_vassal_was_not_born(host, group, donjon, monkeypatch, step):
    after = 1 if step == "clone3" else 0  # the first makes the spawner
    monkeypatch.setenv("DONJON_INJECT", f"{step}:EXFULL:{after}:-1")
    host.vassal("shop", JAIL.format(group=group))
    host.start(f"emperor-control = {host.place}/control\nemperor-use-clone = fs,ipc,pid,uts,net\n")

    def row():
        done = donjon("ls", "--json", "--control", host.place / "control", DONJON_INJECT="")
        return next(one for one in json.loads(done.stdout) if one["error"])

    found = wait_for(row, "error")
    assert REASON in found["error"]
    assert found["error"].count("\n") == 0
    assert "Traceback" not in host.log()
    wait_for(lambda: row()["pid"] <= 0, "end of the vassal")
    assert not host.sock("shop").exists()


def test_an_emperor_that_cannot_have_a_spawner_says_so(donjon, tmp_path):
    done = donjon("--emperor", tmp_path, DONJON_INJECT="clone3:ENOSPC")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("donjon: cannot start the spawner")
    assert os.strerror(errno.ENOSPC) in last
