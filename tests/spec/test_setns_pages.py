"""``setns-socket`` and ``setns``: given and joined, ours and the original's, known and unknown."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

import hosting
import pytest

from donjon.jail import setns

pytestmark = [pytest.mark.root, pytest.mark.slow]
KINDS = ("net", "uts", "ipc", "mnt", "pid", "user")
UNSHARED = {"net", "uts", "ipc"}


def kinds(pid: int | str = "self") -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}


@pytest.fixture
def place(new_host):
    return new_host().place


@pytest.fixture
def run(place):
    """Start programs; all are ended after the test."""
    started = []

    def start(command, lines, name):
        config = place / f"{name}.ini"
        config.write_text(f"[uwsgi]\n{lines}")
        with (place / f"{name}.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [*command, "--ini", str(config)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place,
                )
            )  # fmt: skip
        return started[-1]

    yield start
    for one in started:
        one.send_signal(signal.SIGINT)
        try:
            one.wait(10)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


UWSGI = ["uwsgi", "--plugin", "python3"]


def giver_lines(place, more=""):
    return (
        f"unshare = net,ipc,uts\nsetns-socket = {place}/ns.socket\nmaster = true\n"
        f"http-socket = {place}/giver.sock\nwsgi-file = {place}/app.py\nneed-app = true\n{more}"
    )


def joiner_lines(place, path="", more=""):
    return (
        f"setns = {path or place / 'ns.socket'}\nexec-pre-jail = readlink "
        + " ".join(f"/proc/self/ns/{kind}" for kind in KINDS)
        + f" > {place}/seen.new; mv {place}/seen.new {place}/seen; exit 1\n{more}"
        f"http-socket = {place}/joiner.sock\n"
    )


def seen(place) -> dict[str, str]:
    hosting.wait_for((place / "seen").exists, "the joiner")
    return dict(zip(KINDS, (place / "seen").read_text().split(), strict=True))


def log_of(place, name):
    return (place / f"{name}.log").read_text()


PAIRS = [
    pytest.param(hosting.DONJON, hosting.DONJON, id="ours-ours"),
    pytest.param(hosting.DONJON, UWSGI, id="ours-original", marks=pytest.mark.uwsgi),
    pytest.param(UWSGI, hosting.DONJON, id="original-ours", marks=pytest.mark.uwsgi),
]


@pytest.mark.parametrize(("giver", "joiner"), PAIRS)
def test_sns_01_and_02_the_second_process_is_in_the_namespaces_of_the_first(
    place, run, giver, joiner
):
    one = run(giver, giver_lines(place), "giver")
    hosting.wait_for((place / "ns.socket").exists, "the socket")
    two = run(joiner, joiner_lines(place), "joiner")
    found = seen(place)
    assert found == kinds(one.pid)
    assert {kind for kind in KINDS if found[kind] != kinds()[kind]} == UNSHARED
    assert two.wait(10) == 1, "its hook failed, as it was told to"


@pytest.mark.parametrize(("giver", "joiner"), PAIRS)
def test_a_namespace_that_is_skipped_is_not_given(place, run, giver, joiner):
    lines = giver_lines(place, "setns-socket-skip = uts\nsetns-socket-skip = ipc\n")
    one = run(giver, lines, "giver")
    hosting.wait_for((place / "ns.socket").exists, "the socket")
    run(joiner, joiner_lines(place), "joiner")
    found = seen(place)
    assert {kind for kind in KINDS if found[kind] != kinds()[kind]} == {"net"}
    assert found["net"] == kinds(one.pid)["net"]


def received(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.settimeout(10)
        data, numbers = setns.receive(client)
    links = [os.readlink(f"/proc/self/fd/{number}") for number in numbers]
    for number in numbers:
        os.close(number)
    return data, links


@pytest.mark.uwsgi
def test_the_bytes_and_the_order_are_the_originals(place, run):
    answers = []
    for name, command in (("ours", hosting.DONJON), ("theirs", UWSGI)):
        (place / name).mkdir()
        shutil.copy(place / "app.py", place / name)
        run(command, giver_lines(place / name).replace("unshare = net,ipc,uts\n", ""), name)
        path = place / name / "ns.socket"
        hosting.wait_for(path.exists, "the socket")
        hosting.wait_for(lambda path=path: os.stat(path).st_mode & 0o777 == 0o600, "the mode")
        answers.append(received(path))
    assert answers[0] == answers[1]
    assert answers[0][0] == b"uwsgi-setns" + struct.pack("=i", len(answers[0][1]))


@pytest.mark.parametrize("preopen", [True, False])
def test_sns_03_with_preopen_the_giver_runs_without_root(place, run, preopen):
    (place / "sockets").chmod(0o777)
    more = "uid = 33\ngid = 33\n" + ("setns-preopen = true\n" if preopen else "")
    lines = giver_lines(place, more).replace(f"{place}/ns.socket", f"{place}/sockets/ns")
    lines = lines.replace(f"{place}/giver.sock", f"{place}/sockets/giver")
    one = run(hosting.DONJON, lines, "giver")
    path = place / "sockets" / "ns"
    hosting.wait_for(path.exists, "the socket")
    assert hosting.status(one.pid)["Uid"].split() == ["33"] * 4
    _, links = received(path)
    given = [kind for kind in ("net", "ipc", "uts") if kinds(one.pid)[kind] in links]
    assert given == ["net", "ipc", "uts"]
    if preopen:
        held = [
            link for pid in hosting.descendants(one.pid) for link in hosting.held(pid).values()
        ]
        assert not [link for link in held if link.startswith(("net:", "mnt:"))], (
            "no worker has them"
        )


def as_uid(uid, action):
    """What ``action`` returns, in bytes, in a process of another user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.write(writer, repr(action()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return data.decode()


def first_bytes(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(str(path))
            return client.recv(15)
        except OSError as error:
            return error.strerror


def test_who_is_not_known_gets_nothing_and_a_line_in_the_log(place, run):
    run(hosting.DONJON, giver_lines(place, "setns-socket-uid = 20001\n"), "giver")
    path = place / "ns.socket"
    hosting.wait_for(path.exists, "the socket")
    assert as_uid(20002, lambda: first_bytes(path)) in ("b''", "'Connection reset by peer'")
    hosting.wait_for(
        lambda: "refused our namespaces to uid 20002 (process " in log_of(place, "giver"),
        "the line",
    )
    assert as_uid(20001, lambda: first_bytes(path)[:11]) == "b'uwsgi-setns'"


def test_a_reload_that_lets_others_in_opens_the_door(place, run):
    one = run(hosting.DONJON, giver_lines(place), "giver")
    path = place / "ns.socket"
    hosting.wait_for(path.exists, "the socket")
    assert path.stat().st_mode & 0o777 == 0o600
    with (place / "giver.ini").open("a") as file:
        file.write("setns-socket-uid = 20001\n")
    one.send_signal(signal.SIGHUP)
    hosting.wait_for(lambda: path.stat().st_mode & 0o777 == 0o666, "the open door")
    assert as_uid(20001, lambda: first_bytes(path)[:11]) == "b'uwsgi-setns'"


def test_a_socket_for_nobody_else_cannot_even_be_opened_by_others(place, run):
    run(hosting.DONJON, giver_lines(place), "giver")
    path = place / "ns.socket"
    hosting.wait_for(path.exists, "the socket")
    assert as_uid(20002, lambda: first_bytes(path)) == "'Permission denied'"


@pytest.fixture
def stranger(place):
    """A process of uid 20001 that hands out its namespaces."""
    path = place / "sockets" / "strange"
    (place / "sockets").chmod(0o777)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(20001, 20001, 20001)
        os.setresuid(20001, 20001, 20001)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            os.write(told, b"1")
            while True:
                peer, _ = server.accept()
                with contextlib.suppress(OSError):  # it hung up
                    setns.give(peer, setns.open_own(set(setns.NAMES) - {"uts"}))
                peer.close()
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    yield path
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_namespaces_of_a_stranger_are_not_joined(place, run, stranger):
    run(hosting.DONJON, joiner_lines(place, stranger), "joiner").wait(10)
    assert not (place / "seen").exists()
    said = f"refusing the namespaces that {stranger} gives: they are those of uid 20001 (process "
    assert said in log_of(place, "joiner")
    assert "(setns-socket-uid = 20001, if they can be trusted)" in log_of(place, "joiner")
    run(hosting.DONJON, joiner_lines(place, stranger, "setns-socket-uid = 20001\n"), "joiner")
    assert seen(place) == kinds()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "setns-socket = 127.0.0.1:3031",
            "not a unix socket, and nothing else carries descriptors",
        ),
        ("setns-socket-skip = moon", "not one of net, uts, ipc"),
        ("setns-socket-uid = nobody-here", "no such name on this host"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(place, run, line, reason):
    assert run(hosting.DONJON, f"{line}\n", "bad").wait(10) == 1
    (said,) = [text for text in log_of(place, "bad").splitlines() if "donjon:" in text]
    assert f"bad.ini:2: cannot use {line}: {reason}" in said


def test_an_abstract_socket_has_the_originals_name(place, run):
    name = f"donjon-ns-{os.getpid()}"
    lines = giver_lines(place).replace(f"{place}/ns.socket", f"@{name}")
    one = run(hosting.DONJON, lines.replace("unshare = net,ipc,uts", "unshare = ipc,uts"), "giver")
    hosting.wait_for(lambda: name in Path("/proc/net/unix").read_text(), "the socket")
    run(hosting.DONJON, joiner_lines(place, f"@{name}"), "joiner")
    assert seen(place) == kinds(one.pid)
