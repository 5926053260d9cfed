"""The forkpty router: who connects gets a terminal of his own (uwsgi-facts 4.1).

A connection is *waiting* until it is known who it is and what it wants: for the first packets of
a framed one (its window's size, or the hello of our client), at most ``PATIENCE`` seconds, so that
the program's first look at its terminal finds the right size. Where a login is asked for, nothing
happens before the hello that brings it. Then it opens a session, or joins one by its name.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from donjon.errors import DonjonError, reason_of
from donjon.fork_pty import audit, credentials, shell, statistics, ticket
from donjon.fork_pty.hello import Hello, read_hello
from donjon.fork_pty.house import House, Local, Program, Wanted
from donjon.fork_pty.limits import Rate
from donjon.fork_pty.loop import READ, Callback, Loop, Timer
from donjon.fork_pty.peer import Connection, Peer, Role
from donjon.fork_pty.protocol import Packet, What, Word
from donjon.fork_pty.session import Session
from donjon.fork_pty.spec import PAM, PEER, TICKET, RouterSpec
from donjon.records import dataclass, field

if TYPE_CHECKING:
    from donjon.fork_pty.tls import Handshakes

PATIENCE = 0.1
"""Seconds for the first packets of a client that need not send any."""

LOGIN_PATIENCE = 30.0
"""Seconds for the hello of one that must."""

DELAY = 2.0
"""Seconds between a failed login and the word that it failed."""

COMPLAINTS = 10
"""Lines a second about who had no login to fail: more of them are counted."""

WAITING_MAX = 64
WAITING_EACH = 16
"""Of one address: who has a certificate's handshake behind him need not log in."""

PEERS_MAX = 32
"""Clients of one session: each may be far behind, and is remembered what it has not read."""

LOGINS_MAX = 16
"""Logins that PAM is asked about at once: a process each, for as long as PAM takes."""

KEYS_MAX = 64 << 10
"""Bytes that a client may send before it has a session."""

SIZE = frozenset({What.ROWS, What.COLS})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Opened:
    """A listening socket and whether its clients speak in packets."""

    listener: socket.socket
    framed: bool


@dataclass(frozen=True, slots=True)
class Post:
    """What is different for a router outside of the jail.

    ``idle`` are seconds without a client after which it ends, 0 for never; ``facts`` are in each
    of its audit lines; ``operators`` may say what is run, and see which sessions there are.
    """

    idle: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)
    operators: bool = False


@dataclass(slots=True, eq=False)
class Waiting:
    """A connection that has no session yet."""

    peer: Peer
    rows: int
    cols: int
    timer: Timer
    host: str = ""  # the address of one that comes by TCP and has to log in
    sized: set[What] = field(default_factory=set)
    keys: list[Packet] = field(default_factory=list)
    name: str = ""
    keep: bool = False
    take: bool = False
    term: str = ""
    command: tuple[str, ...] = ()
    settled: bool = False  # admitted, or being refused: more of it changes nothing


class Router:
    """Serves until ``stop``; all of it in one thread."""

    def __init__(
        self, spec: RouterSpec, opened: Sequence[Opened], stats: socket.socket | None, name: str,
        *, house: Callable[[Loop], House] = Local, post: Post | None = None,
    ) -> None:  # fmt: skip
        """Listen on what was opened. ``name`` is the instance's. Raises DonjonError, OSError.

        ``post`` is what is different for one outside of the jail.
        """
        self.spec = spec
        self.name = name
        self.post = post or Post()
        self.loop = Loop(spec.events)
        self.house = house(self.loop)
        self.sessions: dict[int, Session] = {}
        self.waiting: set[Waiting] = set()
        self.refused = 0
        self._logins = 0  # that PAM is asked about now, also for clients that are gone
        self._opening = 0  # programs that are being begun
        self._number = 0
        self._busy = time.monotonic()
        self._opened = tuple(opened)
        self._listening: set[int] = set()
        self._stats = stats
        self._rate = Rate(spec.rate)
        self._complaints = Rate(COMPLAINTS)
        self._unsaid = 0  # refusals since the last line that counted them
        self._handshakes: Handshakes | None = None
        if spec.tls_cert is not None:
            self._handshakes = _handshakes(self.loop, spec)
        self._gate: ticket.Gate | None = None
        self.house.prepare(spec)
        if spec.auth.kind == TICKET:
            assert spec.ticket_key is not None
            self._gate = ticket.Gate(name, ticket.read_key(spec.ticket_key))

    def run(self) -> None:
        """Serve."""
        for one in self._opened:
            accept = functools.partial(self._accept, one)
            self._listen(one.listener, accept)
        if self._stats is not None:
            self._listen(self._stats, self._tell_statistics)
        for number in (signal.SIGINT, signal.SIGTERM):
            self.loop.on_signal(number, self.stop)
        if self.spec.timeout or self.spec.longest or self.post.idle:
            self.loop.after(1.0, self._look)
        self.loop.run()
        self.loop.close()

    def _listen(self, listener: socket.socket, callback: Callback) -> None:
        listener.setblocking(False)  # noqa: FBT003  (socket names it so)
        self._listening.add(listener.fileno())
        self.loop.watch(listener.fileno(), READ, callback)

    def stop(self) -> None:
        """Hang up on everybody. Who comes from now on is the next router's."""
        self._count_unsaid()
        for fd in self._listening:
            self.loop.forget(fd)
        self._listening.clear()
        if self._handshakes is not None:
            self._handshakes.close()
        for one in tuple(self.waiting):
            self._drop(one)
        for session in tuple(self.sessions.values()):
            session.end("the router ends")
        if self.sessions:
            self.loop.after(shell.GRACE + 0.5, self.loop.stop)
        else:
            self.loop.stop()

    # -- who comes

    def _accept(self, door: Opened, _events: int) -> None:
        taken = self.loop.accept(door.listener)
        if taken is None:
            return
        link, address = taken
        spec = self.spec
        who, known = credentials.ask(link, address, spec.uids, spec.gids)
        known = known or spec.insecure or spec.auth.kind != PEER  # nobody decides, or the login
        if self._handshakes is None or link.family == socket.AF_UNIX:
            self._admit(door, link, who, known=known)
            return
        self._handshakes.begin(
            link, address[0],
            lambda tls: self._admit(door, tls, who, known=known),
            lambda why: self._no_handshake(who, why),
        )  # fmt: skip

    def _no_handshake(self, who: str, why: str) -> None:
        """Say so, but no oftener than who floods us should fill a disk (``_complain``)."""
        self.refused += 1
        self._complain(who, f"no TLS: {why}")

    def _complain(self, who: str, why: str) -> None:
        if self._complaints.take(time.monotonic()):
            self._audit("refuse", who=who, why=why)
        else:
            self._unsaid += 1

    def _count_unsaid(self) -> None:
        if self._unsaid:
            self._audit("refuse", more=self._unsaid, why=f"{COMPLAINTS} lines a second are told")
            self._unsaid = 0

    def _admit(self, door: Opened, link: Connection, who: str, *, known: bool) -> None:
        spec = self.spec
        peer = Peer(self.loop, link, framed=door.framed or spec.auth.kind != PEER, who=who)
        peer.listen()
        waits = LOGIN_PATIENCE if spec.auth.kind != PEER else PATIENCE if door.framed else 0.0
        timer = self.loop.after(waits, lambda: self._waited_enough(one))
        host = who.rpartition(":")[0] if spec.auth.kind != PEER else ""
        one = Waiting(peer, spec.rows, spec.cols, timer, host)
        self.waiting.add(one)
        peer.takes = lambda _peer, packets: self._hear(one, packets)
        peer.gone = lambda _peer: self._drop(one)
        if not known:
            self._refuse(one, "uid and gid are not of those that may", delay=0.0)
        elif len(self.waiting) > WAITING_MAX:
            self._refuse(one, "too many wait", delay=0.0)
        elif one.host and sum(other.host == one.host for other in self.waiting) > WAITING_EACH:
            self._refuse(one, "too many wait of this address", delay=0.0)
        elif spec.auth.kind == PEER and not door.framed:
            self._open(one)

    def _waited_enough(self, one: Waiting) -> None:
        if one.settled:
            return
        if self.spec.auth.kind == PEER:
            self._open(one)
        else:
            self._refuse(one, "no login came", delay=0.0)

    def _hear(self, one: Waiting, packets: list[Packet]) -> None:
        """Take the first packets of a client; what comes after a hello is for its session."""
        hello: bytes | None = None
        for packet in packets:
            if packet.what is What.ROWS:
                one.rows = packet.number
            elif packet.what is What.COLS:
                one.cols = packet.number
            elif packet.what is What.OURS and packet.number == Word.HELLO:
                hello = packet.body
            else:
                one.keys.append(packet)
            one.sized.add(packet.what)
        if sum(len(packet.body) + 1 for packet in one.keys) > KEYS_MAX:
            self._drop(one)
        elif one.settled:
            return
        elif hello is not None:
            self._greet(one, hello)
        elif self.spec.auth.kind == PEER and (one.sized >= SIZE or one.keys):
            self._open(one)

    def _greet(self, one: Waiting, body: bytes) -> None:
        """Take a hello: JSON with what is wanted, and the login."""
        one.peer.ours = True
        try:
            hello = read_hello(body)
        except ValueError as error:
            self._refuse(one, f"a hello that is none: {error}", delay=0.0)
            return
        one.name, one.keep, one.take = hello.session, hello.keep, hello.take
        one.rows, one.cols, one.term = hello.rows or one.rows, hello.cols or one.cols, hello.term
        one.command = tuple(hello.command)
        one.peer.wants_to_drive = not hello.watch
        if one.name and not NAME.fullmatch(one.name):
            self._refuse(one, "not a name of a session", delay=0.0)
        elif (hello.list or hello.command) and not self.post.operators:
            self._refuse(one, "only the operator may ask that", delay=0.0)
        elif hello.list:
            self._tell_sessions(one)
        elif self.spec.auth.kind == TICKET:
            self._check_ticket(one, hello.ticket)
        elif self.spec.auth.kind == PAM:
            one.settled = True
            self._ask_pam(one, hello)
        else:
            self._open(one)

    def _ask_pam(self, one: Waiting, hello: Hello) -> None:
        if self._logins >= LOGINS_MAX:
            self._refuse(one, "too many log in", delay=0.0)
            return
        try:
            self.house.login(
                self.spec.auth.service, hello.user, hello.password,
                lambda good: self._logged_in(one, hello.user, good=good),
            )  # fmt: skip
            self._logins += 1
        except OSError as error:
            self._refuse(one, f"no login: {reason_of(error)}", delay=0.0)

    def _check_ticket(self, one: Waiting, text: str) -> None:
        assert self._gate is not None
        try:
            found = self._gate.admit(text, time.time())
        except ticket.TicketError as error:
            self._refuse(one, str(error))
            return
        one.peer.who += audit.fact("ticket", found.user)
        one.peer.allowed = frozenset(found.roles)
        self._open(one)

    def _logged_in(self, one: Waiting, user: str, *, good: bool) -> None:
        self._logins -= 1
        if one not in self.waiting:
            return
        one.peer.who += audit.fact("user", user)
        if good:
            self._open(one)
        else:
            self._refuse(one, "login failed")

    # -- in or out

    def _refuse(self, one: Waiting, why: str, *, delay: float = DELAY) -> None:
        self.refused += 1
        one.settled = True
        one.timer.cancel()
        if delay:
            self._audit("refuse", who=one.peer.who, why=why)
        else:
            self._complain(one.peer.who, why)
        one.timer = self.loop.after(delay, lambda: self._turn_away(one, why))

    def _turn_away(self, one: Waiting, why: str) -> None:
        self.waiting.discard(one)
        one.peer.gone = _nobody
        one.peer.tell(news="refused", why=why)
        one.peer.finish()

    def _drop(self, one: Waiting) -> None:
        one.timer.cancel()
        one.settled = True
        self.waiting.discard(one)
        one.peer.close()

    def _open(self, one: Waiting) -> None:
        """Let a client in: to the session of its name, or to a new one."""
        peer = one.peer
        peer.wants_to_drive = peer.wants_to_drive and Role.DRIVE in peer.allowed
        if self._join_named(one):
            return
        why = self._limit(one)
        if why:
            self._refuse(one, why, delay=0.0)
            return
        one.settled = True
        one.timer.cancel()
        self._opening += 1
        self._number += 1
        number = self._number
        wanted = Wanted(
            number=number, command=one.command or shell.words(self.spec.command), rows=one.rows,
            cols=one.cols, environment=self._environment(one, number),
        )  # fmt: skip
        self.house.open(wanted, lambda program: self._begin(one, number, program))

    def _join_named(self, one: Waiting) -> bool:
        """Let a client in to the session of its name; return whether there is one."""
        found = self._living(one.name)
        if found is None:
            return False
        if len(found.peers) >= PEERS_MAX:
            self._refuse(one, "too many look at it", delay=0.0)
            return True
        self._join(one, found)
        if found.driver is one.peer:
            found.fit(one.rows, one.cols)
        return True

    def _living(self, name: str) -> Session | None:
        """Return the session of that name; those that end have lost theirs."""
        named = (s for s in self.sessions.values() if name and s.name == name and not s.over)
        return next(named, None)

    def _begin(self, one: Waiting, number: int, program: Program | str) -> None:
        """Make a session of a program that was begun, or say why there is none."""
        self._opening -= 1
        here = one in self.waiting
        if isinstance(program, str):
            if here:
                self._refuse(one, f"no terminal: {program}", delay=0.0)
            return
        taken = self._living(one.name) is not None
        session = Session(self.loop, number, one.name, program, self._ended)
        self.sessions[number] = session
        self._audit("open", session=number, name=one.name or "-", who=one.peer.who)
        if not here:
            session.end()  # who wanted it has left meanwhile
            return
        if taken:
            session.end()  # somebody was faster
            self._join_named(one)
            return
        session.kept = one.keep and bool(one.name)
        session.scrollback = self.spec.scrollback if one.name else 0
        session.record = self.house.record(number, one.rows, one.cols)
        self._join(one, session)

    def _limit(self, one: Waiting) -> str:
        if not one.peer.wants_to_drive:
            return "nothing to watch"
        if len(self.sessions) + self._opening >= self.spec.sessions:
            return "too many sessions"
        if not self._rate.take(time.monotonic()):
            return "too many sessions within a second"
        return ""

    def _join(self, one: Waiting, session: Session) -> None:
        self.waiting.discard(one)
        one.settled = True
        one.timer.cancel()
        peer = one.peer
        if session.peers:
            role = "drive" if one.take else "watch"
            self._audit("join", session=session.number, who=peer.who, role=role)
        session.join(peer)
        if one.take:
            session.hand_over(peer)
        if one.keys:
            peer.takes(peer, one.keys)

    def _environment(self, one: Waiting, number: int) -> dict[str, str]:
        more = {"TERM": one.term} if one.term else {}
        return shell.environment(os.environ, DONJON_SESSION=str(number), **more)

    def _audit(self, event: str, **facts: object) -> None:
        audit.write(event, **self.post.facts, **facts)

    def _tell_sessions(self, one: Waiting) -> None:
        """Say which sessions there are, to who asked only that."""
        for session in self.sessions.values():
            session.sync()
        rows = [statistics.row(session) for session in self.sessions.values() if not session.over]
        one.settled = True
        one.timer.cancel()
        self.waiting.discard(one)
        one.peer.gone = _nobody
        for row in rows:
            one.peer.tell(news="session", **row)
        one.peer.tell(news="end", status=0)
        one.peer.finish()

    def _ended(self, session: Session) -> None:
        del self.sessions[session.number]
        lasted = time.monotonic() - session.began
        self._audit(
            "close", session=session.number, seconds=f"{lasted:.1f}",
            status=session.program.status, keys=session.received, output=session.sent,
        )  # fmt: skip

    def _look(self) -> None:
        """End what is silent or lasts too long."""
        self.loop.after(1.0, self._look)
        self._count_unsaid()
        now, spec = time.monotonic(), self.spec
        if self.sessions or self.waiting or self._opening:
            self._busy = now
        elif self.post.idle and now - self._busy >= self.post.idle and self._knows_nothing():
            self.stop()
            return
        for session in tuple(self.sessions.values()):
            session.sync()
            if spec.timeout and now - session.active >= spec.timeout:
                session.end("silent for too long")
            elif spec.longest and now - session.began >= spec.longest:
                session.end("it lasted as long as it may")

    def _knows_nothing(self) -> bool:
        """Whether the next router would do the same: no ticket was used that is still good."""
        return self._gate is None or not self._gate.remembers(time.time())

    def _tell_statistics(self, _events: int) -> None:
        assert self._stats is not None
        taken = self.loop.accept(self._stats)
        if taken is None:
            return
        for session in self.sessions.values():
            session.sync()
        statistics.answer(taken[0], self)


def _handshakes(loop: Loop, spec: RouterSpec) -> Handshakes:
    """Have TLS, which few routers need. Raises DonjonError."""
    try:
        from donjon.fork_pty import tls  # noqa: PLC0415  (OpenSSL is a MiB)
    except ImportError as error:
        raise DonjonError(
            "forkpty-tls-cert needs Python's ssl", reason=str(error), hint="restart the instance"
        ) from error
    return tls.Handshakes(loop, tls.server(spec))


def _nobody(_peer: Peer) -> None:
    """Nobody waits for the end of one that was turned away."""
