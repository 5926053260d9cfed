"""Questions that are asked upstream, each through a socket of its own.

A socket is connected, so the kernel takes nothing but what comes from where was asked; its port is
one that the kernel chose at random. Every try has another one, and another id. Who never answers
costs a jail its own places; when all are taken, the jail that has most loses its oldest.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import dns.message
import dns.rcode

from donjon.tuntap.dns import answers
from donjon.tuntap.dns.answers import Question
from donjon.tuntap.dns.book import Upstream
from donjon.tuntap.dns.loop import READ, WRITE, Loop

MOST = 512
MOST_OF_JAIL = 32
TRIES = 4
PATIENCE = 1.2
"""Seconds for one try; four are less than the 5 s of resolv.conf(5)."""

STRIKES = 5
"""Datagrams that are no answer, after which another socket is tried: somebody is guessing."""

_DATAGRAM = 4096
_ELSEWHERE = (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)
_LENGTH = 2  # bytes before a message over TCP: RFC 1035, 4.2.2

Reply = Callable[[bytes], None]


class Pending:
    """A question without an answer yet."""

    __slots__ = ("asked", "at", "due", "inbox", "left", "link", "outbox", "question", "reply",
                 "strikes", "whose")  # fmt: skip

    def __init__(self, question: Question, whose: object, reply: Reply, at: int) -> None:
        self.question = question
        self.whose = whose
        self.reply = reply
        self.at = at
        self.left = TRIES
        self.due = 0.0
        self.strikes = 0
        self.asked: dns.message.Message = question.message
        self.link: socket.socket | None = None
        self.inbox = bytearray()
        self.outbox = b""


class Forwarder:
    """All questions that are open. ``lost`` is called when nobody upstream answered one."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._open: dict[Pending, None] = {}  # the oldest try first
        self._of: dict[object, dict[Pending, None]] = {}
        self._preferred = 0
        self.upstreams: Sequence[Upstream] = ()
        self.lost: Callable[[], None] = lambda: None

    def ask(self, question: Question, whose: object, reply: Reply) -> None:
        """Have a question answered: ``reply`` gets the answer, once, sooner or later."""
        if not self.upstreams or not self._make_room(whose):
            reply(answers.refuse(question, dns.rcode.SERVFAIL))
            return
        pending = Pending(question, whose, reply, self._preferred)
        self._of.setdefault(whose, {})[pending] = None
        self._try(pending)

    def next_due(self) -> float | None:
        """Return when the oldest try is given up."""
        return next(iter(self._open)).due if self._open else None

    def expire(self) -> None:
        """Give up what is overdue."""
        while self._open and (oldest := next(iter(self._open))).due <= self._loop.now:
            self._again(oldest)

    def _make_room(self, whose: object) -> bool:
        own = len(self._of.get(whose, ()))
        if own >= MOST_OF_JAIL:
            return False
        if len(self._open) >= MOST:
            most = max(self._of.values(), key=len)
            if len(most) <= own + 1:
                return False
            self._fail(next(iter(most)))
        return True

    # -- one try

    def _try(self, pending: Pending) -> None:
        host, port = self.upstreams[pending.at % len(self.upstreams)]
        pending.asked = answers.ask(pending.question)
        wire = pending.asked.to_wire()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        is_stream = pending.question.is_stream
        kind = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
        try:
            link = pending.link = socket.socket(family, kind)
            link.settimeout(0)
            if is_stream:
                link.connect_ex((host, port))  # how it went is seen when it is written to
                pending.inbox, pending.outbox = bytearray(), len(wire).to_bytes(_LENGTH) + wire
                self._loop.watch(link, WRITE, lambda: self._write(pending))
            else:
                link.connect((host, port))
                link.send(wire)
                self._loop.watch(link, READ, lambda: self._hear(pending))
        except OSError:
            self._again(pending)
            return
        pending.strikes = 0
        pending.due = self._loop.now + PATIENCE
        self._open[pending] = None

    def _hang_up(self, pending: Pending) -> None:
        self._open.pop(pending, None)
        if pending.link is not None:
            self._loop.forget(pending.link)
            pending.link.close()
            pending.link = None

    def _again(self, pending: Pending) -> None:
        """Try the next one, if there is a try left; who failed is not asked first any more."""
        self._hang_up(pending)
        if pending.at == self._preferred:
            self._preferred += 1
        pending.left -= 1
        pending.at += 1
        if pending.left > 0 and self.upstreams:
            self._try(pending)
        else:
            self._fail(pending)
            self.lost()

    def _fail(self, pending: Pending) -> None:
        self._end(pending, answers.refuse(pending.question, dns.rcode.SERVFAIL))

    def _end(self, pending: Pending, wire: bytes) -> None:
        self._hang_up(pending)
        own = self._of[pending.whose]
        del own[pending]
        if not own:
            del self._of[pending.whose]
        pending.reply(wire)

    # -- what comes back

    def _hear(self, pending: Pending) -> None:
        assert pending.link is not None
        try:
            wire = pending.link.recv(_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:  # nobody is there: the kernel was told (ICMP)
            self._again(pending)
            return
        found = answers.accept(pending.asked, wire)
        if found is not None:
            self._take(pending, found)
            return
        pending.strikes += 1
        if pending.strikes >= STRIKES:
            self._again(pending)

    def _take(self, pending: Pending, found: dns.message.Message) -> None:
        if found.rcode() in _ELSEWHERE and pending.left > 1 and len(self.upstreams) > 1:
            self._again(pending)
            return
        self._end(pending, answers.passed_on(pending.question, found))

    def _write(self, pending: Pending) -> None:
        assert pending.link is not None
        try:
            sent = pending.link.send(pending.outbox)
        except OSError:
            self._again(pending)
            return
        pending.outbox = pending.outbox[sent:]
        if not pending.outbox:
            self._loop.watch(pending.link, READ, lambda: self._read(pending))

    def _read(self, pending: Pending) -> None:
        assert pending.link is not None
        try:
            data = pending.link.recv(_LENGTH + answers.LARGEST_ANSWER - len(pending.inbox))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        pending.inbox += data
        size = int.from_bytes(pending.inbox[:_LENGTH]) if len(pending.inbox) >= _LENGTH else 0
        if size > answers.LARGEST_ANSWER:
            self._fail(pending)
        elif size and len(pending.inbox) >= _LENGTH + size:
            found = answers.accept(pending.asked, bytes(pending.inbox[_LENGTH : _LENGTH + size]))
            if found is not None and not answers.is_truncated(found):
                self._take(pending, found)
            else:
                self._again(pending)
        elif not data:
            self._again(pending)
