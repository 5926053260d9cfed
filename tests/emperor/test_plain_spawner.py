"""The spawner after many plain births: it does not grow, and it cleans up after its Emperor."""

import os
import signal

import pytest
from births import NAMESPACES, descriptors, is_quiet
from hosting import alive, children, descendants, status, wait_for

pytestmark = pytest.mark.root

AT_ONCE = 40
NOTES = 256  # KiB of packets that the spawner keeps for the janitor until it reads them


def measure(pid):
    """What would grow: descriptors, memory in KiB (shared or not), the address space."""
    said = status(pid)
    return len(descriptors(pid)), int(said["VmRSS"].split()[0]), said["VmSize"]


def bear_and_bury(host, rounds):
    """Let AT_ONCE vassals live and end, so often."""
    for _ in range(rounds):
        names = [f"v{number}" for number in range(AT_ONCE)]
        for name in names:
            host.vassal(name, "uid = 20001\n")
        wait_for(lambda: serving(host) == AT_ONCE, "all of them")
        for name in names:
            (host.place / "vassals" / f"{name}.ini").unlink()
        wait_for(lambda: not host.stats()["vassals"], "end of all")
        wait_for(lambda: len(children(host.pid)) == 1, "none but the spawner")


def serving(host):
    return sum(1 for row in host.stats()["vassals"] if row["ready"])


def test_two_hundred_births_leave_emperor_and_spawner_as_they_were(new_births):
    host = new_births(NAMESPACES)
    spawner = host.spawner()
    bear_and_bury(host, 1)
    before = measure(spawner)
    emperor = len(descriptors(host.pid))
    bear_and_bury(host, 5)
    after = measure(spawner)
    assert after[0] == before[0]
    assert after[1] <= before[1] + NOTES
    assert after[2] == before[2]
    assert len(descriptors(host.pid)) == emperor
    assert host.spawner() == spawner


def test_a_spawner_that_was_killed_is_replaced_and_waiting_masters_wait_on(new_births):
    host = new_births(NAMESPACES)
    host.vassal("a", "uid = 20001\n")
    master = host.born("a")
    os.kill(host.spawner(), signal.SIGKILL)
    host.said("the spawner died")
    host.vassal("b", "uid = 20001\n")
    assert is_quiet(host.born("b"))
    host.do("a")
    assert is_quiet(master)
    below = descendants(host.pid)
    host.emperor.kill()
    host.emperor.wait()
    wait_for(lambda: not any(map(alive, below)), "end of all")


def test_a_birth_into_a_network_that_fails_is_said_and_leaves_the_spawner_at_home(
    new_births, monkeypatch
):
    monkeypatch.setenv("DONJON_INJECT", "clone3:EPERM:1")  # the first one makes the spawner
    host = new_births(NAMESPACES)
    home = os.readlink("/proc/self/ns/net")
    host.vassal("a", "uid = 20001\nnetwork = none\n")
    assert "cannot clone: Operation not permitted" in host.error("a")
    assert os.readlink(f"/proc/{host.spawner()}/ns/net") == home
    master = host.born("a")
    assert is_quiet(master)
    assert os.readlink(f"/proc/{master}/ns/net") != home
    assert os.readlink(f"/proc/{host.spawner()}/ns/net") == home
