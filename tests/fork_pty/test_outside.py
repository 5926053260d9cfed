"""The router outside of jails: who serves, what is kept, and what a jail cannot reach."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import hosting
import pexpect
import pytest
from hosting import wait_for
from pty_client import Client

from donjon import syscalls
from donjon.fork_pty import protocol

pytestmark = [pytest.mark.root, pytest.mark.slow]

FIVE = "fs,ipc,pid,uts,net"
CLIENT = ["-c", "from donjon.fork_pty.client import main; raise SystemExit(main())"]


class Outside:
    """An Emperor with the jailed vassal shop, and its door."""

    def __init__(self, place):
        self.host = hosting.Host(place)
        self.control = str(place / "control")
        self.door = place / "doors" / "shop.socket"
        self.records = place / "records"
        self._clients = []

    def start(self, lines="", vassal="", program=None):
        bind = f"rootfs = host\nbind = {self.host.place}/sockets\n"
        self.host.vassal("shop", f"{bind}uid = 33\ngid = 33\nhostname = cell\n{vassal}")
        self.host.start(f"emperor-control = {self.control}\nemperor-use-clone = {FIVE}\n"
                        f"emperor-terminals = {self.door.parent}\n{lines}", program)  # fmt: skip
        self.host.answer("shop")
        wait_for(self.door.exists, "door")

    def connect(self, *words, rows=24, cols=80):
        env = {**os.environ, "TERM": "xterm-256color"}
        client = pexpect.spawn(sys.executable, [*CLIENT, *words, str(self.door)],
                               dimensions=(rows, cols), timeout=20, env=env)  # fmt: skip
        self._clients.append(client)
        return client

    def verb(self, *words):
        command = [*hosting.DONJON, *words, "--control", self.control]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def lines(self, event):
        """Lines of the audit."""
        found = self.host.log().splitlines()
        return [line for line in found if f"[terminal] {event} " in line]

    def porter(self):
        (found,) = (pid for pid in hosting.children(self.host.pid)
                    if b"emperor.porter" in Path(f"/proc/{pid}/cmdline").read_bytes())  # fmt: skip
        return found

    def pair(self):
        """Clerk and router of the door that is used."""
        (clerk,) = hosting.children(self.porter())
        router = next(pid for pid in hosting.children(clerk)
                      if hosting.status(pid)["Uid"].split()[0] != "0")  # fmt: skip
        return clerk, router

    def casts(self):
        return sorted((self.records / "shop").glob("*.cast"))

    def close(self):
        for client in self._clients:
            client.close(force=True)
        self.host.close()


def fill(path):
    """Write until nothing more is taken."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.fixture
def outside():
    found = Outside(Path("/var/tmp") / f"donjon-outside-{os.getpid()}")
    yield found
    found.close()


def test_a_session_is_in_the_jail_its_router_is_not_and_strangers_have_none(outside):
    outside.start("forkptyrouter-command = /bin/sh\n")
    client = outside.connect(rows=31, cols=97)
    client.expect_exact(b"$ ")
    client.sendline(b"stty size; tty; hostname; id -u; cat /proc/self/cgroup; echo d$((1+1))")
    client.expect_exact(b"31 97\r\n/dev/pts/0\r\ncell\r\n33\r\n")
    client.expect_exact(b"d2")
    client.setwinsize(40, 120)
    client.sendline(b"stty size")
    client.expect_exact(b"40 120")
    clerk, router = outside.pair()
    told = hosting.status(router)
    assert (told["CapEff"], told["CapBnd"], told["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert told["Seccomp"] == "2"
    assert int(told["Uid"].split()[0]) >= 0x7FFF0000
    assert os.listdir(f"/proc/{router}/root") == []
    mortal = Path("/proc/self/oom_score_adj").read_text()
    for pid in (outside.porter(), clerk, router):
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == mortal
    assert hosting.status(clerk)["Uid"].split()[0] == "0"
    client.sendline(b"exit 7")
    client.expect(pexpect.EOF)
    wait_for(lambda: outside.lines("close"), "its line")
    (opened,), (closed,) = outside.lines("open"), outside.lines("close")
    code = (
        f"import os, socket\nos.setgid(44444)\nos.setuid(44444)\n"
        f"link = socket.socket(socket.AF_UNIX)\nlink.connect({str(outside.door)!r})\n"
        "print(link.recv(100))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "b''\n", done.stderr
    (line,) = wait_for(lambda: outside.lines("refuse"), "its line")
    assert "vassal=shop who=uid=44444,gid=44444,pid=" in line
    assert "vassal=shop session=1 name=- who=uid=0,gid=0,pid=" in opened
    assert "vassal=shop session=1" in closed
    assert "status=7" in closed


def test_what_was_shown_is_kept_where_the_jail_cannot_read_it(outside):
    outside.start(f"emperor-terminals-record = {outside.records}\n")
    client = outside.connect()
    client.expect_exact(b"$ ")
    client.sendline(f"ls {outside.records}; stty -echo; echo shown $((40+2))".encode())
    client.expect_exact(b"shown 42")
    client.sendline(b"read -r word; echo done")
    client.sendline(b"secret")
    client.expect_exact(b"done")
    client.setwinsize(40, 120)
    client.sendline(b"exit")
    client.expect(pexpect.EOF)
    wait_for(lambda: outside.lines("close"), "its end")
    (cast,) = outside.casts()
    found = cast.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o600)
    head, *events = [json.loads(line) for line in cast.read_text().splitlines()]
    assert (head["version"], head["width"], head["height"]) == (2, 80, 24)
    text = "".join(text for _, kind, text in events if kind == "o")
    assert "shown 42" in text
    assert "Permission denied" in text, "of the directory of records"
    assert "secret" not in json.dumps(events)
    assert {kind for _, kind, _ in events} <= {"o", "r"}


@pytest.mark.parametrize("known", [True, False], ids=["as-ever", "first-of-its-vassal"])
def test_a_full_disk_marks_a_gap_and_never_stops_the_session(outside, known):
    outside.records.mkdir(mode=0o700, parents=True)
    syscalls.mount("tmpfs", str(outside.records), "tmpfs", 0, "size=64k,nr_inodes=4,mode=700")
    try:
        more = outside.records / ("shop" if known else "more")  # takes the last inode but one
        more.mkdir(mode=0o700)
        (outside.records / "another").touch()
        ballast = outside.records / "ballast"
        fill(ballast)
        outside.start(f"emperor-terminals-record = {outside.records}\n"
                      "emperor-terminals-record-keys = true\n")  # fmt: skip
        client = outside.connect()
        client.expect_exact(b"$ ")
        client.sendline(b"echo lost $((1+1))")
        client.expect_exact(b"lost 2")
        ballast.unlink()
        (outside.records / "another").unlink()

        def kept():
            client.sendline(b"echo kept $((1+2))")
            client.expect_exact(b"kept 3")
            return [cast for cast in outside.casts() if "kept 3" in cast.read_text()]

        (cast,) = wait_for(kept, "the record")
        events = [json.loads(line) for line in cast.read_text().splitlines()][1:]
        assert events[0][1] == "m"
        assert events[0][2].startswith("a gap: ")
        assert "lost 2" not in cast.read_text()
        assert "echo kept" in "".join(text for _, kind, text in events if kind == "i")
        client.sendline(b"exit")
        client.expect(pexpect.EOF)
        outside.close()
    finally:
        syscalls.umount2(str(outside.records), syscalls.MNT_DETACH)


def test_a_ticket_opens_one_door_once_and_sends_signals(outside):
    key = outside.host.place / "key"
    key.write_text("k" * 40)
    key.chmod(0o400)
    outside.start(f"forkpty-auth = ticket\nforkpty-ticket-key = {key}\n")

    def signed(name):
        done = subprocess.run([*hosting.DONJON, "ticket", "--key", str(key), name],
                              capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout.strip()

    good = signed("shop")
    with Client(str(outside.door), ticket=good) as client:
        assert client.told("welcome")["role"] == "drive"
        for number in (signal.SIGINT, signal.SIGTERM):  # the terminal sends one, the clerk one
            client.type(b"sh -c 'echo u$((1+1))p; exec sleep 600'\n")
            client.until(b"u2p")
            client.link.sendall(protocol.signal(number))
            client.until(b"$ ")
            client.type(b"echo s$?\n")
            client.until(f"s{128 + number}".encode())
        client.type(b"trap '' USR1; echo r$((1+1))\n")
        client.until(b"r2")
        client.link.sendall(protocol.signal(signal.SIGUSR1) * 20_000)  # more than a clerk takes
        client.type(b"echo still $((1+1))\n")
        client.until(b"still 2")
    with Client(str(outside.door), ticket=good) as client:
        assert client.told("refused")["why"] == "a ticket that was used"


def test_pam_is_asked_outside_where_all_passwords_can_be_checked(outside):
    """The service is the host's; a jail has none."""
    place = outside.host.place
    (place / "services").mkdir()
    (place / "checker").write_text("#!/bin/sh\ntest $(id -u) = 0 -a \"$(tr -d '\\0')\" = right\n")
    (place / "checker").chmod(0o700)
    (place / "services" / "shells").write_text(
        f"auth required pam_exec.so quiet expose_authtok {place}/checker\n"
        "auth required pam_permit.so\naccount required pam_permit.so\n"
    )
    mount = f'mount --bind {place}/services /etc/pam.d && exec "$@"'
    outside.start("forkpty-auth = pam:shells\n",
                  program=["unshare", "--mount", "sh", "-c", mount, "-", *hosting.DONJON])  # fmt: skip
    with Client(str(outside.door), user="anna", password="right") as client:
        assert client.told("welcome")["role"] == "drive"
        client.type(b"hostname\n")
        client.until(b"cell")
    with Client(str(outside.door), user="anna", password="wrong") as client:
        assert client.told("refused")["why"] == "login failed"
    assert ",user=anna" in outside.lines("open")[0]


def test_nothing_of_a_session_is_left_by_a_client_that_is_killed(outside):
    outside.start()
    client = outside.connect()
    client.expect_exact(b"$ ")
    client.sendline(b"sleep 600 & nohup sleep 600 & echo u$((1))p")
    client.expect_exact(b"u1p")
    clerk, router = outside.pair()
    inside = [pid for pid in hosting.descendants(clerk) if pid != router]
    assert len(inside) >= 4, "envoy, shell, two jobs"
    client.kill(signal.SIGKILL)
    wait_for(lambda: not any(map(hosting.alive, inside)), "their end")
    wait_for(lambda: outside.lines("close"), "its line")


def test_a_vassal_that_ends_ends_its_sessions_and_its_door_waits_for_the_next(outside):
    outside.start()
    client = outside.connect()
    client.expect_exact(b"$ ")
    before = outside.host.master("shop")
    os.kill(before, signal.SIGKILL)
    client.expect(pexpect.EOF)
    wait_for(lambda: outside.host.master("shop") not in (before, -1), "the next", 30)
    outside.host.answer("shop", 30)
    again = outside.connect()
    again.expect_exact(b"$ ")
    (outside.host.place / "vassals" / "shop.ini").unlink()
    again.expect(pexpect.EOF)
    wait_for(lambda: not outside.door.exists(), "the door's end")


def test_a_porter_that_dies_is_replaced_and_a_killed_emperor_leaves_nothing(outside):
    outside.start()
    client = outside.connect()
    client.expect_exact(b"$ ")
    porter = outside.porter()
    below = hosting.descendants(porter)
    os.kill(porter, signal.SIGKILL)
    client.expect(pexpect.EOF)
    wait_for(lambda: not any(map(hosting.alive, below)), "the end of all")
    again = outside.connect()
    again.expect_exact(b"$ ")
    assert "the porter of terminals ended with signal 9" in outside.host.log()
    below = hosting.descendants(outside.porter())
    outside.host.emperor.send_signal(signal.SIGKILL)
    outside.host.emperor.wait(10)
    again.expect(pexpect.EOF)
    wait_for(lambda: not any(map(hosting.alive, below)), "the end of all")
    wait_for(lambda: not outside.door.exists(), "the door's end")


def test_an_emperor_that_is_the_first_process_of_a_container_has_terminals(outside):
    outside.start(program=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                           *hosting.DONJON])  # fmt: skip
    client = outside.connect()
    client.expect_exact(b"$ ")
    client.sendline(b"hostname")
    client.expect_exact(b"cell")
    (first,) = hosting.children(outside.host.pid)
    os.kill(first, signal.SIGINT)  # unshare heeds none
    client.expect(pexpect.EOF)
    outside.host.emperor.wait(60)


def test_a_directory_that_others_write_to_is_refused(outside, tmp_path):
    (tmp_path / "doors").mkdir()
    (tmp_path / "doors").chmod(0o777)
    (tmp_path / "vassals").mkdir()
    done = subprocess.run(
        [*hosting.DONJON, "--emperor", f"{tmp_path}/vassals", "--emperor-terminals",
         f"{tmp_path}/doors", "--emperor-control", f"{tmp_path}/control"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"donjon: cannot use emperor-terminals = {tmp_path}/doors: others can write there"
        f" (chown root {tmp_path}/doors; chmod 755 {tmp_path}/doors)"
    )
