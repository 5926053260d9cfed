"""The configuration in reserve, and an Emperor beside a server: the whole command."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


@contextlib.contextmanager
def command(*words, **how):
    """The donjon command; it does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "donjon", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def ini(path, *lines):
    path.write_text("[uwsgi]\n" + "".join(f"{line}\n" for line in lines))
    return str(path)


def test_an_instance_that_fails_becomes_the_one_in_reserve(tmp_path):
    out = tmp_path / "out"
    ini(tmp_path / "b.ini", f"hook-asap = exec:echo $PPID > {out}", "hook-asap = exit:7")
    broken = ini(
        tmp_path / "a.ini", "fallback-config = b.ini", f"chdir = {tmp_path}/none",
        "socket = @donjon-none",
    )  # fmt: skip
    with command(broken, cwd=tmp_path) as process:
        log, _ = process.communicate(timeout=20)
    assert process.returncode == 7, log
    assert int(out.read_text()) == process.pid
    assert "cannot change to" in log
    assert f"!!! {tmp_path}/b.ini (fallback config) takes over !!!" in log


@pytest.mark.parametrize("code", [0, 2, 22])
def test_only_exit_status_1_falls_back(tmp_path, code):
    ini(tmp_path / "b.ini", "hook-asap = exit:7")
    ended = ini(
        tmp_path / "a.ini", f"fallback-config = {tmp_path}/b.ini", f"hook-asap = exit:{code}"
    )
    with command(ended) as process:
        process.communicate(timeout=20)
    assert process.returncode == code


def test_the_one_in_reserve_has_the_same_emperor(tmp_path):
    ini(tmp_path / "b.ini", f"socket = @donjon-{os.getpid()}", "hook-accepting1 = print:serving")
    broken = ini(tmp_path / "a.ini", "fallback-config = b.ini", "hook-in-jail = exec:exit 1")
    ours, theirs = socket.socketpair()
    environ = {**os.environ, "UWSGI_EMPEROR_FD": str(theirs.fileno())}
    with ours, command(broken, cwd=tmp_path, env=environ, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        ours.settimeout(20)
        assert sorted(ours.recv(1) + ours.recv(1)) == [1, 5]
        ours.sendall(b"\0")
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_an_emperor_beside_a_server_is_the_masters_child(tmp_path):
    vassals, fifo = tmp_path / "vassals", tmp_path / "fifo"
    vassals.mkdir()
    os.mkfifo(fifo)
    ini(
        vassals / "one.ini", f"socket = @donjon-v{os.getpid()}",
        f"hook-accepting1 = exec:echo vassal > {fifo}",
    )  # fmt: skip
    both = ini(
        tmp_path / "a.ini", "master = true", f"socket = @donjon-{os.getpid()}",
        f"emperor = {vassals}/*.ini", f"emperor-stats = {tmp_path}/stats",
        f"hook-emperor-start = exec:echo $PPID > {fifo}",
    )  # fmt: skip
    with command(both, cwd=tmp_path) as process:
        emperor = int(fifo.read_text())
        parent = Path(f"/proc/{emperor}/stat").read_text().rsplit(")", 1)[1].split()[1]
        assert int(parent) == process.pid
        assert fifo.read_text() == "vassal\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert not os.path.exists(f"/proc/{emperor}")
