"""What systemd hands to an Emperor and to an instance alone: sockets that it bound, and a watchdog."""

import contextlib
import functools
import os
import signal
import socket
import subprocess

import hosting
import pytest
from empire import wait_for
from patience import patient

HANDED = 'exec 3<&"$1"; shift; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
"""


def handed(link):
    """Words before a program that gets a socket as systemd hands it over."""
    return ["bash", "-c", HANDED, "bash", str(link.fileno())]


def silence(link):
    """Read until nobody says anything for the socket's patience; return what was said."""
    told = []
    with contextlib.suppress(TimeoutError):
        while True:
            told.append(link.recv(4096))
    return told


def has(log, text):
    return text in log.read_text()


@pytest.fixture
def bound(tmp_path):
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(str(tmp_path / "given"))
        link.listen()
        yield link


def test_syd06_a_vassal_starts_at_the_first_connection_to_a_socket_of_systemds(emperor, bound):
    address = str(emperor.place / "given")
    before = os.stat(address)
    emperor.start(
        prefix=handed(bound), pass_fds=[bound.fileno()], on_demand_exec=f"echo {address} ; :"
    )
    emperor.said(f"[emperor] sockets for vassals on demand: {address}")
    path = emperor.vassal("a.ini")
    wait_for(lambda: emperor.row("a.ini")["state"] == "on-demand", "sleep")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        facts = emperor.started("a.ini")
    assert not {"LISTEN_PID", "LISTEN_FDS", "WATCHDOG_USEC"} & set(facts["environ"])
    path.unlink()
    wait_for(lambda: emperor.stats()["vassals"] == [], "the end of the vassal")
    assert emperor.end() == 0
    assert os.path.samestat(os.stat(address), before), "who bound it has it for the next start"


def test_the_watchdog_is_told_that_the_loop_turns(emperor):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.settimeout(patient(10))
        link.bind(str(emperor.place / "notify"))
        environ = {"NOTIFY_SOCKET": str(emperor.place / "notify"), "WATCHDOG_USEC": "200000"}
        emperor.start(environ=environ)
        while link.recv(4096) != b"WATCHDOG=1":
            pass
        emperor.send(signal.SIGSTOP)
        link.settimeout(0.5)
        silence(link)
        emperor.send(signal.SIGCONT)
        link.settimeout(patient(10))
        assert link.recv(4096) == b"WATCHDOG=1"


def test_a_watchdog_of_another_process_is_not_ours_to_feed(emperor):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.settimeout(0.5)
        link.bind(str(emperor.place / "notify"))
        environ = {"NOTIFY_SOCKET": str(emperor.place / "notify"), "WATCHDOG_USEC": "20000"}
        emperor.start(environ={**environ, "WATCHDOG_PID": "1"})
        told = silence(link)
        assert told
        assert b"WATCHDOG=1" not in told


@pytest.mark.parametrize("words", [["--http-socket", "fd://3"], []])
def test_syd06_an_instance_alone_serves_what_it_was_handed(tmp_path, bound, words):
    (tmp_path / "app.py").write_text(APP)
    address = str(tmp_path / "given")
    command = [
        *handed(bound),
        *hosting.DONJON,
        *words,
        "--master",
        "--wsgi-file",
        str(tmp_path / "app.py"),
    ]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[bound.fileno()]
        )
    try:
        wait_for(
            lambda: f"inherited UNIX address {address}" in (tmp_path / "log").read_text(),
            "the socket",
        )
        if words:
            answer = hosting.receive(address, b"GET / HTTP/1.0\r\n\r\n")
            assert answer.endswith(b"well")
        wait_for(lambda: "spawned uWSGI worker" in (tmp_path / "log").read_text(), "a worker")
        for number in (2, 3):  # a second reload asks for it once more
            server.send_signal(signal.SIGHUP)
            done = f"generation {number} serves\n"
            wait_for(functools.partial(has, tmp_path / "log", done), "the reload")
        assert (tmp_path / "log").read_text().count("inherited UNIX") == 1
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(patient(20)) == 0
    assert os.path.exists(address)


def test_syd06_an_emperor_that_is_handed_no_socket_says_so(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        done = subprocess.run(
            [*handed(file), *hosting.DONJON, "emperor", ".", "--emperor-control", "control"],
            cwd=tmp_path, capture_output=True, text=True, timeout=patient(30),
            pass_fds=[file.fileno()], check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "donjon: LISTEN_FDS: descriptor 3 is not a socket that listens: "
        "Socket operation on non-socket (a .socket unit for donjon has ListenStream=)\n"
    )


def test_syd06_an_instance_that_is_not_handed_what_it_was_promised_says_so(tmp_path):
    promised = ["bash", "-c", 'exec 3<&-; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash"]
    done = subprocess.run(
        [*promised, *hosting.DONJON, "--master"],
        cwd=tmp_path, capture_output=True, text=True, timeout=patient(30), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "donjon: LISTEN_FDS: descriptor 3 is not a socket that listens: "
        "Bad file descriptor (a .socket unit for donjon has ListenStream=)"
    )
