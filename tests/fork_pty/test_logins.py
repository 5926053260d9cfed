"""Who may have a session: whom the kernel names, who has a ticket, who logs in."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time

import pytest
from hosting import DONJON, descendants, wait_for
from pty_client import Client

from donjon.fork_pty import protocol
from donjon.fork_pty.protocol import Word

pytestmark = pytest.mark.slow


@pytest.mark.root
def test_strangers_are_refused_unless_named(place):
    """Security case 57."""
    place.path.chmod(0o755)
    for parent in place.path.parents[:2]:
        parent.chmod(0o755)
    place.ours("--chmod-socket=666", "--forkpty-uid", "20001", "--forkpty-gid", "20009")
    try_it = (
        "import socket, sys\n"
        f"s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect({place.raw!r})\n"
        "print(len(s.recv(100)) > 0)\n"
    )

    def asked(user, group):
        return subprocess.run([sys.executable, "-c", try_it], user=user, group=group,
                              extra_groups=[], capture_output=True, text=True, check=False).stdout.strip()  # fmt: skip

    assert asked(20001, 20001) == "True"
    assert asked(20002, 20009) == "True"
    assert asked(20002, 20002) == "False"
    line = next(one for one in place.text().splitlines() if "[terminal] refuse" in one)
    assert "uid=20002,gid=20002" in line
    many = (
        try_it
        + f"for _ in range(100):\n    s = socket.socket(socket.AF_UNIX); s.connect({place.raw!r})\n"
    )
    subprocess.run([sys.executable, "-c", many], user=20002, group=20002, extra_groups=[], check=True)  # fmt: skip
    wait_for(lambda: "[terminal] refuse more=" in place.text(), "a count of what is not told")

    def counted():
        told = [one for one in place.text().splitlines() if "[terminal] refuse " in one]
        more = [int(one.partition("more=")[2].split()[0]) for one in told if "more=" in one]
        return len(told) - len(more) + sum(more) == 102 and len(told) < 102

    wait_for(counted, "all of them")


def ticket(place, *words):
    done = subprocess.run([*DONJON, "ticket", "--key", str(place.path / "key"), *words],
                          capture_output=True, text=True, check=True)  # fmt: skip
    return done.stdout.strip()


def test_a_ticket_lets_in_once_and_here_only(place):
    """Security case 57."""
    key = place.path / "key"
    key.write_text("k" * 40)
    key.chmod(0o600)
    place.ours("--forkpty-auth", "ticket", "--forkpty-ticket-key", str(key))
    here = os.uname().nodename
    good = ticket(place, here, "--user", "anna")
    with Client(place.framed, ticket=good) as client:
        assert client.told("welcome")["role"] == "drive"
    assert "ticket=anna" in place.text()
    late = ticket(place, here, "--seconds", "0")
    other = ticket(place, "other")
    began = time.monotonic()
    for text, why in (
        (good, "a ticket that was used"),
        (late, "an expired ticket"),
        (other, "a ticket of another instance"),
        (good[:-2] + "AA", "not a ticket of this instance's operator"),
        ("", "not a ticket of this instance's operator"),
        ("é.é", "not a ticket of this instance's operator"),
    ):
        with Client(place.framed, ticket=text) as client:
            assert client.told("refused")["why"] == why
    assert time.monotonic() - began > 6 * 1.5, "failures are delayed"
    assert place.text().count("[terminal] refuse") == 6


def test_who_only_may_watch_does_not_drive(place):
    key = place.path / "key"
    key.write_text("k" * 40)
    key.chmod(0o600)
    place.ours("--forkpty-auth", "ticket", "--forkpty-ticket-key", str(key))
    here = os.uname().nodename
    with Client(place.framed, session="t", ticket=ticket(place, here)) as driver:
        driver.told("welcome")
        watching = ticket(place, here, "--role", "watch")
        with Client(place.framed, session="t", take=True, ticket=watching) as client:
            assert client.told("welcome")["role"] == "watch"
            client.link.sendall(bytes((0, 0, 0, 15)) + protocol.ours(Word.TAKE))
            client.type(b"echo i$((1+1))\n")
            driver.type(b"echo j$((1+1))\n")
            driver.until(b"j2")
            assert b"i2" not in driver.text


def test_nothing_is_opened_before_the_login(place):
    key = place.path / "key"
    key.write_text("k" * 40)
    key.chmod(0o600)
    master = place.ours("--forkpty-auth", "ticket", "--forkpty-ticket-key", str(key))
    before = len(descendants(master))
    for path in (place.raw, place.framed):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(0.5)
            link.connect(path)
            link.sendall(struct.pack("<BHB", 0, 5, 0) + b"exit\n")
            with pytest.raises(TimeoutError):
                link.recv(100)
            assert len(descendants(master)) == before


def test_a_login_by_pam_that_fails_is_delayed_and_told(place):
    place.ours("--forkpty-auth", "pam:other")
    began = time.monotonic()
    with Client(place.framed, user="nobody-like-this", password="x") as client:
        assert client.told("refused")["why"] == "login failed"
    assert time.monotonic() - began > 1.5
    assert "user=nobody-like-this" in place.text()
    assert "password" not in place.text()


def test_a_name_that_is_tried_does_not_look_like_another(place):
    place.ours("--forkpty-auth", "pam:other")
    with Client(place.framed, user="x,user=root\nforged", password="x") as client:
        client.told("refused")
    line = next(one for one in place.text().splitlines() if "[terminal] refuse" in one)
    assert ",user='x,user=root\\\\nforged'\"" in line
    assert "forged" not in place.text().replace(line, "")


PASSWORD = "correct horse"


@pytest.fixture
def pam(place):
    """Words before a command: it finds a service ``shells`` of PAM's, and our host does not."""
    checker = place.path / "checker"
    checker.write_text(
        "#!/bin/sh\n"
        "word=$(tr -d '\\0')\n"
        'test "$PAM_USER" != slow || sleep 3\n'
        f'test "$word" = "{PASSWORD}"\n'
    )
    checker.chmod(0o700)
    services = place.path / "services"
    services.mkdir()
    (services / "shells").write_text(
        f"auth required pam_exec.so quiet expose_authtok {checker}\n"
        "auth required pam_permit.so\n"
        "account required pam_permit.so\n"
    )
    mount = f'mount --bind {services} /etc/pam.d && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, "-"]


@pytest.mark.root
def test_a_login_by_pam_with_the_right_password_is_one(place, pam):
    place.ours("--forkpty-auth", "pam:shells", before=pam)
    with Client(place.framed, user="anna", password=PASSWORD) as client:
        assert client.told("welcome")["role"] == "drive"
        client.type(b"echo p$((1+1))\n")
        client.until(b"p2")
    with Client(place.framed, user="anna", password="wrong") as client:
        assert client.told("refused")["why"] == "login failed"
    assert "user=anna" in place.text()
    assert PASSWORD not in place.text()


@pytest.mark.root
def test_logins_of_clients_that_are_gone_count_while_pam_is_asked(place, pam):
    place.ours("--forkpty-auth", "pam:shells", before=pam)
    for _ in range(16):
        with Client(place.framed, user="slow", password="x"):
            pass
    with Client(place.framed, user="anna", password=PASSWORD) as client:
        assert client.told("refused")["why"] == "too many log in"

    def again():
        with Client(place.framed, user="anna", password=PASSWORD) as client:
            client.read()
            return client.news[0]["news"] == "welcome"

    wait_for(again, "room for logins")


HASHED = (  # openssl passwd -6 -salt donjontest 'correct horse'
    "$6$donjontest$vSf90hgOemkdrsuoYVdfBzaM1Yz1yNQHjPm1p/OeYDB7e9YQRAMWuLH8SGSUxK5PrMK.9XqrU0Bxxz"
    "u/EjySy1"
)


@pytest.fixture
def accounts(place):
    """Words before a command: it finds /etc with an account of anna's, and one that is shut."""
    services = place.path / "services"
    services.mkdir()
    (services / "shells").write_text("auth required pam_unix.so\naccount required pam_unix.so\n")
    texts = {
        "passwd": "root:x:0:0::/root:/bin/sh\nanna:x:20001:20001::/:/bin/sh\n"
        "shut:x:20002:20002::/:/bin/sh\n",
        "shadow": f"anna:{HASHED}:19000:0:99999:7:::\nshut:{HASHED}:19000:0:99999:7::1:\n",
    }
    for name, text in texts.items():
        (place.path / name).write_text(text)
        (place.path / name).chmod(0o600 if name == "shadow" else 0o644)
    mounts = [f"mount --bind {place.path / name} /etc/{name}" for name in texts]
    mounts.append(f"mount --bind {services} /etc/pam.d")
    return ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "-"]


@pytest.mark.root
def test_an_account_of_the_system_logs_in_with_its_own_password(place, accounts):
    """What most hosts have: pam_unix, /etc/passwd and /etc/shadow. An expired account is none."""
    place.ours("--forkpty-auth", "pam:shells", before=accounts)
    wrong = (("anna", "wrong"), ("anna", ""), ("nobody", PASSWORD), ("shut", PASSWORD))
    with contextlib.ExitStack() as stack:
        refused = [
            stack.enter_context(Client(place.framed, user=user, password=password))
            for user, password in wrong
        ]
        good = stack.enter_context(Client(place.framed, user="anna", password=PASSWORD))
        assert good.told("welcome")["role"] == "drive"
        good.type(b"echo p$((1+1))\n")
        good.until(b"p2")
        for client in refused:
            assert client.told("refused")["why"] == "login failed"
    assert PASSWORD not in place.text()
