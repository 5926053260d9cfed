"""A router process in a network namespace of the test's own, with jails to attach."""

import os
import struct
from contextlib import ExitStack, contextmanager

from netspaces import Space, four, inside

from donjon.tuntap import launch
from donjon.tuntap.client import UNLIMITED, RouterClient

ALLOW_ALL = struct.pack("=8s6I2I8x2Q", b"donjonF1", 64, 0, 0, 0, 0, 0, 0, 0, 1, 2)
"""A compiled table without rules, whose policy is to accept (ruletable.h)."""


class Routed:
    """The router, its host's namespace and its client."""

    def __init__(self, stack: ExitStack, mtu: int = 1500) -> None:
        self.stack = stack
        self.host = self.space()
        self.started = self.start()
        self.client = RouterClient(self.started.channel)
        stack.callback(self.end)
        self.device = self.host.open_tun("emperor0")
        stack.callback(self.device.close)
        self.host.up("emperor0", "10.7.0.1/16", "fd07::1/64", mtu=mtu)
        self.client.rules(ALLOW_ALL)
        self.client.device(self.device.fileno())
        self.mtu = mtu

    def space(self) -> Space:
        space = Space()
        self.stack.callback(space.close)
        return space

    def start(self) -> launch.Started:
        """Start a router whose host is our namespace."""
        with inside(self.host.pid):
            return launch.start()

    def jail(self, number: int, bandwidth=UNLIMITED) -> Space:
        """A jail that is attached under its number."""
        space = self.space()
        with space.jail("uwsgi0", number, self.mtu) as tun:
            self.client.attach(
                str(number), tun.fileno(), [four(number), f"fd07::{number:x}"], bandwidth=bandwidth
            )
        return space

    def restart(self) -> None:
        """Kill the router and go on with another."""
        self.reap(9)
        self.started = self.start()
        self.client.resume(self.started.channel)

    def reap(self, signal_number: int = 0) -> int:
        if signal_number:
            os.kill(self.started.pid, signal_number)
        status = os.waitpid(self.started.pid, 0)[1]
        self.started.pidfd.close()
        return status

    def end(self) -> None:
        self.client.close()
        self.reap()


@contextmanager
def routed(mtu: int = 1500):
    with ExitStack() as stack:
        yield Routed(stack, mtu)
