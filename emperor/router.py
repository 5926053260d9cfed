"""The router of the vassals' packets: one process, started here and started again when it dies.

The client keeps duplicates of all devices, so vassals keep theirs while there is no router; until
the next one has its rules it lets nothing through. A router that dies at once is not started
again for ``PAUSE`` seconds. Nobody waits for it: what is asked is answered later, and one that
does not answer in time, or not to a question that is asked now and then, is killed and replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from donjon import log
from donjon.emperor.letters import Letters
from donjon.emperor.reactor import Reactor, Timer
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.records import dataclass
from donjon.tuntap import launch, notes
from donjon.tuntap.client import UNLIMITED, Bandwidth, Counters, Steps
from donjon.tuntap.counters import PortCounters
from donjon.tuntap.launch import Started
from donjon.tuntap.protocol import Do, RouterError, RouterGoneError

LIFE = 2.0
"""Seconds that a router must live for the next one to be started at once."""

PAUSE = 0.5

CHECK = 5.0
"""Seconds after which a router that said nothing is asked whether it is there."""

Done = Callable[[DonjonError | None], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a vassal may have of the router: bandwidth, connections (0 is what all have)."""

    bandwidth: Bandwidth = UNLIMITED
    connections: int = 0


class Router:
    """A router that is there, but for moments."""

    def __init__(self, reactor: Reactor, device: Fd, rules: bytes, ready: Done) -> None:
        """Start it with its device of the host and its rules. Raises DonjonError.

        ``ready`` is told when they are in force, or why they are not; then it is gone.
        """
        self.reactor = reactor
        self.restarts = 0
        self.labels: Mapping[int, str] = {}
        self._since = reactor.clock()
        self._started = self._start()
        self._again: Timer | None = None
        self._closed = False
        self.resumed: Callable[[], None] = _nothing  # called when another one goes on
        self.client = Letters(self._started.channel, reactor, self._kill)
        self._check: Timer | None = reactor.after(CHECK, self._look)
        reactor.watch(self.client.notes.fileno(), lambda _events: self._write_notes())
        self._furnish(device, rules, ready)

    def _furnish(self, device: Fd, rules: bytes, ready: Done) -> None:
        def lent(result: object) -> None:
            problem = result if isinstance(result, DonjonError) else None
            if problem is not None:
                self.close()
            self.reactor.after(0.0, lambda: ready(problem))

        def ruled(result: object) -> None:
            if isinstance(result, DonjonError):
                lent(result)
                return
            try:
                steps = self.client.lending(Do.DEVICE, device.fileno())
            except DonjonError as error:
                lent(error)
            else:
                self.client.post(steps, lent)

        self.client.post(self.client.ruling(rules), ruled)

    @property
    def pid(self) -> int:
        """Its pid, of the one that died too until there is another."""
        return self._started.pid

    def attach(
        self,
        name: str,
        device: Fd,
        addresses: Sequence[str],
        limits: Limits,
        done: Done,
    ) -> None:
        """Attach a vassal. Without a router now, the next one does."""
        self._post(
            self.client.attaching(
                name,
                device.fileno(),
                addresses,
                bandwidth=limits.bandwidth,
                connections=limits.connections,
            ),
            done,
        )

    def detach(self, name: str) -> None:
        """Forget a vassal."""
        self._post(self.client.detaching(name), _nobody)

    def rules(self, table: bytes, done: Done) -> None:
        """Put other rules in force. Without a router now, the next one gets them."""
        self._post(self.client.ruling(table), done)

    def _post(self, steps: Steps[object], done: Done) -> None:
        """Ask, and tell of a refusal; what a router that is gone was asked is the next one's."""

        def answered(result: object) -> None:
            gone = isinstance(result, RouterGoneError)
            done(result if isinstance(result, DonjonError) and not gone else None)

        self.client.post(steps, answered)

    def capture(
        self, name: str, stream: int, *, packets: int, size: int, seconds: int, done: Done
    ) -> None:
        """Give packets of a vassal to a socket. Raises KeyError."""
        steps = self.client.capturing(name, stream, packets=packets, size=size, seconds=seconds)
        self.client.post(steps, lambda result: done(_problem(result)))

    def end_capture(self, done: Callable[[tuple[int, int] | DonjonError], None]) -> None:
        """End that; tell how many packets were captured, and lost."""
        self.client.post(self.client.ending_capture(), done)

    # -- other hosts

    def allot(self, name: str, networks: Sequence[str], done: Done) -> None:
        """Let another host have networks, of this router and of those after it."""
        self._post(self.client.allotting(name, networks), done)

    def trunk(self, name: str, stream: int, done: Done) -> None:
        """Give it the stream to another host; the next router is given another."""
        self.client.post(self.client.trunking(name, stream), lambda result: done(_problem(result)))

    def routes(self, name: str, addresses: Sequence[bytes]) -> None:
        """Say which addresses are on another host now."""
        self._post(self.client.routing(name, addresses), _nobody)

    def trunk_counters(self, name: str) -> PortCounters:
        """Return what passed to and from another host."""
        return self.client.trunk_counters(name)

    # -- what is known without asking

    def port(self, name: str) -> PortCounters:
        """Return what is counted of a vassal; the router is not asked. Raises KeyError."""
        return self.client.port_counters(name)

    def ask_counters(self, done: Callable[[Counters | DonjonError], None]) -> None:
        """Tell what this router and those before it counted."""
        self.client.post(self.client.counting(), done)

    def close(self) -> None:
        """End it, and wait until it is gone: it is killed."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._again, self._check):
            if timer is not None:
                timer.cancel()
        self.reactor.forget(self.client.notes.fileno())
        self.client.close()
        self._kill()
        self._reap()

    # -- what rules note

    def _write_notes(self) -> None:
        names = self.client.names()
        try:
            noted = self.client.noted()
        except RouterError as error:  # no router of ours does that
            log.write(f"[emperor] what rules match is written no more: {error}")
            self.reactor.forget(self.client.notes.fileno())
            self._kill()
            return
        for note in noted:
            log.write(f"[emperor] {notes.line(note, self.labels, names)}")

    # -- its life

    def _look(self) -> None:
        """Ask a router that was silent for long whether it is there."""
        self._check = self.reactor.after(CHECK, self._look)
        if self.client.idle and self.reactor.clock() - self.client.heard >= CHECK:
            self.client.post(self.client.living(), _nobody)

    def _start(self) -> Started:
        try:
            started = launch.start()
        except OSError as error:
            raise DonjonError("cannot start the router", reason=reason_of(error)) from error
        self.reactor.watch(started.pidfd.fileno(), lambda _events: self._died())
        return started

    def _kill(self) -> None:
        """Whoever does not answer is gone soon; its end is then an event."""
        self._started.kill()

    def _reap(self) -> str:
        if self._started.pidfd.closed:
            return ""
        self.reactor.forget(self._started.pidfd.fileno())
        return self._started.reap()

    def _died(self) -> None:
        how = self._reap()
        now = self.reactor.clock()
        pause = 0.0 if now - self._since >= LIFE else PAUSE
        log.write(f"[emperor] the router (pid {self.pid}) ended with {how}: starting another")
        self._again = self.reactor.after(pause, self._resume)
        self.client.leave()

    def _resume(self) -> None:
        self._again = None
        self._since = self.reactor.clock()
        try:
            self._started = self._start()
        except DonjonError as error:
            log.write(f"[emperor] no router: {error}")
            self._again = self.reactor.after(PAUSE, self._resume)
            return
        self.client.resume_with(self._started.channel, self._resumed)

    def _resumed(self, refused: dict[str, RouterError] | DonjonError) -> None:
        if isinstance(refused, DonjonError):
            log.write(f"[emperor] no router: {refused}")
            self._kill()
            return
        for name, why in refused.items():
            log.write(f"[emperor] {name} has no network any more: {why}")
        self.restarts += 1
        log.write(f"[emperor] the router goes on (pid {self.pid})")
        self.resumed()


def _nothing() -> None:
    """Nobody wants to know."""


def _nobody(_result: object) -> None:
    """What became of it shows by itself."""


def _problem(result: object) -> DonjonError | None:
    return result if isinstance(result, DonjonError) else None
