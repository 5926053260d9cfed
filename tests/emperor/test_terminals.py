"""Doors of terminals outside: what becomes of many, of another owner's, and of their porter."""

import contextlib
import json
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hosting import wait_for

from donjon.config.spec import EmperorSpec
from donjon.emperor.reactor import Reactor
from donjon.emperor.terminals import Terminals
from donjon.fd import Fd
from donjon.fork_pty import protocol, remote
from donjon.fork_pty.protocol import Word
from donjon.fork_pty.spec import PAM, Auth, RouterSpec
from donjon.records import replace

pytestmark = [pytest.mark.root]

MANY = 400
"""More than a socket holds words for."""


class Doors:
    """The doors of an Emperor that has no vassal, with a porter that is real."""

    def __init__(self, place, **spec):
        place.chmod(0o755)
        self.place = place
        self.reactor = Reactor()
        self.terminals = Terminals(SimpleNamespace(
            spec=replace(EmperorSpec(), terminals=str(place / "doors"), **spec),
            reactor=self.reactor,
            conduct=SimpleNamespace(note_file=lambda _path: None, unnote_file=lambda _path: None),
            court=SimpleNamespace(vassals={}),
        ))  # fmt: skip
        self.terminals.begin()

    def born(self, name, uid=0):
        found = SimpleNamespace(uid=uid)
        vassal = SimpleNamespace(name=f"{name}.ini", is_zerg=False, found=found)
        self.terminals.born(vassal)
        return vassal

    def close(self):
        self.terminals.close()
        self.reactor.close()

    def path(self, name):
        return f"{self.place}/doors/{name}.socket"

    def until(self, happened, what):
        def look():
            self.reactor.turn(0.05)
            return happened()

        return wait_for(look, what, 60)

    def answer(self, name, **hello):
        """What who knocks at a door is told."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(self.path(name))
            link.sendall(protocol.said(Word.HELLO, **hello))
            link.setblocking(False)
            told = b""

            def is_over():
                nonlocal told
                with contextlib.suppress(BlockingIOError):
                    piece = link.recv(4096)
                    told += piece
                    return not piece
                return False

            self.until(is_over, "an answer")
            return told

    def knock_as(self, uid, name):
        """What another user is told."""
        code = (
            f"import os, socket\nos.setgid({uid})\nos.setuid({uid})\n"
            f"link = socket.socket(socket.AF_UNIX)\nlink.connect({self.path(name)!r})\n"
            f"link.sendall({protocol.said(Word.HELLO)!r})\n"
            "while data := link.recv(4096): print(data)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            self.until(lambda: process.poll() is not None, "an answer")
            return process.stdout.read()


@pytest.fixture
def doors():
    with contextlib.ExitStack() as stack:

        def make(**spec):
            place = stack.enter_context(tempfile.TemporaryDirectory())  # users can go there
            made = Doors(Path(place), **spec)
            stack.callback(made.close)
            return made

        yield make


def test_a_porter_takes_more_doors_than_a_socket_holds_also_all_at_once(doors):
    many = doors()
    for number in range(MANY):
        many.born(f"v{number}")
    assert b"there is no v399.ini any more" in many.answer("v399")
    porter = many.terminals._pid
    os.kill(porter, signal.SIGKILL)
    many.until(lambda: many.terminals._pid not in (-1, porter), "the next porter")
    after = many.terminals._pid
    assert b"there is no v399.ini any more" in many.answer("v399")
    assert b"there is no v0.ini any more" in many.answer("v0")
    assert many.terminals._pid == after


def test_a_door_that_is_shut_before_the_porter_heard_of_it_ends_nothing(doors):
    many = doors()
    vassals = [many.born(f"v{number}") for number in range(MANY)]
    porter = many.terminals._pid
    for vassal in vassals[1:]:
        many.terminals.forget(vassal)
    assert os.listdir(f"{many.place}/doors") == ["v0.socket"]
    assert b"there is no v0.ini any more" in many.answer("v0")
    assert many.terminals._pid == porter


@pytest.fixture
def high():
    """All descriptors below 1100 are taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2000), max(before[1], 2000)))
    with contextlib.ExitStack() as held:
        null = held.enter_context(open(os.devnull))
        while held.enter_context(Fd(os.dup(null.fileno()))).fileno() < 1100:
            pass
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("high")
def test_doors_close_where_many_descriptors_are_open():
    with tempfile.TemporaryDirectory() as place:
        one = Doors(Path(place))
        one.born("shop")
        one.answer("shop")
        one.close()


@pytest.mark.usefixtures("high")
def test_an_end_is_seen_where_many_clients_look_on():
    reader, writer = os.pipe2(os.O_CLOEXEC)
    program = remote.Remote(None, 1, Fd(os.open(os.devnull, os.O_RDWR)), Fd(reader))
    with program.master, Fd(writer) as end:
        assert not program.has_ended()
        os.write(end.fileno(), b"7 ")
        assert program.has_ended()
        assert program.bury() == 7


def test_an_answer_to_a_clerk_that_is_gone_ends_no_porter(doors):
    one = doors()
    one.born("shop")
    porter = one.terminals._pid
    one.terminals._tell(("door", 4711, {"error": "too late"}))
    assert b"there is no shop.ini any more" in one.answer("shop")
    assert one.terminals._pid == porter


def test_a_door_without_a_porter_is_none_and_the_next_birth_is_another_try(
    doors, monkeypatch, capfd
):
    one = doors()
    with monkeypatch.context() as patch:
        nothing = SimpleNamespace(executable=str(one.place / "nothing"))
        patch.setattr("donjon.emperor.terminals.sys", nothing)
        one.born("shop")
    said = f"[emperor] no terminals of shop.ini: {one.path('shop')}: No such file or directory\n"
    assert said in capfd.readouterr().err
    assert os.listdir(f"{one.place}/doors") == []
    one.born("shop")
    assert b"there is no shop.ini any more" in one.answer("shop")


def test_a_door_is_its_new_owner_s_and_no_more_the_old_one_s(doors):
    one = doors(tyrant=True)
    one.born("shop", uid=44441)
    assert b"there is no" in one.knock_as(44441, "shop")
    one.born("shop", uid=44442)
    assert b"there is no" not in one.knock_as(44441, "shop")
    assert b"there is no" in one.knock_as(44442, "shop")


def test_a_path_that_is_the_door_of_another_vassal_stays_that(doors, capfd):
    one = doors()
    one.born("shop")
    one.terminals.born(SimpleNamespace(name="shop.xml", is_zerg=False, found=None))
    path = one.path("shop")
    said = f"[emperor] no terminals of shop.xml: {path}: it is the door of shop.ini\n"
    assert said in capfd.readouterr().err
    assert b"there is no shop.ini any more" in one.answer("shop")


@pytest.mark.parametrize(
    ("name", "door"),
    [
        ("/srv/anna/shop.ini", "srv-anna-shop"),
        ("/srv/anna-b/shop.ini", "srv-anna\\x2db-shop"),
        ("/srv/anna/b-shop.ini", "srv-anna-b\\x2dshop"),
        ("/srv/anna\\x2db/shop.ini", "srv-anna\\x5cx2db-shop"),
        ("my-shop.ini", "my-shop"),
    ],
)
def test_files_of_one_name_in_two_directories_have_two_doors(doors, name, door):
    one = doors()
    one.born("shop")
    one.terminals.born(SimpleNamespace(name=name, is_zerg=False, found=None))
    assert f"there is no {json.dumps(name)[1:-1]} any more".encode() in one.answer(door)
    assert b"there is no shop.ini any more" in one.answer("shop")


def test_operators_are_never_sent_to_another_vassal_s_door(doors, monkeypatch):
    one = doors()
    monkeypatch.setattr("donjon.emperor.terminals.zlib.crc32", lambda _name: 7)
    first, second = (
        SimpleNamespace(name=f"/{'a' * 40}/{at}.ini", is_zerg=False, found=None) for at in "ab"
    )
    control = str(one.place / "control")
    one.terminals.desk(first, control)
    with pytest.raises(FileExistsError, match=r"it is the door of /a+/a.ini"):
        one.terminals.desk(second, control)


@pytest.mark.parametrize("name", ["..", "."])
def test_records_are_below_their_directory_whatever_a_vassal_is_called(doors, name):
    with tempfile.TemporaryDirectory() as place:
        one = doors(terminals_record=f"{place}/records")
        one.born(name)
        one.answer(f"{name}.ini")
        assert os.listdir(f"{place}/records") == [f"{name}.ini"]


def test_a_tenant_s_login_opens_no_other_tenant_s_door(doors, monkeypatch, tmp_path):
    """Every password is right here: whose account it is decides."""
    (tmp_path / "shells").write_text(
        "auth required pam_permit.so\naccount required pam_permit.so\n"
    )
    python = tmp_path / "python"  # whose /etc/pam.d has this service alone
    mount = f'mount --bind {tmp_path} /etc/pam.d && exec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{mount}' - \"$@\"\n")
    python.chmod(0o700)
    monkeypatch.setattr("donjon.emperor.terminals.sys", SimpleNamespace(executable=str(python)))
    one = doors(tyrant=True, terminal_router=RouterSpec(auth=Auth(PAM, "shells")))
    one.born("shop", uid=pwd.getpwnam("daemon").pw_uid)
    assert b"there is no shop.ini" in one.answer("shop", user="daemon", password="x")
    for user in ("nobody", "no-such-account", "daemon\0x"):
        assert b"login failed" in one.answer("shop", user=user, password="x")
