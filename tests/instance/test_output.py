"""Output to files and daemons, seen from the process that started them."""

import os
import subprocess
import sys
import textwrap

import pytest

from donjon.errors import DonjonError
from donjon.instance import output
from donjon.origin import Origin


def start(body, tmp_path):
    """Run a script that becomes a daemon; return its exit status and what it left on our pipe."""
    script = "import os, sys\nfrom donjon.instance import output\n" + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


def test_output_is_appended_to_the_file(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    ended = start("output.to_file(sys.argv[1] + '/log', None); print('one'); os.system('echo two')"
                  "; sys.stdout.flush()", tmp_path)  # fmt: skip
    assert ended.returncode == 0
    assert sorted(log.read_text().split()) == ["before", "one", "two"]
    assert ended.stdout == ended.stderr == ""


def test_a_log_that_cannot_be_written_is_an_error_with_its_line(tmp_path):
    with pytest.raises(DonjonError) as failure:
        output.to_file(f"{tmp_path}/none/log", Origin("a.ini", 3, "logto"))
    assert str(failure.value) == (
        f"a.ini:3: logto: cannot write the log {tmp_path}/none/log: No such file or directory"
    )


def test_a_daemon_has_no_terminal_and_its_starter_does_not_wait(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ended = start("""
        output.to_background(sys.argv[1] + "/log", None)
        told = f"{os.getsid(0)} {os.getpid()} {os.readlink('/proc/self/fd/0')}"
        with open(sys.argv[1] + "/fifo", "w") as file:
            file.write(told)
    """, tmp_path)  # fmt: skip
    assert ended.returncode == 0
    session, pid, stdin = fifo.read_text().split()
    assert session not in (pid, str(os.getsid(0)))
    assert stdin == "/dev/null"


def test_a_starter_that_waits_ends_when_the_instance_is_ready(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ended = start("""
        writer = output.to_background_when_ready(sys.argv[1] + "/log", None)
        output.say_ready(writer)
        with open(sys.argv[1] + "/fifo", "w") as file:
            file.write("on")
    """, tmp_path)  # fmt: skip
    assert ended.returncode == 0
    assert fifo.read_text() == "on"


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(22)", 22), ("os.kill(os.getpid(), 9)", 137)]
)
def test_a_starter_that_waits_passes_a_failure_on(tmp_path, end, status):
    ended = start(f"output.to_background_when_ready(sys.argv[1] + '/log', None); {end}", tmp_path)
    assert ended.returncode == status
