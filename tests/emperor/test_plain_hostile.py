"""A hostile application against the master that waits: forged packets, floods, orphans."""

import os
import signal
import struct

import pytest
from births import NAMESPACES, hosts, is_quiet, send_packets, vassal, worker
from hosting import alive, children, pause, wait_for

pytestmark = pytest.mark.root

SPAWNED, LOADED, ACCEPTING, DUE, HOOK_FAILED, RELOAD, STOP, ONCE, MORE = range(1, 10)


def packet(word, slot=1, generation=1, pid=2, payload=b""):
    return struct.pack("=BxHIi", word, slot, generation, pid) + payload


NOBODYS = {
    "empty": [b"\0"],
    "short": [packet(SPAWNED)[:-1]],
    "garbage": [bytes(range(11))],
    "many": [b"x"] * 2000,
}
FORGED = {
    "another pid": [packet(ACCEPTING, pid=77)],
    "slot 0": [packet(ACCEPTING, slot=0), packet(ONCE, slot=0), packet(SPAWNED, slot=0)],
    "slot 65535": [packet(SPAWNED, slot=65535), packet(DUE, slot=65535)],
    "generation 2": [packet(LOADED, generation=2), packet(ACCEPTING, generation=2)],
    "generation 0": [packet(SPAWNED, generation=0)],
    "pid 1": [packet(SPAWNED, slot=2, pid=1), packet(SPAWNED, pid=1)],
    "pid -1": [packet(SPAWNED, slot=2, pid=-1), packet(SPAWNED, pid=-(2**31))],
    "pid 0": [packet(SPAWNED, slot=2, pid=0)],
    "stranger": [packet(SPAWNED, slot=2, pid=2**22 - 1)],
    "itself": [packet(SPAWNED, slot=2, pid=2), packet(SPAWNED, slot=1, pid=2)],
    "loaded again": [packet(LOADED, payload=b"/\0PATH=/evil"), packet(LOADED)],
    "more": [packet(MORE, payload=b"x" * 4000)] * 300,
    "unknown": [packet(0), packet(10), packet(255)],
    "full of ones": [b"\xff" * 4096],
}


@pytest.fixture(scope="module")
def host():
    """One Emperor; each test has vassals of its own."""
    with hosts() as make:
        yield make(NAMESPACES)


@pytest.mark.parametrize("name", NOBODYS)
def test_what_is_no_message_is_not_even_worth_waking_up(host, name):
    vassal_name = f"n-{name}"
    master = vassal(host, vassal_name)
    assert send_packets(host, vassal_name, NOBODYS[name])
    host.do(vassal_name)
    assert is_quiet(master)
    ends(host, vassal_name, master)


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_message_changes_nothing(host, name):
    vassal_name = "f-" + name.replace(" ", "-")
    master = vassal(host, vassal_name, "processes = 1\n")
    old, neighbour = worker(master), host.stats()["vassals"]
    assert send_packets(host, vassal_name, FORGED[name])
    host.do(vassal_name)
    assert (host.master(vassal_name), children(master)) == (master, [old])
    assert {one["pid"] for one in neighbour} <= {one["pid"] for one in host.stats()["vassals"]}
    os.kill(old, signal.SIGKILL)
    wait_for(
        lambda: host.do(vassal_name, "import os; result = os.environ['PATH']") != "/evil", "answer"
    )
    assert host.master(vassal_name) == master
    ends(host, vassal_name, master)


def ends(host, name, master):
    """Take the vassal away; all of it goes."""
    below = [master, *children(master)]
    (host.place / "vassals" / f"{name}.ini").unlink()
    wait_for(lambda: not any(map(alive, below)), "end of the vassal", 8)


FLOOD = """
import fcntl, os
fcntl.fcntl({number}, fcntl.F_SETPIPE_SZ, 1 << 20)
number = {number}
packet = {packet!r}
def flood():
    os.closerange(0, number)
    os.closerange(number + 1, 99)
    while True:
        try:
            os.write(number, packet)
        except OSError:
            return
for _ in range(6):
    if os.fork() == 0:
        flood()
        os._exit(0)
"""


@pytest.mark.parametrize("woken", [False, True], ids=["waiting", "woken"])
@pytest.mark.parametrize("text", [b"x", packet(ONCE)], ids=["garbage", "messages"])
def test_a_flood_does_not_keep_the_master_from_its_emperor(host, woken, text):
    name = f"flood-{woken}-{len(text)}"
    master = vassal(host, name, "worker-reload-mercy = 1\n")
    number = send_packets(host, name, [])
    host.do(name, FLOOD.format(number=number, packet=text))
    if woken:
        os.kill(master, signal.SIGUSR1)
        wait_for(lambda: not is_quiet(master), "an interpreter")
    else:
        assert is_quiet(master)
    pause(0.3)
    ends(host, name, master)
    assert f"vassal {name}.ini is not" not in host.log()


def test_a_stolen_child_is_no_worker(host):
    """A daemon of the application, orphaned to the master, is claimed to be worker 2."""
    master = vassal(host, "claim", "processes = 2\n")
    wait_for(lambda: len(children(master)) == 2, "two workers")
    workers = children(master)
    code = """
import os, signal
if os.fork() == 0:
    if os.fork() == 0:
        os.closerange(0, 99)
        signal.pause()
    os._exit(0)
os.wait()
"""
    host.do("claim", code)
    wait_for(lambda: len(children(master)) == 3, "an orphan")
    orphan = next(pid for pid in children(master) if pid not in workers)
    with open(f"/proc/{orphan}/status") as file:
        inside = next(int(line.split()[-1]) for line in file if line.startswith("NSpid"))
    send_packets(
        host, "claim", [packet(SPAWNED, slot=2, pid=inside), packet(ACCEPTING, slot=2, pid=inside)]
    )
    host.do("claim")
    assert set(workers) <= set(children(master)), "the real ones go on"
    assert host.master("claim") == master


def test_orphans_are_reaped_by_a_master_that_goes_on_waiting(host):
    master = vassal(host, "orphans")
    code = """
import os
for _ in range(8):
    if os.fork() == 0:
        for _ in range(3):
            if os.fork() == 0:
                os._exit(3)
        os._exit(0)
    os.wait()
"""
    host.do("orphans", code)
    wait_for(lambda: len(children(master)) == 1, "end of all orphans")
    assert is_quiet(master)
    host.do("orphans")


def test_an_application_that_closes_the_line_to_its_master_goes_on(host):
    master = vassal(host, "closed", "max-requests = 4\nmin-worker-lifetime = 0\n")
    number, old = send_packets(host, "closed", []), worker(master)
    host.do("closed", f"import os; os.close({number})")
    for _ in range(5):
        host.do("closed")
    assert children(master) == [old], "it cannot even ask for its replacement"
    ends(host, "closed", master)


def test_bytes_to_the_emperor_from_the_application_are_its_own(host):
    master = vassal(host, "shouting")
    host.do("shouting", "import os; [os.write(3, bytes([n])) for n in (2, 3, 99, 255, 26)]")
    host.do("shouting")
    assert host.master("shouting") == master
    host.do("shouting", "import os; os.write(3, bytes([22]))")
    wait_for(lambda: not alive(master), "end of a vassal that asked for it")
