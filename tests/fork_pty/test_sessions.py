"""With whom a session is shared, how many there are, and how they end."""

import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pexpect
import pytest
from hosting import alive, descendants, held, status, wait_for
from pty_client import Client

from donjon.fork_pty import protocol
from donjon.fork_pty.protocol import Word

pytestmark = pytest.mark.slow


def test_the_status_of_the_program_is_told(place):
    place.ours("--forkptyrouter-command", "exit 9; true")
    with Client(place.framed, rows=30, cols=99) as client:
        assert client.told("welcome")["role"] == "drive"
        assert client.told("end")["status"] == 9


def test_one_drives_and_others_watch_until_he_leaves(place):
    """Security case 61."""
    place.ours()
    with Client(place.framed, session="a") as first, Client(place.framed, session="a") as second:
        assert first.told("welcome")["role"] == "drive"
        assert second.told("welcome")["role"] == "watch"
        with Client(place.framed, session="a", watch=True) as third:
            assert third.told("welcome")["role"] == "watch"
            second.type(b"echo intruder$((1+1))\n")
            third.link.sendall(protocol.window(77, 77) + bytes((0, 0, 0, 9)))
            first.type(b"stty size; echo a$((1+1))\n")
            for each in (first, second, third):
                each.until(b"24 80")
                each.until(b"a2")
                assert b"intruder" not in each.text
            first.link.close()
            assert second.told("role")["role"] == "drive"
            second.type(b"echo b$((1+1))\n")
            third.until(b"b2")
            second.link.close()
            assert "status" in third.told("end")


def test_driving_is_taken_by_who_asks(place):
    place.ours()
    with Client(place.framed, session="a") as first:
        first.told("welcome")
        with Client(place.framed, session="a", take=True) as second:
            assert second.told("role")["role"] == "drive"
            assert first.told("role")["role"] == "watch"
            first.type(b"echo c$((1+1))\n")
            second.type(b"echo d$((1+1))\n")
            first.until(b"d2")
            assert b"c2" not in first.text


def test_a_kept_session_is_found_again_with_what_it_showed(place):
    """Security case 64."""
    place.ours()
    with Client(place.framed, session="k", keep=True) as client:
        client.type(b"echo e$((1+1))\n")
        client.until(b"e2")
    with Client(place.framed, session="k", rows=44, cols=111) as client:
        client.until(b"e2")
        client.type(b"stty size; exit 3\n")
        client.until(b"44 111")
        assert client.told("end")["status"] == 3


def test_a_name_is_the_living_ones_while_an_earlier_one_still_dies(place):
    place.ours()
    with Client(place.framed, session="a") as dying:
        dying.type(b"trap '' HUP; echo e$((1+1)); exec sleep 600\n")
        dying.until(b"e2")
    with Client(place.framed, session="a") as driver:
        number = driver.told("welcome")["number"]
        with Client(place.framed, session="a") as watcher:
            told = watcher.told("welcome")
    assert (told["role"], told["number"]) == ("watch", number)


def test_what_is_kept_for_later_is_bounded(place):
    place.ours("--forkpty-scrollback", "1k")
    with Client(place.framed, session="k", keep=True) as client:
        client.type(b"seq 5000; echo e$((1+1))\n")
        client.until(b"e2")
    with Client(place.framed, session="k") as client:
        client.until(b"e2")
        client.type(b"exit\n")
        client.told("end")


def test_a_watcher_that_does_not_read_delays_nobody(place):
    """Security case 59."""
    place.ours()
    with Client(place.framed, session="w") as driver:
        driver.told("welcome")
        with Client(place.framed, session="w", watch=True):
            began = time.monotonic()
            driver.type(b"head -c 30000000 /dev/zero | tr '\\0' x; echo f$((1+1))\n")
            count = 0
            while b"f2" not in driver.text:
                driver.text = driver.text[-100:]
                driver.read()
                count += 1
            assert time.monotonic() - began < 30
        driver.type(b"echo g$((1+1))\n")
        driver.until(b"g2")


def test_a_watcher_may_take_its_time_for_what_was_kept(place):
    place.ours("--forkpty-scrollback", "2m")
    with Client(place.framed, session="w") as driver:
        driver.type(b"head -c 1900000 /dev/zero | tr '\\0' x; echo f$((1+1))\n")
        driver.until(b"f2")
        with Client(place.framed, session="w", watch=True) as late:
            late.told("welcome")
            driver.type(b"echo g$((1+1))\n")
            driver.until(b"g2")
            late.until(b"g2")


@pytest.fixture
def trips():
    """Something to do so many times while others rest: a byte goes to another process and back."""
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, bufsize=0) as cat:

        def go(count):
            for _ in range(count):
                cat.stdin.write(b"x")
                assert cat.stdout.read(1) == b"x"

        yield go


def do_rest(pids, trips, count):
    """Whether all of them sleep, and none of them is woken during so many trips."""
    before = [looked_at(pid) for pid in pids]
    trips(count)
    sleep = all(state == "S" for state, *_ in before)
    return sleep and before == [looked_at(pid) for pid in pids]


def looked_at(pid):
    found = status(pid)
    kinds = ("voluntary", "nonvoluntary")
    return found["State"][0], *(found[f"{kind}_ctxt_switches"] for kind in kinds)


def test_a_driver_that_does_not_read_costs_nothing_when_the_program_ends(place, trips):
    master = place.ours("--forkptyrouter-command", "exec cat /dev/zero")
    router = wait_for(lambda: router_of(master), "router")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(place.raw)
        (program,) = wait_for(lambda: descendants(router), "program")
        wait_for(lambda: do_rest([program, router], trips, 1000), "a full terminal")
        os.kill(program, signal.SIGKILL)
        wait_for(lambda: "State:\tZ" in Path(f"/proc/{program}/status").read_text(), "its end")
        wait_for(lambda: do_rest([router], trips, 1000), "rest")
        while link.recv(1 << 20):
            continue
    wait_for(lambda: "[terminal] close session=1" in place.text(), "close")
    assert "status=137" in place.text()


def test_as_many_sessions_as_allowed_and_no_more(place):
    """Security case 62."""
    place.ours("--forkpty-sessions", "3", "--forkpty-rate", "100")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(place.framed)) for _ in range(3)]
        for client in clients:
            client.told("welcome")
        with Client(place.framed) as late:
            assert late.told("refused")["why"] == "too many sessions"
        assert "[terminal] refuse" in place.text()


def test_as_many_look_at_a_session_as_may_and_no_more(place):
    """Security case 62."""
    place.ours()
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(Client(place.framed, session="a")).told("welcome")
        with Client(place.framed, session="a", watch=True) as late:
            assert late.told("refused")["why"] == "too many look at it"


def test_without_descriptors_a_router_waits_and_goes_on_later(place, trips):
    """Security case 62."""
    master = place.ours("--forkptyrouter-stats", place.stats)
    router = wait_for(lambda: router_of(master), "router")
    with Client(place.framed) as client, contextlib.ExitStack() as stack:
        client.told("welcome")
        before = resource.prlimit(router, resource.RLIMIT_NOFILE)
        resource.prlimit(router, resource.RLIMIT_NOFILE, (3, before[1]))
        for path in (place.framed, place.stats):
            late = stack.enter_context(socket.socket(socket.AF_UNIX))
            late.settimeout(10)
            late.connect(path)
        client.type(b"echo n$((1+1))\n")
        client.until(b"n2")
        wait_for(lambda: do_rest([router], trips, 50), "rest")  # it looks again each 0.1 s
        resource.prlimit(router, resource.RLIMIT_NOFILE, before)
        assert late.recv(1)


def test_only_so_many_sessions_within_a_second(place):
    place.ours("--forkpty-rate", "2", "--forkpty-sessions", "100")
    found = []
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(Client(place.framed))
            client.read()
            found.append(client.news[0]["news"])
    assert found.count("refused") >= 4
    assert found[0] == "welcome"


HOLDER = (
    "import os, sys\n"
    "held = [os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)]\n"
    "print('held', flush=True)\n"
    "while True:\n"
    "    try: held.append(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY))\n"
    "    except OSError: continue\n"
    "    os.close(held.pop(0))\n"
)


def test_a_session_ends_with_its_program_whoever_opens_its_terminal_again(place):
    """A hung up terminal that is opened again is one again (pty_open() of the kernel)."""
    place.ours()
    with Client(place.framed) as client:
        client.type(b"echo at$((1+1)):$(tty):\n")
        client.until(b"at2:")
        while client.text.count(b":") < 1:
            client.read()
        terminal = client.text.partition(b":")[0].decode()
        command = [sys.executable, "-c", HOLDER, terminal]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout.readline() == b"held\n"
                client.type(b"exit 7\n")
                assert client.told("end")["status"] == 7
            finally:
                holder.kill()


def test_a_session_lasts_as_long_as_it_may(place):
    place.ours("--forkpty-longest", "1")
    with Client(place.framed) as client:
        assert client.told("end")["why"] == "it lasted as long as it may"


@pytest.mark.parametrize("hello", [
    {"session": "../x"}, {"session": "a b"}, {"rows": -1}, {"cols": 1 << 20}, {"term": "a;b"},
    {"session": 5}, {"other": 1}, {"watch": True}, {"watch": 1}, {"other": None}, {"__doc__": "x"},
])  # fmt: skip
def test_hellos_that_are_none_are_refused(place, hello):
    place.ours()
    with Client(place.framed, **hello) as client:
        assert client.told("refused")["why"]


def test_a_bad_hello_ends_nothing_else(place):
    place.ours()
    with Client(place.framed) as good:
        good.told("welcome")
        for body in (b"", b"[", b"[" * 4000, b"5", b'"x"', b"\xff" * 10, b'{"a":' * 600,
                     b'{"other": null}', b'{"__module__": "x"}'):  # fmt: skip
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(10)
                link.connect(place.framed)
                link.sendall(protocol.ours(Word.HELLO, body))
                assert b"refused" in link.recv(4096)
        good.type(b"echo h$((1+1))\n")
        good.until(b"h2")


def test_sizes_of_all_kinds_and_in_masses_are_harmless(place):
    """Security case 58."""
    place.ours()
    with Client(place.framed) as client:
        client.told("welcome")
        odd = protocol.window(0, 0) + protocol.window(65535, 65535)
        client.link.sendall(odd + protocol.window(1, 1) * 100_000 + protocol.window(25, 81))
        client.type(b"stty size\n")
        client.until(b"25 81")


def test_no_key_is_lost_while_the_program_does_not_read(place):
    place.ours("--forkptyrouter-command", "stty raw -echo; echo ready; sleep 1; exec cat")
    keys = b"0123456789ab" * 20_000
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
        link.settimeout(10)
        link.connect(place.framed)
        link.sendall(protocol.window(24, 80))
        while b"ready" not in link.recv(100):
            continue
        packets = b"".join(
            protocol.stdin(keys[at : at + 4092]) for at in range(0, len(keys), 4092)
        )
        sender = threading.Thread(target=link.sendall, args=[packets])
        sender.start()
        found = bytearray()
        while len(found.lstrip()) < len(keys):
            found += link.recv(65536)
        sender.join()
    assert found.lstrip() == keys


def test_a_reload_that_changes_nothing_keeps_sessions(place):
    master = place.ours()
    with Client(place.framed) as client:
        client.told("welcome")
        os.kill(master, 1)
        wait_for(lambda: "generation 2 serves" in place.text(), "reload")
        client.type(b"echo l$((1+1))\n")
        client.until(b"l2")


def test_a_reload_keeps_sessions_where_the_lines_of_the_router_moved(place):
    master, file = from_file(place)
    with Client(place.framed) as client:
        client.told("welcome")
        file.write_text(file.read_text().replace("master", "; a comment\nmaster"))
        os.kill(master, signal.SIGHUP)
        wait_for(lambda: "generation 2 serves" in place.text(), "reload")
        client.type(b"echo l$((1+1))\n")
        client.until(b"l2")


def test_a_reload_to_an_address_that_is_none_leaves_all_as_it_was(place):
    master, file = from_file(place)
    moved = place.path / "new" / "raw"
    with Client(place.framed) as client:
        client.told("welcome")
        file.write_text(file.read_text().replace(place.raw, str(moved)))
        os.kill(master, signal.SIGHUP)
        wait_for(lambda: "generation 2 serves" in place.text(), "reload")
        assert f"cannot bind {moved}" in place.text()
        client.type(b"echo l$((1+1))\n")
        client.until(b"l2")
    moved.parent.mkdir()
    os.kill(master, signal.SIGHUP)
    wait_for(moved.exists, "router at its new address")
    wait_for(lambda: not Path(place.raw).exists(), "end of the old one")


def test_a_router_that_ends_takes_no_client_from_the_next_one(place):
    master, file = from_file(place)
    with Client(place.framed) as old, contextlib.ExitStack() as stack:
        old.type(b"trap '' HUP; echo s$((1+1)); sleep 600\n")
        old.until(b"s2")
        file.write_text(file.read_text() + "forkptyrouter-rows = 50\n")
        os.kill(master, signal.SIGHUP)
        wait_for(lambda: place.text().count(f"router on {place.framed}") == 2, "the next router")
        for _ in range(8):
            client = stack.enter_context(Client(place.framed))
            client.type(b"stty size\n")
            client.until(b"50 80")
        assert old.told("end")["why"] == "the router ends"


def from_file(place):
    """An instance whose options are those of a file."""
    file = place.path / "app.ini"
    file.write_text(
        f"[uwsgi]\nmaster = true\nforkpty-router = {place.raw}\nforkpty-urouter = {place.framed}\n"
    )
    return place.run("--ini", str(file)), file


def test_a_thousand_connections_leave_nothing(place):
    master = place.ours("--forkpty-rate", "60000", "--forkpty-sessions", "60000")
    with Client(place.framed) as client:
        client.told("welcome")
    router = wait_for(lambda: router_of(master), "router")
    wait_for(lambda: "[terminal] close" in place.text(), "close")
    before = state(master, router)
    chance = random.Random(5)
    for number in range(1000):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(chance.choice((place.raw, place.framed)))
            if chance.random() < 0.5:
                link.sendall(protocol.window(20, 70)[: chance.randrange(9)])
            if chance.random() < 0.3:
                link.sendall(protocol.stdin(b"sleep 600 &\n"))
            if number % 10 == 0:
                link.recv(10)
    wait_for(lambda: state(master, router) == before, "state as before", 60)


def router_of(master):
    return routers_of(master)[0]


def routers_of(master):
    return [pid for pid in descendants(master) if holds_doors(pid)]


def holds_doors(pid):
    try:
        names = list(held(pid).values())
    except (FileNotFoundError, ProcessLookupError):  # it has gone since
        return False
    return "anon_inode:[eventpoll]" in names and sum("socket:" in name for name in names) >= 2


def state(master, router):
    ends = sorted(held(router).values())
    return sorted(descendants(master)), [end for end in ends if "ptmx" in end], len(ends)


def test_a_client_that_is_told_no_end_says_so(place):
    master = place.ours()
    shell = place.connect("--session", "a", place.framed)
    shell.expect_exact(b"# ")
    os.kill(wait_for(lambda: router_of(master), "router"), signal.SIGKILL)
    shell.expect_exact(b"the router has hung up")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 1


def test_several_routers_serve_the_same_doors_and_each_comes_back(place):
    master = place.ours("--forkptyrouter-processes", "3", "--forkptyrouter-events", "1",
                        "--forkptyrouter-cheap", "--forkptyrouter-stats", place.stats)  # fmt: skip
    wait_for(lambda: len(routers_of(master)) == 3, "three routers")
    before = set(routers_of(master))
    for router in before:
        os.kill(router, signal.SIGKILL)
    wait_for(lambda: len(set(routers_of(master)) - before) == 3, "three new ones")
    with Client(place.framed, session="a") as one, Client(place.framed, session="b") as other:
        for client in (one, other):
            client.type(b"echo r$((1+1))\n")
        for client in (one, other):
            client.until(b"r2")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
            link.connect(place.stats)
            told = json.loads(b"".join(iter(lambda: link.recv(65536), b"")))
    assert told["cheap"] == 1
    assert told["pid"] in routers_of(master)


def test_everything_ends_with_the_instance(place):
    master = place.ours()
    with Client(place.framed) as client:
        client.type(b"sh -c 'trap \"\" HUP TERM; sleep 600' & echo m$((1+1))\n")
        client.until(b"m2")
        below = descendants(master)
        place.close()
        wait_for(lambda: not any(map(alive, below)), "end of all")
    assert not Path(place.raw).exists()
