"""Links of a network namespace, in one of the test's own."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from donjon import syscalls
from donjon.netns import links, naming


def inside(act):
    """What ``act`` returns in a child with a network namespace of its own, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            os.write(writer, repr(act()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def test_a_link_that_is_there_is_not_waited_for():
    start = time.monotonic()
    assert links.wait_for("lo", 10)
    assert time.monotonic() - start < 5
    assert "lo" in links.names()


def test_one_that_does_not_come_is_given_up_in_time():
    start = time.monotonic()
    assert not links.wait_for("nosuch0", 0.1)
    assert not links.wait_for("nosuch0", 0)
    assert time.monotonic() - start < 5


@pytest.mark.root
def test_links_are_those_of_the_namespace_we_are_in():
    def look():
        ip("link", "add", "dl0", "type", "veth", "peer", "name", "dl1")
        return sorted(set(links.names()) & {"lo", "eth0", "dl0", "dl1"})

    assert inside(look) == repr(["dl0", "dl1", "lo"])


def hears():
    rows = Path("/proc/net/netlink").read_text().splitlines()[1:]
    return any(row.split()[1] == "0" and int(row.split()[3], 16) & 1 for row in rows)


@pytest.mark.root
@pytest.mark.parametrize("how", ["added", "renamed"])
def test_one_that_comes_late_is_noticed_among_others(how):
    def look():
        child = os.fork()
        if child == 0:
            while not hears():
                os.sched_yield()
            ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
            if how == "added":
                ip("link", "add", "late0", "type", "veth", "peer", "name", "late1")
            else:
                ip("link", "set", "other0", "name", "late0")
            os._exit(0)
        found = links.wait_for("late0", 30)
        os.waitpid(child, 0)
        return found, sorted(name for name in os.listdir("/proc/self/fd") if int(name) > 20)

    assert inside(look).startswith("(True, ")


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "-x", "a b", "x" * 65, "nosuch"])
def test_what_is_no_name_does_not_exist(name):
    assert not naming.exists(name)
