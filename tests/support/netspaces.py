"""Network namespaces of a test's own, each a child that acts inside on request."""

import os
import signal
import socket
import subprocess

from donjon import syscalls
from donjon.fd import Fd
from donjon.tuntap import device


class Space:
    """A network namespace that a sleeping child holds."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            near.close()
            syscalls.set_pdeathsig(9)
            syscalls.unshare(syscalls.CLONE_NEWNET)
            far.send(b"x")
            while True:
                signal.pause()
        far.close()
        with near:
            near.recv(1)
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-n", *words]

    def run(self, *words: str, check: bool = True) -> str:
        return subprocess.run(
            self.command(*words),
            check=check,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ).stdout

    def open_tun(self, name: str) -> Fd:
        """A device of this namespace, opened by a child that entered it."""
        near, far = socket.socketpair()
        with near, far:
            pid = os.fork()
            if pid == 0:
                with Fd(os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)) as space:
                    syscalls.setns(space.fileno(), syscalls.CLONE_NEWNET)
                with device.open_tun(name) as tun:
                    socket.send_fds(far, [b"x"], [tun.fileno()])
                os._exit(0)
            _, descriptors, _, _ = socket.recv_fds(near, 1, 1)
            os.waitpid(pid, 0)
        return Fd(descriptors[0])

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
        if not self.pid:
            return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0


def four(number: int) -> str:
    """The IPv4 address of jail ``number``; 1 is the router's."""
    return f"10.7.{number >> 8}.{number & 255}"
