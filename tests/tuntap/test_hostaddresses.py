"""The addresses of the host, of which nobody else may have one."""

import os
import socket
import subprocess

import pytest
from netspaces import Space

from donjon import syscalls
from donjon.fd import Fd
from donjon.tuntap.hostaddresses import HostAddresses, unpacked

pytestmark = pytest.mark.root

MANY = 400


@pytest.fixture
def hosts():
    """The addresses of a namespace that has many."""
    space = Space()
    lines = [f"address add fd08::{number:x}/64 dev lo" for number in range(1, MANY + 1)]
    lines += [
        f"address add 10.8.{number >> 8}.{number & 255}/32 dev lo" for number in range(1, MANY + 1)
    ]
    subprocess.run(
        space.command("ip", "-batch", "-"), input="\n".join(lines), text=True, check=True
    )
    with Fd(os.open("/proc/self/ns/net", os.O_RDONLY)) as own:
        with Fd(os.open(f"/proc/{space.pid}/ns/net", os.O_RDONLY)) as host:
            syscalls.setns(host.fileno(), syscalls.CLONE_NEWNET)
        try:
            found = HostAddresses()
        finally:
            syscalls.setns(own.fileno(), syscalls.CLONE_NEWNET)
    yield found
    found.close()
    space.close()


def test_all_of_many_are_known_and_from_anywhere(hosts):
    wanted = {f"fd08::{number:x}" for number in range(1, MANY + 1)} | {"::1", "127.0.0.1"}
    wanted |= {f"10.8.{number >> 8}.{number & 255}" for number in range(1, MANY + 1)}
    assert {unpacked(one) for one in hosts.read()} == wanted


def test_what_asks_for_addresses_sends_nothing_for_a_router_that_was_taken_over(hosts):
    assert hosts._four.family == socket.AF_UNIX
    with pytest.raises(BrokenPipeError):
        hosts._four.sendto(b"x", "\0somebody")
