"""``donjon attach``: a terminal of the jail's, shown on the operator's."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import hosting
import pexpect
import pytest
from hosting import wait_for
from operators import Operators

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def attaching():
    place = Path("/var/tmp") / f"donjon-attach-{os.getpid()}"
    found = Operators(place)
    yield found
    found.close()


def test_a_shell_in_the_jail_has_a_terminal_of_the_jails(attaching):
    attaching.start()
    client = attaching.attach("shop", rows=31, cols=97)
    client.expect_exact(b"$ ")
    client.sendline(b"stty size; tty; hostname; id -u; ls -l /dev/pts; echo $TERM d$((1+1))")
    client.expect_exact(b"31 97\r\n/dev/pts/0\r\ncell\r\n33\r\n")
    client.expect(rb"crw--w---- +1 \S+ +tty +136, 0")
    client.expect_exact(b"xterm-256color d2")
    client.setwinsize(40, 120)
    client.sendline(b"stty size")
    client.expect_exact(b"40 120")
    client.sendline(b"exit 7")
    client.expect(pexpect.EOF)
    client.close()
    assert client.exitstatus == 7
    wait_for(lambda: "left the jail of shop.ini" in attaching.host.log(), "its line")
    assert "exit status 7" in attaching.host.log()


def test_job_control_and_keys_work(attaching):
    attaching.start()
    client = attaching.attach("shop")
    client.expect_exact(b"$ ")
    client.sendline(b"sh -c 'echo u$((1))p; read word; echo $word$((1)); exec sleep 600'")
    client.expect_exact(b"u1p\r\n")
    client.sendcontrol("z")
    client.expect_exact(b"Stopped")
    client.sendline(b"fg")
    client.expect_exact(b"fg\r\n")
    client.sendline(b"again")  # nobody else reads before the job goes on
    client.expect_exact(b"again1\r\n")
    client.sendcontrol("c")
    client.expect_exact(b"$ ")
    client.sendline(b"echo status $?")
    client.expect_exact(b"status 130")
    client.sendcontrol("d")
    client.expect(pexpect.EOF)


@pytest.mark.parametrize(("command", "status"), [
    (["sh", "-c", "exit 5"], 5),
    (["sh", "-c", "kill -9 $$"], 137),
    (["nothing-like-this"], 127),
    (["/etc/passwd"], 126),
])  # fmt: skip
def test_the_exit_status_is_the_commands(attaching, command, status):
    attaching.start()
    client = attaching.attach("shop", *command)
    client.expect(pexpect.EOF)
    client.close()
    assert client.exitstatus == status
    said = f"exit status {status}"
    wait_for(lambda: said in attaching.host.log().rpartition("left the jail")[2], "its line")


LATE = """
import os, select, sys
sys.path.insert(0, sys.argv.pop(1))
from hosting import descendants, status, wait_for
from donjon.cli import main
from donjon.fork_pty import attach, shell

receive, show = shell.receive_terminal, attach.show

def receive_late(link):
    found = receive(link)
    wait_for(lambda: status(descendants(os.getpid())[-1])["State"][0] in "SZ", "all it can do")
    return found

def show_late(master, process, *words, **more):
    select.select([process], [], [])
    return show(master, process, *words, **more)

shell.receive_terminal, attach.show = receive_late, show_late
raise SystemExit(main())
"""
"""An operator's command that knows the terminal only when the newcomer waits or has ended, and looks
at it only when the command has ended."""


def test_a_command_may_end_before_anybody_has_looked(attaching):
    attaching.start()
    late = [sys.executable, "-c", LATE, str(Path(hosting.__file__).parent)]
    client = attaching.attach("shop", "sh", "-c", "exit 6", program=late)
    client.expect(pexpect.EOF)
    client.close()
    assert (client.exitstatus, client.before) == (6, b"")


def test_the_status_is_the_commands_where_the_vassal_is_gone(attaching):
    attaching.start()
    client = attaching.attach("shop", "sh", "-c", "echo ready; exec sleep 600")
    client.expect_exact(b"ready")
    (attaching.host.place / "vassals" / "shop.ini").unlink()
    client.expect_exact(b"does not know that you have left")
    client.expect(pexpect.EOF)
    client.close()
    assert client.exitstatus == 137


def test_who_attaches_and_is_ended_hangs_up_first(attaching):
    attaching.start()
    client = attaching.attach(
        "shop", "sh", "-c", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done"
    )
    client.expect_exact(b"ready")
    os.kill(client.pid, signal.SIGTERM)
    client.expect(pexpect.EOF)
    client.close()
    assert client.exitstatus == 9


@pytest.mark.parametrize("command", ["yes", "sleep 601"])
def test_a_window_that_is_closed_leaves_nothing(attaching, command):
    attaching.start()
    shell = f"trap '' HUP; sleep 600 & echo ready; exec {command}"
    client = attaching.attach("shop", "sh", "-c", shell)
    client.expect_exact(b"ready")
    there = wait_for(lambda: jobs(client.pid), "processes")
    client.ptyproc.fileobj.close()
    wait_for(lambda: not any(map(hosting.alive, there)), "their end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_who_attaches_and_is_killed_leaves_nothing(attaching, number):
    attaching.start()
    client = attaching.attach("shop", "sh", "-c", "trap '' HUP; echo ready; sleep 600; sleep 601")
    before = termios.tcgetattr(client.child_fd)[:4]
    client.expect_exact(b"ready")
    there = wait_for(lambda: jobs(client.pid), "processes")
    os.kill(client.pid, number)
    wait_for(lambda: not any(map(hosting.alive, there)), "their end")
    raw = termios.ICANON
    wait_for(lambda: termios.tcgetattr(client.child_fd)[3] & raw, "terminal")
    assert before[1] & termios.OPOST == termios.tcgetattr(client.child_fd)[1] & termios.OPOST


def jobs(caller):
    """Envoy, newcomer, its job and the guard of the terminal."""
    found = hosting.descendants(caller)
    return found if len(found) == 4 else []


def test_the_terminal_comes_back_from_an_operator_that_is_killed(attaching):
    attaching.start()
    client = attaching.attach("shop", "sh", "-c", "echo ready; exec sleep 600")
    client.expect_exact(b"ready")
    there = wait_for(lambda: hosting.descendants(client.pid), "processes")
    os.kill(client.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(hosting.alive, there)), "their end")
    wait_for(lambda: termios.tcgetattr(client.child_fd)[3] & termios.ICANON, "terminal")


INJECT = """
import fcntl, os, termios
for number in (termios.TIOCSTI, 0x5412 | 1 << 32, 0x541C):
    try:
        fcntl.ioctl(0, number & 0xFFFFFFFF, b"x")
        print("pushed", hex(number))
    except OSError as error:
        print("refused", error.errno)
mine = os.ttyname(0)
for path in (os.environ["OPERATOR"], "/proc/1/fd/0"):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NOCTTY))
        print("opened", path, os.environ["OPERATOR"] == mine)
    except OSError as error:
        print("closed", error.errno)
"""


def test_nothing_is_pushed_into_the_operators_terminal(attaching):
    """Security cases 55 and 56."""
    attaching.start()
    main, far = pty.openpty()
    name = os.ttyname(far)
    try:
        done = subprocess.run(
            attaching.command("shop", "env", f"OPERATOR={name}", sys.executable, "-c", INJECT),
            stdin=far, stdout=far, stderr=far, timeout=60, start_new_session=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0
        text = os.read(main, 65536).decode()
    finally:
        os.close(main)
        os.close(far)
    assert text.count("refused") == 3, text
    assert "pushed" not in text
    if name != "/dev/pts/0":
        assert "opened /dev/pts" not in text, text


def test_half_a_terminal_is_refused(attaching):
    attaching.start()
    main, far = pty.openpty()
    try:
        done = subprocess.run(attaching.command("shop", "true"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=far, check=False)  # fmt: skip
        text = os.read(main, 4096)
    finally:
        os.close(main)
        os.close(far)
    assert done.returncode == 1
    assert b"cannot attach with half a terminal: the jail would get yours as its errors" in text
    assert "the operator enters" not in attaching.host.log()


def test_pipes_stay_pipes(attaching):
    attaching.start()
    done = subprocess.run(attaching.command("shop", "sh", "-c", "cat; test -t 0 || exit 4"),
                          input=b"through", capture_output=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (4, b"through")
    wait_for(lambda: "exit status 4" in attaching.host.log(), "its line")


def test_a_session_is_recorded_where_the_jail_cannot_write(attaching, tmp_path):
    """Security case 63."""
    attaching.start()
    records = tmp_path / "records"
    client = attaching.attach("--record", str(records), "shop", rows=20, cols=70)
    client.expect_exact(b"$ ")
    client.sendline(b"stty -echo; read word; echo said; exit")
    client.expect_exact(b"exit\r\n")
    client.sendline(b"secret")
    client.expect(pexpect.EOF)
    (cast,) = records.iterdir()
    head, *events = map(json.loads, cast.read_text().splitlines())
    assert (head["version"], head["width"], head["height"]) == (2, 70, 20)
    text = "".join(what for _, kind, what in events if kind == "o")
    assert "said" in text
    assert "secret" not in cast.read_text()
    assert (cast.stat().st_uid, cast.stat().st_mode & 0o777) == (0, 0o600)
    assert [when for when, _, _ in events] == sorted(when for when, _, _ in events)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_full_screen_programs_work_in_tmux(attaching, tmp_path):
    attaching.start()
    tmux = ["tmux", "-f", "/dev/null", "-S", str(tmp_path / "tmux")]
    command = " ".join(attaching.command("shop"))
    try:
        run(*tmux, "new-session", "-d", "-x", "90", "-y", "28", command)
        wait_for(lambda: "$" in screen(tmux), "prompt")
        run(*tmux, "send-keys", "seq 500 | less", "Enter")
        wait_for(lambda: "1\n2\n3\n" in screen(tmux), "less")
        run(*tmux, "send-keys", "G")
        wait_for(lambda: "500" in screen(tmux), "end of less")
        run(*tmux, "send-keys", "q")
        run(*tmux, "send-keys", "python3 -q", "Enter")
        wait_for(lambda: ">>>" in screen(tmux), "interpreter")
        run(*tmux, "send-keys", "print('ä' * 3, 6 * 7)", "Enter")
        wait_for(lambda: "äää 42" in screen(tmux), "its answer")
    finally:
        run(*tmux, "kill-server")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def screen(tmux):
    return run(*tmux, "capture-pane", "-p")
