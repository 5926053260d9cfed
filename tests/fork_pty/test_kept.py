"""``donjon attach --keep``: sessions that outlive their client, and who watches them."""

import os
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest
from hosting import wait_for
from operators import Operators
from pty_client import Client

pytestmark = [pytest.mark.root, pytest.mark.slow]

LEAVE = "\\"


@pytest.fixture
def keeping():
    found = Operators(Path("/var/tmp") / f"donjon-kept-{os.getpid()}")
    yield found
    found.close()


def left(client):
    """The status of a client that ends."""
    client.expect(pexpect.EOF)
    client.close()
    return client.exitstatus


def test_a_session_outlives_its_client_and_is_come_back_to(keeping):
    keeping.start()
    client = keeping.attach("shop", "--keep", "repair", rows=31, cols=97)
    client.expect_exact(b"$ ")
    client.sendline(b"stty size; hostname; id -u; word=kept; echo d$((1+1))")
    client.expect_exact(b"31 97\r\ncell\r\n33\r\nd2\r\n")
    client.sendcontrol(LEAVE)
    assert left(client) == 0
    client = keeping.attach("shop", "--keep", "repair", rows=40, cols=120)
    client.expect_exact(b"d2\r\n")  # what was shown
    client.sendline(b"stty size; echo $word")
    client.expect_exact(b"40 120\r\nkept\r\n")
    client.kill(signal.SIGKILL)
    listed = keeping.run("shop", "--list")
    assert listed.stdout.splitlines()[0].split() == [
        "session",
        "number",
        "age",
        "silent",
        "clients",
    ]
    assert listed.stdout.splitlines()[1].split()[:2] == ["repair", "1"]
    client = keeping.attach("shop", "--keep", "repair")
    client.expect_exact(b"kept\r\n")
    client.sendline(b"exit 7")
    assert left(client) == 7
    log = keeping.host.log()
    assert "[terminal] open vassal=shop session=1 name=repair who=uid=0,gid=0,pid=" in log
    assert "[terminal] close vassal=shop session=1" in log


def test_who_drives_is_told_and_the_next_drives_when_he_leaves(keeping):
    keeping.start()
    first = keeping.attach("--keep", "shop")
    first.expect_exact(b"$ ")
    watching = keeping.attach("--watch", "shop")
    watching.expect_exact(b"[donjon: you watch]")
    second = keeping.attach("shop", "--keep")
    second.expect_exact(b"[donjon: you watch]")
    watching.sendline(b"echo never$((1+1))")
    second.sendline(b"echo never$((1+1))")
    first.sendline(b"echo first$((1+1))")
    for client in (first, watching, second):
        client.expect_exact(b"first2\r\n")
        assert b"never2" not in client.before
    first.kill(signal.SIGKILL)
    second.expect_exact(b"[donjon: you drive]")
    second.sendline(b"echo second$((1+1))")
    watching.expect_exact(b"second2\r\n")
    third = keeping.attach("shop", "--take")
    second.expect_exact(b"[donjon: you watch]")
    third.sendline(b"exit 3")
    assert (left(third), left(second), left(watching)) == (3, 3, 3)


def test_a_watcher_in_tmux_sees_it_and_who_stands_still_delays_nothing(keeping, tmp_path):
    keeping.start()
    driver = keeping.attach("shop", "--keep")
    driver.expect_exact(b"$ ")
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    watch = keeping.command("--watch", "shop")
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", *watch], check=True)
    try:

        def shown():
            return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True,
                                  check=False).stdout  # fmt: skip

        wait_for(lambda: "you watch" in shown(), "the watcher")
        driver.sendline(b"printf '\\033[31mred %s\\n' $((40+2))")
        wait_for(lambda: "red 42" in shown(), "what is shown")
        stopped = keeping.attach("shop", "--watch")
        stopped.expect_exact(b"[donjon: you watch]")
        stopped.kill(signal.SIGSTOP)
        driver.sendline(b"head -c 3000000 /dev/zero | tr '\\0' x; echo; echo done$((1+1))")
        driver.expect_exact(b"done2\r\n")
        stopped.kill(signal.SIGCONT)
        stopped.expect_exact(b"too far behind")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    driver.sendline(b"exit")
    assert left(driver) == 0


def test_what_cannot_be_is_a_line_and_a_kept_session_ends_with_its_vassal(keeping, tmp_path):
    keeping.start(f"emperor-terminals = {keeping.host.place}/doors\n")
    told = {
        ("shop", "--watch", "nobody"): "donjon: the router refuses: nothing to watch",
        ("nobody", "--keep"): "donjon: no vassal nobody (known are: shop.ini)",
        (
            "shop",
            "--watch",
            "--",
            "true",
        ): "donjon: --watch begins nothing, so there is no COMMAND",
        ("shop", "--keep", "../x"): "donjon: the router refuses: not a name of a session",
    }
    for words, line in told.items():
        done = keeping.run(*words)
        assert done.stderr.strip().splitlines()[-1] == line
        assert done.returncode in (1, 2)
    done = keeping.run("--record", str(tmp_path), "shop", "--keep")
    assert done.stderr == ("donjon: --keep does not write a record here"
                           " (the Emperor keeps them: emperor-terminals-record = DIR)\n")  # fmt: skip
    done = keeping.run("shop", "--keep", "job", "sh", "-c", "exit 5")
    assert done.returncode == 5
    door = str(keeping.host.place / "doors" / "shop.socket")
    with Client(door, list=True) as client:
        assert client.told("refused")["why"] == "only the operator may ask that"
    with Client(door, command=["id"]) as client:
        assert client.told("refused")["why"] == "only the operator may ask that"
    client = keeping.attach("shop", "--keep")
    client.expect_exact(b"$ ")
    client.sendcontrol(LEAVE)
    assert left(client) == 0
    keeping.host.close_emperor()
    assert "killing vassal" not in keeping.host.log()
    assert "[terminal] close vassal=shop session=" in keeping.host.log()
    assert list(keeping.host.place.glob("control*")) == []
