"""The router of the vassals' packets: one process, started here and started again when it dies.

The client keeps duplicates of all devices, so vassals keep theirs while there is no router; until
the next one has its rules it lets nothing through. A router that dies at once is not started
again for ``PAUSE`` seconds.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

from donjon import log, syscalls
from donjon.emperor.reactor import Reactor, Timer
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.tuntap import launch
from donjon.tuntap.client import Bandwidth, Counters, RouterClient
from donjon.tuntap.counters import PortCounters
from donjon.tuntap.launch import Started
from donjon.tuntap.protocol import RouterGoneError

LIFE = 2.0
"""Seconds that a router must live for the next one to be started at once."""

PAUSE = 0.5


class Router:
    """A router that is there, but for moments."""

    def __init__(self, reactor: Reactor, device: Fd, rules: bytes) -> None:
        """Start it with its device of the host and its rules. Raises DonjonError."""
        self.reactor = reactor
        self._since = reactor.clock()
        self._started = self._start()
        self._again: Timer | None = None
        self.restarts = 0
        self.resumed: Callable[[], None] = lambda: None  # called when another one goes on
        try:
            self.client = RouterClient(self._started.channel)
            self._furnish(device, rules)
        except DonjonError:
            self._started.channel.close()
            self._kill()
            self._reap()
            raise

    def _furnish(self, device: Fd, rules: bytes) -> None:
        try:
            self.client.rules(rules)
            self.client.device(device.fileno())
        except DonjonError:
            self.client.close()
            raise

    @property
    def pid(self) -> int:
        """Its pid, of the one that died too until there is another."""
        return self._started.pid

    def attach(
        self, name: str, device: Fd, addresses: Sequence[str], bandwidth: Bandwidth
    ) -> None:
        """Attach a vassal. Without a router now, the next one does. Raises DonjonError."""
        try:
            self.client.attach(name, device.fileno(), addresses, bandwidth=bandwidth)
        except RouterGoneError:
            self._kill()

    def detach(self, name: str) -> None:
        """Forget a vassal."""
        try:
            self.client.detach(name)
        except RouterGoneError:
            self._kill()

    def rules(self, table: bytes) -> None:
        """Put other rules in force. Without a router now, the next one gets them.

        Raises DonjonError.
        """
        try:
            self.client.rules(table)
        except RouterGoneError:
            self._kill()

    def allot(self, name: str, networks: Sequence[str]) -> None:
        """Let another host have networks. Raises DonjonError."""
        try:
            self.client.allot(name, networks)
        except RouterGoneError:
            self._kill()

    def trunk(self, name: str, stream: int) -> None:
        """Give it the stream to another host; the next router is given another. Raises
        DonjonError."""
        try:
            self.client.trunk(name, stream)
        except RouterGoneError:
            self._kill()

    def routes(self, name: str, addresses: Sequence[bytes]) -> None:
        """Say which addresses are on another host now."""
        try:
            self.client.routes(name, addresses)
        except RouterGoneError:
            self._kill()

    def trunk_counters(self, name: str) -> PortCounters:
        """Return what passed to and from another host."""
        return self.client.trunk_counters(name)

    def counters(self) -> Counters:
        """Return all that is counted. Raises DonjonError."""
        try:
            return self.client.counters()
        except RouterGoneError:
            self._kill()
            raise

    def port(self, name: str) -> PortCounters:
        """Return what is counted of a vassal; the router is not asked. Raises KeyError."""
        return self.client.port_counters(name)

    def close(self) -> None:
        """End it, and wait until it is gone."""
        if self._again is not None:
            self._again.cancel()
        self.client.close()
        self._kill()
        self._reap()

    def _start(self) -> Started:
        try:
            started = launch.start()
        except OSError as error:
            raise DonjonError("cannot start the router", reason=reason_of(error)) from error
        self.reactor.watch(started.pidfd.fileno(), lambda _events: self._died())
        return started

    def _kill(self) -> None:
        """Whoever does not answer is gone soon; its end is then an event."""
        if not self._started.pidfd.closed:
            syscalls.pidfd_send_signal(self._started.pidfd.fileno(), signal.SIGKILL)

    def _reap(self) -> str:
        if self._started.pidfd.closed:
            return ""
        self.reactor.forget(self._started.pidfd.fileno())
        result = os.waitid(os.P_PIDFD, self._started.pidfd.fileno(), os.WEXITED)
        self._started.pidfd.close()
        if result is None:
            return ""
        how = "exit code" if result.si_code == os.CLD_EXITED else "signal"
        return f"{how} {result.si_status}"

    def _died(self) -> None:
        how = self._reap()
        now = self.reactor.clock()
        pause = 0.0 if now - self._since >= LIFE else PAUSE
        log.write(f"[emperor] the router (pid {self.pid}) ended with {how}: starting another")
        self._again = self.reactor.after(pause, self._resume)

    def _resume(self) -> None:
        self._again = None
        self._since = self.reactor.clock()
        try:
            self._started = self._start()
            refused = self.client.resume(self._started.channel)
        except DonjonError as error:
            log.write(f"[emperor] no router: {error}")
            if self._started.pidfd.closed:
                self._again = self.reactor.after(PAUSE, self._resume)
            else:
                self._kill()
            return
        for name, why in refused.items():
            log.write(f"[emperor] {name} has no network any more: {why}")
        self.restarts += 1
        log.write(f"[emperor] the router goes on (pid {self.pid})")
        self.resumed()
