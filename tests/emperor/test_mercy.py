"""Whom the kernel may end when memory runs out: everybody but the Emperor."""

import os
import signal
from pathlib import Path

import pytest
from empire import children, wait_for

from donjon import syscalls

pytestmark = pytest.mark.root
CAP_SYS_RESOURCE = 24  # linux/capability.h


def score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.fixture
def own():
    """What we have, and so whom we start; a test machine may give us another than 0."""
    return score("self")


def test_the_emperor_is_spared_and_nobody_whom_it_starts(emperor, own):
    if own <= -900 or not syscalls.capget()[0] >> CAP_SYS_RESOURCE & 1:
        pytest.skip("we are spared ourselves, or may spare nobody")
    out = emperor.place / "hook"
    emperor.start(hooks=[["as-emperor", "exec", f"cat /proc/self/oom_score_adj > {out}"]])
    emperor.vassal("a.ini")
    first = emperor.started("a.ini")["pid"]
    wait_for(lambda: score(emperor.process.pid) == -900, "mercy")
    assert score(first) == own
    assert int(wait_for(out.read_text, "the hook")) == own
    (spawner,) = set(children(emperor.process.pid)) - {first}
    assert score(spawner) == own
    os.kill(spawner, signal.SIGKILL)
    emperor.said("the spawner died")
    emperor.vassal("b.ini")
    assert score(emperor.started("b.ini")["pid"]) == own


def test_an_emperor_that_may_not_is_as_mortal_as_before(emperor, own):
    emperor.start(prefix=["setpriv", "--bounding-set", "-sys_resource"])
    emperor.vassal("a.ini")
    emperor.started("a.ini")
    assert score(emperor.process.pid) == own
