"""Network namespaces of a test's own, each held by a child that does nothing else."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

from donjon import syscalls
from donjon.fd import Fd
from donjon.tuntap import device


def enter(pid: int) -> list[str]:
    """The words before a program that make it run in the network namespace of a process."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


@contextlib.contextmanager
def inside(pid: int) -> Iterator[None]:
    """Be in the network namespace of a process meanwhile."""
    with (
        Fd(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)) as own,
        Fd(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)) as other,
    ):
        syscalls.setns(other.fileno(), syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(own.fileno(), syscalls.CLONE_NEWNET)


class Space:
    """A network namespace, held by a process that waits for the end of its input: ours, at the latest."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        with self._holder.stdout as ready:
            assert ready.readline() == b"ready\n"
        self.pid = self._holder.pid
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words: str) -> list[str]:
        return [*enter(self.pid), *words]

    def run(self, *words: str, check: bool = True) -> str:
        return subprocess.run(
            self.command(*words),
            check=check,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ).stdout

    def open_tun(self, name: str) -> Fd:
        """A device of this namespace."""
        with inside(self.pid):
            return device.open_tun(name)

    def up(self, name: str, *addresses: str, mtu: int = 1500) -> None:
        for address in addresses:
            self.run(
                "ip",
                "address",
                "add",
                address,
                "dev",
                name,
                *(["nodad"] if ":" in address else []),
            )
        self.run("ip", "link", "set", name, "mtu", str(mtu), "up")

    def jail(self, name: str, number: int, mtu: int = 1500) -> Fd:
        """A jail's device, 10.7.x.y and fd07::number, with the way out through it."""
        tun = self.open_tun(name)
        self.up(name, f"{four(number)}/16", f"fd07::{number:x}/64", mtu=mtu)
        self.run("ip", "route", "add", "default", "dev", name)
        return tun

    def close(self) -> None:
        """End the child, and with it the namespace; a second call does nothing."""
        self._holder.communicate()


def four(number: int) -> str:
    """The IPv4 address of jail ``number``; 1 is the router's."""
    return f"10.7.{number >> 8}.{number & 255}"
