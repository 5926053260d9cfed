"""All that there is with one peer: its link, the next one, the last ones, and our router's end.

A link is replaced without a gap: the next one is made beside it, and when that is up packets go
there, while the old one still delivers what is on its way. This is done when certificates are new,
and every hour, so that keys do not grow old. Whoever dials does it; the other one asks for it.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Callable, Sequence

from donjon import log
from donjon.tuntap.federation import wire
from donjon.tuntap.federation.link import HIGH, READ, WRITE, Link, LinkError, State, dial
from donjon.tuntap.federation.peer import Peer
from donjon.tuntap.federation.wire import Announced, Kind, Route, Said, Splitter, WireError

ALIVE = 2.0
"""Seconds of silence after which an end says that it is there."""

DEAD = 7.0
"""Seconds of silence after which a link is dead."""

PATIENCE = 10.0
"""Seconds that a link has to be up, or to be over when it leaves."""

RENEW = 3600.0
"""Seconds after which a link is replaced."""

SHORTEST, LONGEST = 0.5, 30.0
"""Seconds between attempts to connect: each takes twice as long as the last, with chance."""

MOST_GUESTS = 4
"""Links of one peer that have not greeted, and as many that leave."""

SETTLE = 0.1
"""Seconds between announcements."""

Contexts = Callable[[], tuple[ssl.SSLContext, ssl.SSLContext] | None]
"""How we speak to peers now, as client and as server; None without certificates."""


class Peering:
    """One peer and what is between us."""

    def __init__(self, peer: Peer, identity: int, contexts: Contexts) -> None:
        """Begin without a link; one that has an address is dialed at once."""
        self.peer = peer
        self.link: Link | None = None
        self.dialing: Link | None = None
        self.guests: list[Link] = []  # that were accepted and have not greeted yet
        self.leaving: list[Link] = []
        self.stream: socket.socket | None = None
        self.routes: list[Route] = []  # the peer's
        self.refused = 0  # of them
        self.why = "no link yet" if peer.where else "it has not connected yet"
        self.changed = True  # the Emperor is to be told
        self.report_at = 0.0  # and when, at the earliest
        self._identity = identity
        self._contexts = contexts
        self._own: Sequence[Route] = ()
        self._announce_at: float | None = None
        self._announced = Announced()
        self._splitter = Splitter()
        self._to_router = bytearray()
        self._dial_at: float | None = 0.0 if peer.where else None
        self._pause = SHORTEST

    # -- what is told and asked from outside

    @property
    def is_up(self) -> bool:
        """Whether packets pass."""
        return self.link is not None

    @property
    def _is_full(self) -> bool:
        """Whether the link takes nothing more now."""
        return self.link is not None and len(self.link.out) >= HIGH

    def sockets(self) -> list[tuple[socket.socket | Link, int]]:
        """Return what is to be waited for."""
        listen = len(self._to_router) < HIGH
        found: list[tuple[socket.socket | Link, int]] = [
            (one, one.events(listen=listen)) for one in self.links()
        ]
        if self.stream is not None:
            events = (0 if self._is_full else READ) | (WRITE if self._to_router else 0)
            found.append((self.stream, events))
        return found

    def links(self) -> list[Link]:
        """Return all links that there are."""
        return [
            one
            for one in (self.link, self.dialing, *self.guests, *self.leaving)
            if one is not None
        ]

    @property
    def more(self) -> bool:
        """Whether there is something to do that no event will tell."""
        return len(self._to_router) < HIGH and any(one.more for one in self.links())

    def use_stream(self, stream: socket.socket) -> None:
        """Have another router, or the first."""
        if self.stream is not None:
            self.stream.close()
        stream.settimeout(0)
        self.stream = stream
        self._splitter = Splitter()
        self._to_router.clear()

    def announce(self, routes: Sequence[Route], now: float) -> None:
        """Tell the peer soon which addresses are ours."""
        self._own = routes
        if self._announce_at is None:
            self._announce_at = now + SETTLE

    def renew(self, now: float) -> None:
        """Replace the link soon."""
        if self.link is not None and not self.link.dialed:
            self.link.say(wire.frame(Kind.AGAIN))
        if self.dialing is not None:
            self._forget(self.dialing)
        if self.peer.where is not None:
            self._dial_at, self._pause = now, SHORTEST

    # -- time

    def tick(self, now: float) -> float:
        """Do what is due; return when there is something next."""
        if self.link is not None:
            self._look_after(self.link, now)
        for one in self.links():
            if one is not self.link and now - one.begun >= PATIENCE:
                self.lose(one, "it took too long", now)
        if self._announce_at is not None and now >= self._announce_at:
            full = self._is_full
            self._announce_at = now + ALIVE if full else None  # who reads nothing gets no more
            if self.link is not None and not full:
                self._say_own(self.link)
        if self._dial_at is not None and now >= self._dial_at and self.dialing is None:
            self._dial(now)
        due = [now + ALIVE / 2]
        due += [one for one in (self._announce_at, self._dial_at) if one is not None]
        return min(due)

    def _look_after(self, link: Link, now: float) -> None:
        if link.is_expired():
            self.lose(link, "its certificate has expired", now)
        elif now - link.heard >= DEAD:
            self.lose(link, f"nothing was heard for {DEAD:.0f} s", now)
        elif link.dialed and now - link.begun >= RENEW and self._dial_at is None:
            self._dial_at = now
        elif now - link.spoke >= ALIVE and not link.out:
            link.say(wire.frame(Kind.ALIVE))
            link.spoke = now

    def _dial(self, now: float) -> None:
        contexts = self._contexts()
        self._dial_at = None
        if contexts is None:
            return  # renew() comes with them
        try:
            self.dialing = dial(self.peer, contexts[0], now)
        except LinkError as error:
            self._put_off(str(error), now)

    def _put_off(self, why: str, now: float) -> None:
        """Try later, and say why; where a link is up it stays."""
        self._explain(why)
        if self.peer.where is not None and self.dialing is None:
            self._dial_at = now + self._pause * (0.5 + secrets.randbelow(1000) / 1000)
            self._pause = min(2 * self._pause, LONGEST)

    def _explain(self, why: str) -> None:
        if why != self.why:
            self.why, self.changed = why, True
            more = "; the link that there is stays" if self.link else ""
            log.write(f"[federation] no link to {self.peer.name}: {why}{more}")

    # -- links

    def advance(self, link: Link, now: float) -> None:
        """Do what a link can do now."""
        try:
            was = link.state
            found = link.advance(now, listen=len(self._to_router) < HIGH)
            if was.value < State.GREETING.value <= link.state.value:
                link.say(wire.hello(self._identity))
        except LinkError as error:
            self.lose(link, str(error), now)
            return
        self._take_all(link, found, now)

    def welcome(self, link: Link, found: Sequence[bytes | Said], now: float) -> None:
        """Greet who connected and is this peer; ``found`` it has said already."""
        link.peer = self.peer
        link.say(wire.hello(self._identity))
        self.guests.append(link)
        if len(self.guests) > MOST_GUESTS:
            self._forget(self.guests[0])
        self._take_all(link, found, now)

    def _take_all(self, link: Link, found: Sequence[bytes | Said], now: float) -> None:
        try:
            for one in found:
                self._take(link, one, now)
            link.write(now)
        except WireError as error:
            self.lose(link, f"the peer sent {error}", now)
        except LinkError as error:
            self.lose(link, str(error), now)
        else:
            if link.is_over:
                self._forget(link)
            self.flush()

    def _take(self, link: Link, one: bytes | Said, now: float) -> None:
        if isinstance(one, Said):
            self._hear(link, one, now)
        elif link.state in {State.UP, State.LEAVING}:
            if self.stream is not None:
                self._to_router += one
        else:
            raise WireError("packets before a greeting")

    def _hear(self, link: Link, said: Said, now: float) -> None:
        if said.kind is Kind.HELLO:
            if link.state is not State.GREETING:
                raise WireError("a second greeting")
            link.other = wire.read_hello(said.content)
            self.up(link, now)
        elif link.state is State.GREETING:
            raise WireError("something before a greeting")
        elif said.kind is Kind.ROUTES and link is self.link:
            routes = self._announced.feed(said.content)
            if routes is not None:
                self._believe(routes)
        elif said.kind is Kind.AGAIN and link is self.link and self._dial_at is None:
            self._dial_at = now + SHORTEST if self.peer.where else None
        elif said.kind is Kind.BYE:
            link.bye = True

    def _believe(self, routes: list[Route]) -> None:
        """Take what the peer may have of what it says that it has."""
        good = [one for one in routes if self.peer.holds(one[0])]
        refused = len(routes) - len(good)
        if refused and refused != self.refused:
            bad = next(address for address, _ in routes if not self.peer.holds(address))
            log.write(
                f"[federation] {self.peer.name} announces {refused} addresses that are not its "
                f"own, as {bad}: refused"
            )
        self.changed |= (good, refused) != (self.routes, self.refused)
        self.routes, self.refused = good, refused

    def up(self, link: Link, now: float) -> None:
        """A link has greeted: it is the one, but where both dialed at once and it is too many."""
        link.state = State.UP
        if link is self.dialing:
            self.dialing = None
        if link in self.guests:
            self.guests.remove(link)
        if self.link is not None and self._keeps(self.link, link):
            self._leave(link, now)
            return
        old, self.link = self.link, link
        self._dial_at, self._pause = None, SHORTEST
        self._announced = Announced()
        self._say_own(link)
        self.why, self.changed = "", True
        if old is not None:
            self._leave(old, now)
        log.write(f"[federation] {'another' if old else 'a'} link to {self.peer.name} is up")

    def _keeps(self, old: Link, new: Link) -> bool:
        """Whether the old one is to stay: of two that were dialed by the two ends, that of the
        lower identity, and both ends know both."""
        if old.other != new.other or old.dialed == new.dialed:
            return False
        return self._dialer(old) < self._dialer(new)

    def _dialer(self, link: Link) -> int:
        return self._identity if link.dialed else link.other

    def _leave(self, link: Link, now: float) -> None:
        link.leave()
        link.begun = now
        self.leaving.append(link)
        if len(self.leaving) > MOST_GUESTS:
            self._forget(self.leaving[0])

    def _say_own(self, link: Link) -> None:
        for part in wire.announcement(self._own):
            link.say(part)

    def lose(self, link: Link, why: str, now: float) -> None:
        """A link is over."""
        current, dialed = link is self.link, link is self.dialing
        self._forget(link)
        if current:
            self.routes, self.refused, self.changed = [], 0, True
        if current or dialed:
            self._put_off(why, now)

    def _forget(self, link: Link) -> None:
        if link is self.link:
            self.link = None
        if link is self.dialing:
            self.dialing = None
        for some in (self.guests, self.leaving):
            if link in some:
                some.remove(link)
        link.close()

    # -- our router

    def hear_router(self, now: float) -> None:
        """Pass on what our router sends, while the link takes it; without a link it is lost."""
        assert self.stream is not None
        if self._is_full:
            return
        try:
            data = self.stream.recv(65536)
            found = self._splitter.feed(data)
        except BlockingIOError:
            return
        except (OSError, WireError):
            data = b""
        if not data:
            self.stream.close()
            self.stream = None
            return
        if self.link is None:
            return
        for one in found:
            if not isinstance(one, Said):
                self.link.say(one)
        try:
            self.link.write(now)
        except LinkError as error:
            self.lose(self.link, str(error), now)

    def flush(self) -> None:
        """Give our router what waits for it, as far as it takes it."""
        try:
            while self._to_router and self.stream is not None:
                del self._to_router[: self.stream.send(self._to_router)]
        except BlockingIOError:
            return
        except OSError:
            self._to_router.clear()  # its end is an event

    def close(self) -> None:
        """Close everything."""
        for link in self.links():
            link.close()
        if self.stream is not None:
            self.stream.close()
