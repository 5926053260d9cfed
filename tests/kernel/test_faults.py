"""The seam for tests: a named call fails when it is told to, and only then."""

import errno
import os
import subprocess
import sys

import pytest

from donjon import syscalls as s


def test_a_call_fails_once_after_so_many_successes():
    s.inject("pidfd_open", errno.EMFILE, after=1)
    os.close(s.pidfd_open(os.getpid()))
    with pytest.raises(OSError, match="Too many open files"):
        s.pidfd_open(os.getpid())
    os.close(s.pidfd_open(os.getpid()))


def test_a_call_fails_for_ever():
    s.inject("capget", errno.EPERM, times=-1)
    for _ in range(3):
        with pytest.raises(PermissionError):
            s.capget()
    s.inject_clear()
    assert len(s.capget()) == 3


def test_a_failed_clone3_makes_no_child():
    s.inject("clone3", errno.EAGAIN)
    with pytest.raises(BlockingIOError):
        s.clone3(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_step_that_is_no_call_of_ours_has_a_seam_too():
    s.fault("setresuid")
    s.inject("setresuid", errno.EPERM)
    with pytest.raises(PermissionError):
        s.fault("setresuid")


def test_a_child_inherits_faults(in_child):
    s.inject("capget", errno.EPERM)
    assert in_child(_errno_of_capget) == errno.EPERM


def _errno_of_capget() -> int:
    try:
        s.capget()
    except OSError as error:
        return error.errno
    return 0


@pytest.mark.parametrize(
    ("name", "number", "after", "times"),
    [("", 1, 0, 1), ("x" * 40, 1, 0, 1), ("mount", 0, 0, 1), ("mount", 1, -1, 1), ("m", 1, 0, -2)],
)
def test_a_fault_that_makes_no_sense_is_refused(name, number, after, times):
    with pytest.raises(ValueError, match="fault"):
        s.inject(name, number, after, times)


def test_too_many_faults_are_refused():
    for index in range(16):
        s.inject(f"call{index}", errno.EPERM)
    with pytest.raises(ValueError, match="too many"):
        s.inject("mount", errno.EPERM)


CODE = """
from donjon import syscalls
for call in (lambda: syscalls.pidfd_open(1), syscalls.capget, syscalls.capget, syscalls.capget):
    try:
        call()
        print("ok")
    except OSError as error:
        print(error.errno)
"""


def run(faults: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "DONJON_INJECT": faults},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_spawned_process_takes_faults_from_its_environment():
    done = run("capget:EPERM:1:-1,pidfd_open:ENOSYS")
    assert done.stdout.split() == [str(errno.ENOSYS), "ok", "1", "1"]


@pytest.mark.parametrize("text", ["mount", "mount:EWHAT", "mount:EPERM:x", "mount:EPERM:1:2:3"])
def test_a_fault_in_the_environment_that_cannot_be_read_is_an_error(text):
    done = run(text)
    assert done.returncode == 1
    assert "DONJON_INJECT is not CALL:ERRNO" in done.stderr
