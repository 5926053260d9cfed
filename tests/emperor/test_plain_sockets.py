"""Sockets of plain vassals: made, refused, cleaned up, as an interpreter would."""

import os
import re
import socket
import stat

import pytest
from births import NAMESPACES, descriptors, hosts, is_quiet, listens, worker
from hosting import DONJON, children, receive, wait_for

pytestmark = pytest.mark.root

HTTP = b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def host():
    """One Emperor; each test has vassals of its own."""
    with hosts() as make:
        one = make()
        (one.place / "closed").mkdir(mode=0o755)
        (one.place / "sockets" / "file").write_text("no socket")
        yield start(one)


def start(one):
    one.start(NAMESPACES)
    one.vassal("first", "")
    one.born("first")
    remove(one, "first")
    return one


def write(host, name, address, text="", *, plain=True):
    more = "" if plain else f"pidfile = {host.place}/sockets/{name}.pid\n"
    lines = f"chdir = {host.place}\nhttp-socket = {address}\nwsgi-file = app.py\n{text}{more}"
    host.write(name, lines)


def remove(host, name):
    (host.place / "vassals" / f"{name}.ini").unlink()
    wait_for(
        lambda: not any(row["id"] == f"{name}.ini" for row in host.stats()["vassals"]), "its end"
    )


def free_port(family=socket.AF_INET):
    with socket.socket(family) as probe:
        probe.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        return probe.getsockname()[1]


REFUSED = {
    "closed": ("%(place)s/closed/s", "uid = 20001\n"),
    "missing": ("%(place)s/nowhere/s", "uid = 20001\n"),
    "file": ("%(place)s/sockets/file", ""),
    "no-directory": ("%(place)s/app.py/s", ""),
    "backlog": ("%(place)s/sockets/b", "listen = 1000000\n"),
    "taken": ("127.0.0.1:%(port)s", ""),
    "low-port": ("127.0.0.1:81", "uid = 20001\ncap = sys_nice\n"),
    "no-address": ("192.0.2.77:8099", ""),
    "no-host": ("no-such-host.invalid:8099", ""),
    "second": ("%(place)s/sockets/first\nhttp-socket = %(place)s/closed/s", "uid = 20001\n"),
    "chdir": ("%(place)s/sockets/c", "chdir = /no/such/place\n"),
    "as": ("%(place)s/sockets/n", "limit-as = 10\n"),
    "nproc": ("%(place)s/sockets/n", "uid = 20077\nlimit-nproc = 1\n"),
    "user": ("%(place)s/sockets/u", "uid = no-such-user\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_said_in_the_same_words_and_leaves_nothing(host, name):
    errors, before = [], None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {"place": host.place, "port": taken.getsockname()[1]}
        for plain in (True, False):
            before = before or (descriptors(host.pid), descriptors(host.spawner()))
            address, text = (part % values for part in REFUSED[name])
            write(host, f"r-{name}", address, text, plain=plain)
            error = host.error(f"r-{name}")
            assert "\n" not in error
            errors.append(re.sub(r"\bfd \d+", "fd N", error))
            remove(host, f"r-{name}")
    assert errors[0] == errors[1]
    wait_for(lambda: len(children(host.pid)) == 1, "no process left")
    after = descriptors(host.pid), descriptors(host.spawner())
    assert after == before
    assert not [
        path for path in os.listdir(host.place / "sockets") if path in {"b", "c", "u", "s"}
    ]


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "other"])
@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("chmod-socket = 600\n", 0o600),
        ("chmod-socket = true\n", 0o666),
        ("umask = 077\n", 0o700),
        ("", 0o755),
    ],
    ids=["mode", "everybody", "umask", "nothing"],
)
def test_the_file_of_a_socket_has_the_mode_that_was_asked_for(host, plain, text, mode):
    address = host.place / "sockets" / f"mode-{plain}-{mode:o}"
    write(host, address.name, address, f"uid = 20001\n{text}", plain=plain)
    wait_for(lambda: receive(address, HTTP), "an answer")
    assert stat.S_IMODE(address.stat().st_mode) == mode
    assert address.stat().st_uid == 20001
    remove(host, address.name)


def test_an_abstract_name_is_the_originals(host):
    for plain in (True, False):
        name = f"donjon-{os.getpid()}-{plain}"
        write(host, f"abstract-{plain}", f"@{name}", "uid = 20001\n", plain=plain)
        wait_for(lambda n=name: receive(f"\0{n}\0", HTTP), "an answer")
        assert is_quiet(host.known(f"abstract-{plain}")) is plain
        remove(host, f"abstract-{plain}")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
def test_tcp_is_served_by_a_plain_vassal(host, family):
    port = free_port(family)
    bare = "127.0.0.1" if family == socket.AF_INET else "::1"
    address = f"{bare}:{port}" if family == socket.AF_INET else f"[{bare}]:{port}"
    name = f"tcp-{port}"
    write(host, name, address, "uid = 20001\n")
    host.said(f"bound to TCP address {address}")
    wait_for(lambda: listens((bare, port)), "a listener")
    with socket.create_connection((bare, port)) as client:
        client.sendall(HTTP)
        assert b" 200 " in client.recv(100)
    assert is_quiet(host.known(name))
    remove(host, name)
    write(host, name, address, "uid = 20001\n")
    wait_for(lambda: listens((bare, port)), "the same port again")
    remove(host, name)


def test_two_vassals_share_a_port_only_if_both_say_so(host):
    port = free_port()
    for name in ("one", "two"):
        write(host, f"port-{name}", f"127.0.0.1:{port}", "reuse-port = true\n")
        wait_for(lambda name=name: is_quiet(host.known(f"port-{name}")), "a master")
    wait_for(
        lambda: all(row["ready"] for row in host.stats()["vassals"] if "port-" in row["id"]),
        "both",
    )
    write(host, "port-three", f"127.0.0.1:{port}")
    assert "Address already in use" in host.error("port-three")
    for name in ("one", "two", "three"):
        remove(host, f"port-{name}")


@pytest.mark.parametrize("woken", [False, True], ids=["waiting", "woken"])
@pytest.mark.parametrize("vacuum", [False, True], ids=["stays", "vacuum"])
def test_a_socket_is_removed_at_the_end_if_that_was_asked_for(host, woken, vacuum):
    name = f"vacuum-{woken}-{vacuum}"
    host.vassal(name, "uid = 20001\n" + "vacuum = true\n" * vacuum)
    master = host.born(name)
    if woken:
        old = worker(master)
        os.utime(host.place / "vassals" / f"{name}.ini", (5, 5))
        wait_for(lambda: len(children(master)) == 1 and children(master) != [old], "a reload")
    remove(host, name)
    assert host.sock(name).exists() is not vacuum


def test_a_socket_that_another_one_made_meanwhile_stays(host):
    host.vassal("usurped", "uid = 20001\nvacuum = true\n")
    host.born("usurped")
    path = host.sock("usurped")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        remove(host, "usurped")
        assert stat.S_ISSOCK(path.stat().st_mode)


def test_a_stale_socket_is_replaced_and_a_relative_one_found_again(host):
    path = host.place / "sockets" / "stale"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    write(host, "stale", "sockets/stale", "vacuum = true\n")
    wait_for(lambda: receive(path, HTTP), "an answer")
    assert is_quiet(host.known("stale"))
    remove(host, "stale")
    assert not path.exists()


def test_a_heart_beats_from_a_plain_vassal(new_births):
    host = new_births(f"{NAMESPACES}emperor-required-heartbeat = 3\n")
    host.vassal("beating", "uid = 20001\nheartbeat = 1\n")
    master = host.born("beating")
    wait_for(lambda: host.stats()["vassals"][0]["last_heartbeat"], "a heartbeat", 5)
    assert is_quiet(master)
    assert host.master("beating") == master


def test_a_host_that_allows_short_queues_only_is_told_of_longer_ones_and_serves(new_births):
    host = new_births()
    short = 'echo 50 > /proc/sys/net/core/somaxconn; exec "$@"'
    host.start(NAMESPACES, ["unshare", "-n", "sh", "-c", short, "sh", *DONJON])
    host.vassal("short", "uid = 20001\nlisten = 50\n")
    assert is_quiet(host.born("short"))
    host.vassal("long", "uid = 20001\nlisten = 51\n")
    host.said("cannot listen")
