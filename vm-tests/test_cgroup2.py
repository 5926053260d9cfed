"""Plans, faults and freezing where every controller is of version 2.

Kernel: User-Mode Linux (Debian's user-mode-linux, 6.1 was tried; CGROUPS, MEMCG, CGROUP_PIDS,
CFS_BANDWIDTH, HOSTFS), named by ``DONJON_UML`` or found as ``linux.uml``. Its root is the host's,
read-only; what the guest writes goes to file systems of its own in memory and to one directory.
PSI and merging of pages are not in that kernel.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UML = os.environ.get("DONJON_UML") or shutil.which("linux.uml")
TESTS = (
    "tests/jail/test_cgroups.py",
    "tests/jail/test_cgroup_drivers.py",
    "tests/emperor/test_resources_v2.py",
    "tests/emperor/test_frost.py",
)
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
for place in /run /dev/shm /tmp; do mount -t tmpfs none $place; done
mkdir /tmp/out && mount -t hostfs none /tmp/out -o {out}
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
cd {root}
.venv/bin/python -m pytest -p no:cacheprovider -q {tests} > /tmp/out/log 2>&1
echo $? > /tmp/out/status
sync
poweroff -f
"""


@pytest.mark.timeout(400)
@pytest.mark.skipif(UML is None, reason="no User-Mode Linux (Debian: user-mode-linux)")
@pytest.mark.skipif(os.geteuid() != 0, reason="the guest's root reads what the host's root may")
def test_plans_faults_and_freezing_on_version_2(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    init = tmp_path / "init"
    init.write_text(INIT.format(out=out, root=ROOT, tests=" ".join(TESTS)))
    init.chmod(0o755)
    words = [
        UML, f"uml_dir={tmp_path}", "mem=700M", "root=/dev/root", "rootfstype=hostfs",
        "rootflags=/", "ro", "con=null", "con0=null,fd:1", "quiet", "panic=-1", f"init={init}",
    ]  # fmt: skip
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=380,
        start_new_session=True, env={**os.environ, "TMPDIR": "/dev/shm"},
    )  # fmt: skip
    log = (out / "log").read_text() if (out / "log").exists() else done.stdout
    assert (out / "status").exists(), log[-3000:]
    assert (out / "status").read_text() == "0\n", log[-5000:]
    assert " passed" in log
