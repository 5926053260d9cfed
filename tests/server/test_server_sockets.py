"""Listening sockets: addresses, owners, modes, errors that say what to do, and the end of them."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from donjon.origin import Origin
from donjon.server.address import ListenError, parse_address
from donjon.server.sockets import Sockets
from donjon.server.spec import Listener, ServerSpec

ORIGIN = Origin("vassal.ini", 3, "socket")


def spec(*addresses: str, **words) -> ServerSpec:
    listeners = tuple(Listener(address, "uwsgi", ORIGIN) for address in addresses)
    return ServerSpec(listeners=listeners, **words)


@pytest.fixture
def sockets():
    made = Sockets()
    yield made
    made.close(vacuum=True)


@pytest.mark.parametrize(
    ("text", "family", "target"),
    [
        ("/run/x.sock", socket.AF_UNIX, "/run/x.sock"),
        ("relative", socket.AF_UNIX, "relative"),
        ("@name", socket.AF_UNIX, b"\0name\0"),
        ("\\0name", socket.AF_UNIX, b"\0name\0"),
        (":8080", socket.AF_INET, ("0.0.0.0", 8080)),
        ("127.0.0.1:0", socket.AF_INET, ("127.0.0.1", 0)),
        ("[::1]:80", socket.AF_INET6, ("::1", 80)),
    ],
)
def test_addresses_are_read_as_the_original_writes_them(text, family, target):
    address = parse_address(text)
    assert (address.family, address.target) == (family, target)


@pytest.mark.parametrize("text", ["", "x" * 103, "@", "host:port", ":65536", "fd://x", "=x", ":"])
def test_what_is_no_address_is_refused_with_its_place(text):
    with pytest.raises(ListenError, match=r"^vassal\.ini:3: socket: cannot listen on"):
        parse_address(text, ORIGIN)


def test_a_name_of_102_characters_is_the_longest(tmp_path, sockets, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sockets.open(spec("s" * 102))
    assert stat.S_ISSOCK(os.stat("s" * 102).st_mode)


def test_an_abstract_name_has_one_nul_at_its_end(sockets):
    sockets.open(spec(f"@donjon-test-{os.getpid()}"))
    name = b"\0donjon-test-%d" % os.getpid()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name + b"\0")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(name)


def test_a_stale_socket_is_replaced(tmp_path, sockets):
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    sockets.open(spec(str(path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_file_that_is_no_socket_is_never_removed(tmp_path, sockets):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="no socket has that name"):
        sockets.open(spec(str(path)))
    assert path.read_text() == "data"


@pytest.mark.root
def test_mode_and_owner_are_set(tmp_path, sockets):
    path = tmp_path / "sock"
    sockets.open(spec(str(path), chmod_socket=0o660, chown_socket="33:daemon"))
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (33, 1)


def test_an_unknown_owner_is_an_error_that_names_it(tmp_path, sockets):
    with pytest.raises(ListenError, match="nosuchuser"):
        sockets.open(spec(str(tmp_path / "sock"), chown_socket="nosuchuser"))


def test_umask_is_that_of_the_option(tmp_path, sockets):
    path = tmp_path / "sock"
    sockets.open(spec(str(path), umask=0o077))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (
            "/nonexistent/dir/sock",
            "No such file or directory (does the directory /nonexistent/dir exist here?)",
        ),
        ("203.0.113.1:0", "Cannot assign requested address (no interface here has that address)"),
        ("fd://999", "Bad file descriptor (that descriptor was not inherited)"),
    ],
)
def test_errors_say_what_where_why_and_what_to_do(sockets, address, words):
    with pytest.raises(ListenError) as caught:
        sockets.open(spec(address))
    assert str(caught.value) == f"vassal.ini:3: socket: cannot bind {address}: {words}"


def test_a_link_that_takes_the_place_of_the_socket_changes_nobodys_mode(tmp_path):
    """Who may write to the directory puts a link there as soon as the socket is bound."""
    path, victim = tmp_path / "s", tmp_path / "victim"
    victim.touch(mode=0o600)
    code = (
        "import os, sys\n"
        "path, victim = sys.argv[1:]\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    if os.path.exists(path) and not os.path.islink(path):\n"
        "        os.symlink(victim, path + '.link'); os.rename(path + '.link', path)\n"
    )
    arguments = [sys.executable, "-c", code, str(path), str(victim)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as swapper:
        try:
            swapper.stdout.readline()
            for _ in range(1000):
                one = Sockets()
                with contextlib.suppress(ListenError):
                    one.open(spec(str(path), chmod_socket=0o666))
                one.close(vacuum=True)
                path.unlink(missing_ok=True)
        finally:
            swapper.kill()
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_one_address_given_twice_is_an_error(sockets):
    with pytest.raises(ListenError, match=r"cannot listen on 127.0.0.1:0 twice"):
        sockets.open(spec("127.0.0.1:0", "127.0.0.1:0"))


def test_an_address_in_use_says_so(sockets):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ListenError, match=r"Address already in use .another program has it"):
            sockets.open(spec(f"127.0.0.1:{other.getsockname()[1]}"))


def test_what_a_failed_call_opened_is_closed_again(tmp_path, sockets):
    with pytest.raises(ListenError):
        sockets.open(spec(str(tmp_path / "good"), "/nonexistent/dir/sock"))
    assert not (tmp_path / "good").exists()


def test_a_queue_longer_than_the_kernel_allows_is_refused(sockets):
    limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
    with pytest.raises(ListenError, match=f"net.core.somaxconn is {limit}"):
        sockets.open(spec("127.0.0.1:0", listen=limit + 1))


def test_vacuum_removes_only_what_is_still_ours(tmp_path):
    ours, stolen = tmp_path / "ours", tmp_path / "stolen"
    sockets = Sockets()
    sockets.open(spec(str(ours), str(stolen)))
    stolen.unlink()
    with socket.socket(socket.AF_UNIX) as thief:
        thief.bind(str(stolen))
        sockets.close(vacuum=True)
    assert not ours.exists()
    assert stolen.exists()


def test_without_vacuum_the_name_stays(tmp_path):
    sockets = Sockets()
    sockets.open(spec(str(tmp_path / "sock")))
    sockets.close(vacuum=False)
    assert (tmp_path / "sock").exists()


def test_a_reload_keeps_the_queue_of_a_socket_that_stays(tmp_path, sockets):
    (first,) = sockets.open(spec("127.0.0.1:0"))
    with socket.create_connection(first.sock.getsockname()) as client:
        (second,) = sockets.open(spec("127.0.0.1:0"))
        sockets.keep((second,))
        assert second.fileno() == first.fileno()
        with second.duplicate() as listener:
            accepted, _ = listener.accept()
        with accepted:
            assert accepted.getpeername() == client.getsockname()


def test_a_shared_socket_is_lent_by_its_number(sockets):
    wanted = ServerSpec(
        listeners=(
            Listener("127.0.0.1:0", "", ORIGIN, shared=True),
            Listener("=0", "http", ORIGIN),
        )
    )
    sockets.bind_shared(wanted)
    (served,) = sockets.open(wanted)
    assert served.protocol == "http"
    assert served.port() > 0
    with pytest.raises(ListenError, match="there is no shared socket 1"):
        sockets.open(ServerSpec(listeners=(*wanted.listeners, Listener("=1", "http", ORIGIN))))


def test_an_inherited_descriptor_is_served(sockets):
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()
        (served,) = sockets.open(spec(f"fd://{given.fileno()}"))
        assert served.port() == given.getsockname()[1]


def test_ipv6_is_bound_alone(sockets):
    (served,) = sockets.open(spec("[::1]:0"))
    assert served.name().startswith("[::1]:")


def test_listeners_do_not_reach_programs_that_are_executed(sockets):
    (served,) = sockets.open(spec("127.0.0.1:0"))
    assert not os.get_inheritable(served.fileno())
