"""Sessions of a router inside a jail are as confined as the vassal; records outlive a full disk."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import hosting
import pytest
from hosting import wait_for

from donjon import syscalls
from donjon.errors import DonjonError
from donjon.fork_pty import protocol, record, ticket
from donjon.fork_pty.limits import Rate
from donjon.fork_pty.record import Record

KINDS = ("mnt", "pid", "uts", "ipc", "net", "cgroup")
FACTS = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


@pytest.fixture
def host():
    one = hosting.Host(Path("/var/tmp") / f"donjon-shells-{os.getpid()}")
    yield one
    one.close()


def confinement(pid):
    found = hosting.status(pid)
    return {
        **{name: found.get(name) for name in FACTS},
        **{kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS},
        "cgroup": Path(f"/proc/{pid}/cgroup").read_text(),
    }


@pytest.mark.root
@pytest.mark.slow
def test_a_vassal_behind_walls_gets_the_router_that_its_file_asks_for_later(host):
    door, root = host.place / "sockets" / "shell", host.place / "root"
    root.mkdir()
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    shown = ("/usr", str(host.place / "sockets"), str(host.place / "app.py"))
    binds = "".join(f"bind = {path}\n" for path in shown)
    jail = f"rootfs = {root}\nruntime-mount = false\n{binds}uid = 33\ngid = 33\n"
    host.vassal("shop", jail)
    host.start("emperor-use-clone = fs,ipc,pid,uts,net\n")
    host.answer("shop")
    host.vassal("shop", f"{jail}forkpty-router = {door}\nforkptyrouter-command = echo here\n")

    def said():
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(door))
            return b"".join(iter(lambda: link.recv(4096), b""))

    assert b"here" in wait_for(said, "the shell")
    assert "No module" not in host.log()


@pytest.mark.root
@pytest.mark.slow
def test_a_session_is_as_confined_as_the_vassal(host):
    """Security cases 2, 41, 45, 48."""
    door = host.place / "sockets" / "shell"
    host.vassal("shop", f"rootfs = host\nbind = {host.place}/sockets\nuid = 33\ngid = 33\n"
                f"hostname = cell\nforkpty-urouter = {door}\n"
                "forkptyrouter-command = echo here; exec sleep 600\n")  # fmt: skip
    host.start("emperor-use-clone = fs,ipc,pid,uts,net\n")
    host.answer("shop")
    wait_for(door.exists, "router")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(15)
        link.connect(str(door))
        link.sendall(protocol.window(20, 70))
        text = b""
        while b"here" not in text:
            data = link.recv(4096)
            assert data, host.log()[-2000:]
            text += data
        master = host.master("shop")
        (inside,) = wait_for(lambda: sleepers(master), "program")
        assert confinement(inside) == confinement(master)
        ends = set(hosting.held(inside).values())
        assert ends == {"/dev/pts/0"}
        names = Path(f"/proc/{inside}/environ").read_bytes()
        assert b"UWSGI" not in names
    wait_for(lambda: not hosting.alive(inside), "its end")
    assert "[terminal] open session=1" in host.log()


@pytest.mark.root
@pytest.mark.slow
def test_a_ticket_names_the_vassal_whatever_its_jail_is_called(host):
    key, door = host.place / "key", host.place / "sockets" / "shell"
    key.write_text("k" * 40)
    key.chmod(0o400)
    os.chown(key, 33, 0)
    host.vassal("our.shop", f"rootfs = host\nbind = {host.place}/sockets\nbind = {key}\n"
                f"uid = 33\ngid = 33\nhostname = cell\nforkpty-urouter = {door}\n"
                f"forkpty-auth = ticket\nforkpty-ticket-key = {key}\n")  # fmt: skip
    host.start("emperor-use-clone = fs,ipc,pid,uts\n")
    host.answer("our.shop")
    wait_for(door.exists, "router")
    for name, wanted in (("cell", b"a ticket of another instance"), ("our.shop", b"welcome")):
        done = subprocess.run([*hosting.DONJON, "ticket", "--key", str(key), name],
                              capture_output=True, text=True, check=True)  # fmt: skip
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(15)
            link.connect(str(door))
            link.sendall(protocol.said(protocol.Word.HELLO, ticket=done.stdout.strip()))
            assert wanted in link.recv(4096)


def sleepers(master):
    return [pid for pid in hosting.descendants(master)
            if os.readlink(f"/proc/{pid}/exe").endswith(("/sleep", "/coreutils"))]  # fmt: skip


@pytest.mark.root
def test_a_full_disk_marks_a_gap_and_stops_nothing(tmp_path):
    """Security case 63."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    syscalls.mount("tmpfs", str(disk), "tmpfs", 0, "size=64k,mode=700")
    try:
        ballast = disk / "ballast"
        written = Record(str(disk), "shop", 24, 80)
        written.output("before é".encode())
        ballast.write_bytes(bytes(48 << 10))
        for _ in range(100):
            written.output(b"y" * 1000)
        ballast.unlink()
        written.output(b"after")
        written.close()
        (cast,) = disk.glob("*.cast")
        events = [json.loads(line) for line in cast.read_text().splitlines()][1:]
    finally:
        syscalls.umount2(str(disk))
    kinds = [kind for _, kind, _ in events]
    assert events[0][2] == "before é"
    assert events[-1][2] == "after"
    assert kinds.count("m") == 1
    lost = int(next(text for _, kind, text in events if kind == "m").split()[2])
    assert lost + sum(len(text) for _, kind, text in events if kind == "o") == 100_000 + 8 + 5


@pytest.mark.root
def test_a_disk_that_is_full_at_the_end_of_a_part_gets_no_empty_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "FILE_MAX", 4096)
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    syscalls.mount("tmpfs", str(disk), "tmpfs", 0, "size=16k,mode=700")
    try:
        (disk / "ballast").write_bytes(bytes(12 << 10))
        with contextlib.closing(Record(str(disk), "shop", 24, 80)) as written:
            for _ in range(50):
                written.output(b"y" * 1000)
            parts = list(disk.glob("*.cast"))
            (disk / "ballast").unlink()
            written.output(b"z" * 1000)
        last = max(disk.glob("*.cast"), key=lambda cast: int(cast.stem.rpartition("-")[2]))
        events = [json.loads(line) for line in last.read_text().splitlines()][1:]
    finally:
        syscalls.umount2(str(disk))
    assert len(parts) == 1
    assert [kind for _, kind, _ in events] == ["m", "o"]


def test_records_go_on_in_parts_and_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "FILE_MAX", 1000)
    monkeypatch.setattr(record, "ALL_MAX", 3000)
    written = Record(str(tmp_path / "r"), "shop", 24, 80)
    for _ in range(100):
        written.output(b"z" * 90)
    written.close()
    found = list((tmp_path / "r").iterdir())
    assert 2 <= len(found) <= 5
    for cast in found:
        assert json.loads(cast.read_text().splitlines()[0])["version"] == 2
        assert cast.stat().st_size <= 1000


def test_a_directory_that_others_write_to_is_refused(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r").chmod(0o777)
    with pytest.raises(DonjonError, match="others can write there"):
        Record(str(tmp_path / "r"), "shop", 24, 80)


def test_a_key_that_is_short_or_everybodys_is_refused(tmp_path):
    key = tmp_path / "key"
    key.write_text("short")
    key.chmod(0o600)
    with pytest.raises(DonjonError, match="32 are the least"):
        ticket.read_key(str(key))
    key.chmod(0o604)
    with pytest.raises(DonjonError, match="everybody's"):
        ticket.read_key(str(key))


def test_a_rate_allows_its_count_within_a_second_and_more_later():
    rate = Rate(3)
    assert [rate.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert rate.take(100.4)
    assert not rate.take(100.4)


def test_a_ticket_that_a_panel_wrote_wrongly_is_one_that_is_not_good():
    key = b"k" * 40
    for body in (b"[]", b"{}", b"x", b'{"roles": ["king"]}'):
        head = "v1." + ticket._encode(body)
        with pytest.raises(ticket.TicketError, match="wrote wrongly"):
            ticket.verify(f"{head}.{ticket._encode(ticket._sign(head, key))}", key)


@pytest.mark.parametrize("expires", [1000.0 + ticket.LONGEST + 1, float("inf"), float("nan")])
def test_a_ticket_is_good_for_a_day_at_most_whatever_its_signer_wrote(expires):
    key = b"k" * 40
    gate = ticket.Gate("shop", key)
    text = ticket.issue(ticket.Ticket("shop", "anna", (), expires), key)
    with pytest.raises(ticket.TicketError, match="too long a time"):
        gate.admit(text, 1000.0)
    longest = ticket.Ticket("shop", "anna", (), 1000.0 + ticket.LONGEST)
    assert gate.admit(ticket.issue(longest, key), 1000.0).user == "anna"


FAKES = {"file": "touch fake", "fifo": "mkfifo fake", "device": "touch fake; fake=/dev/null"}


@pytest.mark.root
@pytest.mark.parametrize("fake", FAKES)
def test_a_ptmx_that_is_none_is_refused(tmp_path, fake):
    """Whoever is root in a jail may put what he likes there."""
    script = (
        f'fake=fake; {FAKES[fake]}; mount --bind "$fake" /dev/ptmx && exec "$0" -c '
        '"from donjon.fork_pty.shell import open_terminal; open_terminal(24, 80)"'
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, sys.executable], cwd=tmp_path,
                          capture_output=True, text=True, timeout=20, check=False)  # fmt: skip
    assert "No such device: '/dev/ptmx'" in done.stderr
