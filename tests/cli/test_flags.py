"""The original's flags: what is printed, where, and the exit status."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from donjon import cli
from donjon.config import options
from donjon.config.world import COMPATIBLE_VERSION


def test_the_version_is_the_compatible_one(donjon):
    done = donjon("--version")
    assert (done.returncode, done.stdout) == (0, f"{COMPATIBLE_VERSION}\n")


def test_help_lists_every_name_of_every_option(donjon):
    done = donjon("--help")
    assert done.returncode == 0
    words = set(done.stdout.replace(",", " ").split())
    missing = [n for row in options.all_options() for n in row.names if f"--{n}" not in words]
    assert missing == []


def test_dump_options_prints_one_name_a_line(donjon):
    done = donjon("--dump-options")
    assert done.returncode == 0
    assert {"socket", "master", "emperor"} <= set(done.stdout.split("\n"))


def test_get_prints_the_value_and_ends(donjon):
    done = donjon("--set", "colour=blue", "--get", "colour", "--http-socket", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (0, "blue\n")


def test_bytes_that_are_no_text_come_out_as_they_were():
    done = subprocess.run(
        [sys.executable, "-m", "donjon", "--set", b"a=\xff", "--get", "a"],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"\xff\n"


def test_get_of_what_has_no_value_prints_nothing(donjon):
    done = donjon("--get", "colour")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(("flag", "status"), [("--exit=3", 3), ("--exit", 1)])
def test_exit_ends_with_its_status(donjon, flag, status):
    done = donjon("--iprint", "before", flag, "--iprint", "after")
    assert (done.returncode, done.stdout) == (status, "before\n")


def test_show_config_prints_what_is_left_after_reading(donjon, ini):
    path = ini("for = a b", "env = X=%(_)", "endfor =", "master = true")
    done = donjon("--ini", path, "--show-config", "--no-server")
    shown = done.stderr.partition("[uwsgi]\n")[2].partition(";end of configuration")[0]
    wanted = [line for line in shown.splitlines() if not line.startswith(";")]
    assert wanted == ["env = X=a", "env = X=b", "master = true", "no-server = true"]


def test_no_server_ends_with_zero(donjon):
    assert donjon("--no-server").returncode == 0


def test_an_unknown_option_ends_with_one_line(donjon):
    done = donjon("--procesess", "2")
    assert done.returncode == 1
    assert done.stderr == (
        "donjon: command line: unknown option --procesess (did you mean --processes?)\n"
    )


def test_a_missing_file_ends_with_one_line(donjon):
    done = donjon("--ini", "nowhere.ini")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nowhere.ini" in done.stderr
    assert "No such file" in done.stderr


def test_debug_adds_the_traceback(donjon):
    done = donjon("--ini", "nowhere.ini", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_error_names_file_and_line(donjon, ini):
    path = ini("master = true", "processes = many")
    done = donjon(path)
    assert done.returncode == 1
    assert f"donjon: {path}:3: cannot use processes = many" in done.stderr


def test_an_error_of_options_gives_way_to_the_fallback(donjon, ini):
    reserve = ini("print = reserve", "no-server =", name="reserve.ini")
    path = ini(f"fallback-config = {reserve}", "processes = many")
    done = donjon(path)
    assert done.returncode == 0
    assert done.stdout == "reserve\n"


def test_early_envdir_reaches_the_environment(donjon, ini, tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "COLOUR").write_text("blue\n")
    path = ini(f"early-envdir = {tmp_path}/env", "exec-asap = printenv COLOUR", "no-server =")
    done = donjon(path)
    assert "blue\n" in done.stdout + done.stderr
    assert done.returncode == 0


def test_a_closed_pipe_is_no_traceback():
    line = f"{sys.executable} -m donjon --help | head -1"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_run_takes_a_file_and_flags(donjon, ini):
    path = ini("set = a=file")
    done = donjon("run", path, "--get", "a")
    assert (done.returncode, done.stdout) == (0, "file\n")


@pytest.mark.parametrize("verb", ["run", "emperor"])
def test_a_verb_without_its_argument_is_wrong_usage(donjon, verb):
    done = donjon(verb)
    assert done.returncode == 2
    assert f"usage: donjon {verb}" in done.stderr


@pytest.mark.parametrize("verb", ["run", "emperor"])
def test_a_starting_verb_explains_itself(donjon, verb):
    done = donjon(verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: donjon {verb}")


APP = "def application(e, s):\n    s('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n"


def test_run_serves_an_application(ini, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    address = str(tmp_path / "socket")
    path = ini("master = true", f"http-socket = {address}", f"wsgi-file = {tmp_path}/app.py")
    with subprocess.Popen(
        [sys.executable, "-m", "donjon", "run", str(path)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stderr:
                if "WSGI app 0" in line:
                    break
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            assert answer.endswith(b"ok")
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()
        assert process.wait(20) == 0


def test_a_reload_reads_standard_input_as_it_was(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    text = (
        f"[uwsgi]\nmaster = true\nhttp-socket = {tmp_path}/socket\nwsgi-file = {tmp_path}/app.py\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "donjon", "--ini", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            process.stdin.write(text)
            process.stdin.close()
            for _ in range(2):
                assert any("WSGI app 0" in line for line in process.stderr)
                process.send_signal(signal.SIGHUP)
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()
        assert process.wait(20) == 0


def test_the_configuration_may_come_from_standard_input(donjon):
    done = donjon("--ini", "-", "--get", "a", stdin="[uwsgi]\nset = a=1\n")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_options_may_come_from_the_environment(donjon):
    done = donjon("--get", "env", UWSGI_ENV="A=1")
    assert (done.returncode, done.stdout) == (0, "A=1\n")


def test_the_descriptor_of_an_emperor_that_is_not_there_is_named(donjon):
    done = donjon("--no-server", UWSGI_EMPEROR_FD="77")
    assert done.returncode == 1
    assert "UWSGI_EMPEROR_FD=77" in done.stderr


def test_the_program_is_found_again_from_another_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/donjon"])
    assert cli.program() == str(tmp_path / "bin" / "donjon")
    assert os.path.isabs(cli.program())
