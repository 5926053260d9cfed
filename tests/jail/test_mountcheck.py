"""A file system that hangs holds nobody up."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from donjon import syscalls
from donjon.errors import JailError
from donjon.hooks import waits
from donjon.hooks.action import ActionError, Facts, Scene
from donjon.jail import bounded, gates, mountcheck
from donjon.jail.phase import Phase
from donjon.jail.step import Context

SERVER = Path(__file__).parents[1] / "support" / "little_fuse.py"
needs_fuse = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs /dev/fuse")
fuse_tests = [pytest.mark.root, needs_fuse]


@pytest.fixture
def fuse(tmp_path):
    """A directory with a FUSE file system on it, and its server."""
    place = tmp_path / "app"
    place.mkdir()
    server = subprocess.Popen([sys.executable, str(SERVER), str(place)], stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"up\n"
    yield str(place), server
    if server.poll() is None:
        server.kill()  # and with it every question ends
    server.communicate()
    with contextlib.suppress(OSError):  # a test did
        syscalls.umount2(str(place), syscalls.MNT_DETACH)
    while True:  # children that could not die before
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break


def hang(server):
    server.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)


class TestFuse:
    pytestmark = fuse_tests

    def test_one_that_answers_has_no_fault(self, fuse):
        path, _ = fuse
        assert mountcheck.fault_of(path, os.stat(path).st_dev) == ""

    def test_one_that_hangs_is_told_in_time(self, fuse):
        path, server = fuse
        hang(server)
        start = time.monotonic()
        assert mountcheck.fault_of(path, seconds=0.3) == "it does not answer within 0.3 seconds"
        assert time.monotonic() - start < 3

    def test_one_whose_server_died_is_told_at_once(self, fuse):
        path, server = fuse
        server.kill()
        server.wait()
        assert mountcheck.fault_of(path) in (
            "Transport endpoint is not connected",
            "Software caused connection abort",
        )

    def test_one_that_was_unmounted_is_another(self, fuse):
        path, server = fuse
        device = os.stat(path).st_dev
        syscalls.umount2(path, 0)
        server.wait()
        assert mountcheck.fault_of(path, device) == "another file system is there"

    @pytest.mark.parametrize("kind", ["fs", "dir", "mountpoint"])
    def test_a_gate_on_one_that_hangs_gives_up_in_time(self, fuse, kind):
        path, server = fuse
        gates.wait_for(kind, path, 5)
        hang(server)
        start = time.monotonic()
        with pytest.raises(JailError, match=r"app: it is not there after 0\.2 seconds"):
            gates.wait_for(kind, path, 0.2)
        assert time.monotonic() - start < 4

    @pytest.mark.parametrize("action", [waits.wait_for_fs, waits.wait_for_directory])
    def test_hook_actions_that_wait_give_up_in_time(self, fuse, action):
        path, server = fuse
        scene = Scene(Phase.AS_ROOT, Facts(wait_for_fs_timeout=0.2), Context())
        action((path,), scene)
        hang(server)
        with pytest.raises(ActionError, match=r"app was not there within 0\.2 seconds"):
            action((path,), scene)

    def test_the_hook_action_fails_and_does_not_hang(self, fuse, monkeypatch):
        path, server = fuse
        waits.check_mountpoint((path,), None)
        hang(server)
        monkeypatch.setattr(mountcheck.fault_of, "__defaults__", (None, 0.2))
        with pytest.raises(ActionError, match=r"app: it does not answer within 0\.2 seconds"):
            waits.check_mountpoint((path,), None)


def test_an_answer_comes_back_and_an_error_as_its_reason():
    assert bounded.ask(lambda: "yes", 5) == "yes"
    assert bounded.ask(lambda: str(os.statvfs("/no/such")), 5) == "No such file or directory"


def test_no_answer_is_none_and_leaves_no_child():
    assert bounded.ask(lambda: signal.pause() or "", 0.05) is None


def test_where_there_can_be_no_child_the_reason_is_the_systems():
    syscalls.inject("clone3", 11)
    try:
        with pytest.raises(OSError, match="Resource temporarily unavailable"):
            bounded.ask(lambda: "", 1)
    finally:
        syscalls.inject_clear()
