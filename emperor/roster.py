"""The record of one vassal: what the Emperor knows of it now."""

from __future__ import annotations

import socket

from donjon.emperor.logs import VassalLog
from donjon.emperor.prepare import Reading
from donjon.emperor.protocol import RateLimit
from donjon.emperor.reactor import Timer
from donjon.emperor.scanner import Found, Source
from donjon.emperor.vassal import State
from donjon.fd import Fd
from donjon.records import dataclass, field


@dataclass(slots=True)
class Process:
    """A living vassal's process and the Emperor's ends of what leads to it."""

    pid: int
    pidfd: Fd
    control: socket.socket | None
    launch: socket.socket | None
    reading: Reading
    foreign: bool = False  # executed: it reads its configuration itself
    started: float = 0.0  # monotonic


@dataclass(slots=True)
class Marks:
    """What a vassal said of itself, and when (seconds since the epoch, 0 for never)."""

    ready: bool = False
    accepting: bool = False
    loyal: bool = False
    last_ready: int = 0
    last_accepting: int = 0
    last_loyal: int = 0
    last_heartbeat: int = 0
    beat: float = 0.0  # monotonic; 0.0: no heartbeat expected

    def renew(self) -> None:
        """It is about to begin anew under the same pid. Loyalty stays (uwsgi-facts 1.2)."""
        self.ready = self.accepting = False


@dataclass(slots=True, kw_only=True)
class Vassal:
    """One vassal. Times are seconds since the epoch unless said otherwise."""

    name: str
    source: Source
    found: Found
    log: VassalLog
    state: State = State.WAITING
    process: Process | None = None
    reading: Reading | None = None  # read, and not yet what runs
    marks: Marks = field(default_factory=Marks)
    rate: RateLimit = field(default_factory=RateLimit)
    error: str = ""  # the last reason why it does not run, or did not reload
    born: int = 0
    first_run: int = 0
    last_run: int = 0
    respawns: int = 0
    cursed: int = 0
    zerg: int = 0  # running number of a reinforcement, 0 for an ordinary vassal
    starts_at: float = 0.0  # end of the back-off, for people
    last_try: float = 0.0  # monotonic
    on_demand: str = ""  # address of its socket, "" for an ordinary vassal
    doorbell: socket.socket | None = None  # that socket
    read_again: bool = False
    plan_unknown: bool = False  # the last reading named a plan that nobody defined
    unread: bool = False  # the file was empty or half written when it was looked at
    impatient: bool = False  # its file changed: do not wait for the back-off
    reading_number: int = 0  # of the evaluation under way, 0 for none
    due: Timer | None = None
    curse: Timer | None = None
    pulse: Timer | None = None
    gap: Timer | None = None  # its file vanished a moment ago
    leftovers: list[str] = field(default_factory=list)  # noted with the janitor

    @property
    def pid(self) -> int:
        """Its pid, -1 while nothing runs."""
        return self.process.pid if self.process else -1

    @property
    def is_zerg(self) -> bool:
        """Any vassal whose name contains a colon counts (uwsgi-facts 1.6)."""
        return ":" in self.name
