"""The command as a user has it: in a pipe, and on a terminal of 80 columns."""

import fcntl
import os
import pty
import subprocess
import sys
import termios

import pytest

DONJON = [sys.executable, "-m", "donjon"]


def _environment(**more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UWSGI_")}
    return {**clean, "PYTHONSAFEPATH": "1", "COLUMNS": "", **more}


@pytest.fixture
def donjon(tmp_path):
    """``donjon(*words, stdin=..., **environment)`` runs the command in a pipe."""

    def run(*words, stdin="", **environment):
        return subprocess.run(
            [*DONJON, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=_environment(**environment),
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def ask(donjon, host):
    """``ask(verb, *words)`` asks the Emperor of a test's own ``host``."""
    return lambda verb, *words: donjon(verb, "--control", host.place / "control", *words)


@pytest.fixture
def terminal(tmp_path):
    """``terminal(*words, keys=b"")`` runs the command on a terminal and returns status and text."""

    def run(*words, keys=b"", until=b"", **environment):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        process = subprocess.Popen(
            [*DONJON, *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            env=_environment(TERM="xterm", **environment),
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509  (this process has one thread)
        )
        os.close(theirs)
        text = _read(ours, keys, until)
        os.close(ours)
        return process.wait(60), text.decode()

    return run


def _take_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read(number, keys, until):
    """Read to the end; once ``until`` is seen, type ``keys``."""
    text = b""
    while True:
        try:
            more = os.read(number, 65536)
        except OSError:
            return text  # the other end is closed
        if not more:
            return text
        text += more
        if keys and until in text:
            os.write(number, keys)
            keys = b""


@pytest.fixture
def ini(tmp_path):
    """``ini(*lines)`` writes a configuration and returns its path."""

    def write(*lines, name="app.ini"):
        path = tmp_path / name
        path.write_text("[uwsgi]\n" + "".join(f"{line}\n" for line in lines))
        return path

    return write
