"""The options that signal the instance of a pid file."""

import os
import signal
import subprocess
import sys

import pytest

DONJON = [sys.executable, "-m", "donjon"]


def run(*words):
    return subprocess.run(
        [*DONJON, *words], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("option", "number"),
    [
        ("stop", signal.SIGINT),
        ("reload", signal.SIGHUP),
        ("pause", signal.SIGTSTP),
        ("suspend", signal.SIGTSTP),
        ("resume", signal.SIGTSTP),
    ],
)
def test_each_option_sends_its_signal(option, number, tmp_path):
    ready, go = os.pipe()
    program = "import os, signal, sys\n" + (
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\n"
        f"os.write({go}, b'r')\n"
        f"print(int(signal.sigwait([{int(number)}])))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, pass_fds=[go]
    ) as process:
        os.close(go)
        assert os.read(ready, 1) == b"r"
        os.close(ready)
        file = tmp_path / "pid"
        file.write_text(f"{process.pid}\n")
        assert run(f"--{option}", str(file)).returncode == 0
        assert process.communicate(timeout=10)[0] == f"{int(number)}\n"


@pytest.mark.parametrize("text", ["", "abc", "0", "1", "-5", "12 13"])
def test_a_file_without_a_pid_signals_nobody(text, tmp_path):
    file = tmp_path / "pid"
    file.write_text(text)
    ended = run("--stop", str(file))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"donjon: command line: --stop: cannot stop by the pid file {file}: it holds no process id\n"
    )


def test_a_missing_file_is_named(tmp_path):
    ended = run("--reload", str(tmp_path / "none"))
    assert (ended.returncode, "No such file" in ended.stderr) == (1, True)


def test_a_process_that_is_gone_has_the_status_of_the_original(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    file = tmp_path / "pid"
    file.write_text(str(gone.pid))
    ended = run("--stop", str(file))
    assert (ended.returncode, "No such process" in ended.stderr) == (255, True)
