"""Both routers, both clients, both framings: all the ways a shell is reached."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import termios
from pathlib import Path

import pexpect
import pytest
from hosting import alive, wait_for

pytestmark = pytest.mark.slow

FULL = [
    (router, client, framed)
    for router in ("ours", "originals")
    for client in ("ours", "originals")
    for framed in (False, True)
]


def open_client(place, client, *, framed, **size):
    if client == "ours":
        words = [place.framed] if framed else ["--raw", place.raw]
        return place.connect(*words, **size)
    words = ["--pty-uconnect", place.framed] if framed else ["--pty-connect", place.raw]
    return place.connect_original(*words, **size)


@pytest.mark.uwsgi
@pytest.mark.parametrize(("router", "client", "framed"), FULL)
def test_a_shell_is_reached_by_every_client_at_every_router(place, router, client, framed):
    getattr(place, router)()
    shell = open_client(place, client, framed=framed, rows=33, cols=101)
    shell.expect_exact(b"# ")
    shell.sendline(b"stty size; tty; echo $((6*7)) \xc3\xa4")
    shell.expect_exact(b"33 101" if framed else b"24 80")
    shell.expect(rb"/dev/pts/\d+")
    shell.expect_exact(b"42 \xc3\xa4")
    if framed:
        shell.setwinsize(40, 120)
        wait_for(lambda: size_inside(shell) == b"40 120", "new size")
    shell.sendline(b"exit")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0


def size_inside(shell):
    shell.sendline(b"stty size")
    shell.expect(rb"stty size\r\n(\d+ \d+)\r\n")
    return shell.match[1]


@pytest.mark.parametrize("option", ["--pty-connect", "--pty-uconnect"])
def test_the_options_of_the_original_are_a_client_too(place, option):
    place.ours()
    address = place.framed if option == "--pty-uconnect" else place.raw
    shell = place.donjon(option, address, "--pty-no-isig", rows=29, cols=88)
    shell.expect_exact(b"# ")
    shell.sendline(b"stty size; exit")
    shell.expect_exact(b"29 88" if option == "--pty-uconnect" else b"24 80")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0
    nobody = place.donjon(option, address + "-not")
    nobody.expect(pexpect.EOF)
    assert b"No such file" in nobody.before
    nobody.close()
    assert nobody.exitstatus == 1


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("end", [0, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_clients_terminal_is_as_before(place, framed, end):
    place.ours()
    shell = place.connect(*([place.framed] if framed else ["--raw", place.raw]))
    before = attributes(shell)
    shell.expect_exact(b"# ")
    assert attributes(shell)[3] & termios.ICANON == 0
    if end:
        os.kill(shell.pid, end)
    else:
        shell.send(b"exit\r")
    wait_for(lambda: attributes(shell) == before, f"terminal after {end}")


def attributes(shell):
    return termios.tcgetattr(shell.child_fd)[:4]


def test_the_size_is_right_at_the_first_look(place):
    place.ours("--forkptyrouter-command", "stty size; cat")
    for number in range(5):
        shell = place.connect(place.framed, rows=30 + number, cols=90)
        shell.expect(rb"(\d+ \d+)\r\n")
        assert shell.match[1] == b"%d 90" % (30 + number)
        shell.close()


@pytest.mark.parametrize("framed", [False, True])
def test_a_client_types_and_shows_at_the_same_time(place, framed):
    """A program that writes more than it reads would hold up who only types, for ever."""
    place.ours(
        "--forkptyrouter-command", "stty raw -echo; echo ready; exec sed -u 's/./&&&&&&&&/g'"
    )
    keys = place.path / "keys"
    keys.write_bytes(b"0123456789abcde\n" * 50_000)
    words = [place.framed] if framed else ["--raw", place.raw]
    with (
        keys.open("rb") as typed,
        subprocess.Popen(place.client(*words), stdin=typed, stdout=subprocess.PIPE) as client,
    ):
        try:
            shown = 0
            while shown < 50_000 * (15 * 8 + 1):
                assert select.select([client.stdout], [], [], 15)[0], f"stalls at {shown}"
                shown += len(os.read(client.stdout.fileno(), 65536))
        finally:
            client.kill()


def test_rows_columns_and_command_are_those_of_the_options(place):
    place.ours("--forkptyrouter-rows", "50", "--forkptyrouter-cols", "132",
               "--forkptyrouter-cmd", "stty size; echo done")  # fmt: skip
    assert talk(place.raw) == b"50 132\r\ndone\r\n"


def talk(path, data=b""):
    """Send ``data`` and read to the end."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(path)
        if data:
            link.sendall(data)
        return b"".join(iter(lambda: read(link), b""))


def read(link):
    try:
        return link.recv(65536)
    except ConnectionResetError:
        return b""


def stdin(data):
    return struct.pack("<BHB", 0, len(data), 0) + data


def test_packets_that_come_together_are_all_done(place):
    """uwsgi-facts 4.3 a and b."""
    place.ours()
    size = struct.pack("<BHB", 0, 31, 100) + struct.pack("<BHB", 0, 91, 101)
    text = talk(
        place.framed, size + stdin(b"stty size\n") + stdin(b"echo a$((1+1))\n") + stdin(b"exit\n")
    )
    assert b"31 91\r\n" in text
    assert b"a2\r\n" in text


@pytest.mark.parametrize("name", ["USR1", "USR2", "INT", "TERM", "QUIT"])
def test_signals_reach_the_job_in_the_foreground(place, name):
    """uwsgi-facts 4.3 b and c."""
    place.ours(
        "--forkptyrouter-command",
        f"trap 'echo got; exit' {name}; echo ready; while :; do sleep 0.05; done",
    )
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(place.framed)
        text = b""
        while b"ready" not in text:
            text += link.recv(4096)
        link.sendall(stdin(b"x") + bytes((0, 0, 0, getattr(signal, "SIG" + name))) + stdin(b"y"))
        while b"got" not in text:
            data = link.recv(4096)
            assert data, text
            text += data


@pytest.mark.parametrize("number", [64, 102, 255, 19, 11])
def test_other_numbers_are_no_signals(place, number):
    place.ours()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(place.framed)
        link.sendall(bytes((0, 0, 0, number)) + stdin(b"echo a$((1+1))\n"))
        text = b""
        while b"a2" not in text:
            data = link.recv(4096)
            assert data
            text += data


def test_a_running_job_dies_with_the_connection(place):
    """uwsgi-facts 4.3 c and d, with a newer session that lives."""
    place.ours()
    links = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    try:
        found = []
        for link in links:
            link.settimeout(10)
            link.connect(place.raw)
            link.sendall(
                b"sh -c 'trap \"\" HUP; echo pid $$ x; exec sleep 600' & echo; sleep 601 & echo two $! x; fg\n"
            )
            text = b""
            while text.count(b" x\r\n") < 2:
                text += link.recv(4096)
            found.append([int(w) for w in text.replace(b"\r\n", b" ").split() if w.isdigit()])
        links[0].close()
        wait_for(lambda: not any(alive(p) for p in pids(found[0])), "end of all jobs")
        assert all(alive(p) for p in pids(found[1]))
    finally:
        for link in links:
            link.close()


def pids(numbers):
    return [n for n in numbers if n > 100 and n not in (600, 601)]


def test_a_shell_holds_its_terminal_and_nothing_else(place):
    """uwsgi-facts 4.3 d; security case 2."""
    place.ours()
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for link in (first, second):
            link.settimeout(10)
            link.connect(place.raw)
        second.sendall(b"ls -l /proc/$$/fd; env | cut -d= -f1; exit\n")
        text = b"".join(iter(lambda: read(second), b""))
    ends = [line.split(b"-> ")[1].strip() for line in text.splitlines() if b"-> " in line]
    assert {end for end in ends if not end.startswith(b"/dev/pts/")} <= {b"/dev/tty"}
    assert len(set(ends) - {b"/dev/tty"}) == 1
    assert b"UWSGI" not in text


def test_statistics_are_those_of_the_original(place):
    place.ours("--forkptyrouter-stats", place.stats)
    wait_for(lambda: os.path.exists(place.stats), "statistics")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(place.raw)
        link.recv(100)
        found = json.loads(talk(place.stats))
    assert found["active_sessions"] == 1
    assert set(found) >= {"version", "pid", "uid", "gid", "cwd", "forkptyrouter", "cheap"}
    assert Path(f"/proc/{found['pid']}").exists()


def test_silence_ends_a_session_after_the_timeout(place):
    place.ours("--forkptyrouter-timeout", "1")
    text = talk(place.raw)
    assert b"# " in text
    wait_for(lambda: "[terminal] close" in place.text(), "audit")
