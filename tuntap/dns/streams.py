"""TCP connections of jails: for answers that are too long for a datagram (RFC 7766).

A connection has one question at a time; what it sends meanwhile waits in the kernel.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable

from donjon.tuntap.dns.answers import LARGEST_QUESTION
from donjon.tuntap.dns.loop import READ, WRITE, Loop

MOST = 256
MOST_OF_JAIL = 4
PATIENCE = 5.0
"""Seconds for a question to come whole, and for an answer to be taken."""

_LENGTH = 2

Reply = Callable[[bytes], None]
Ask = Callable[[bytes, str, Reply], None]
"""Is given a question, the address of who asks, and what takes the answer, once or never."""


class Stream:
    """One connection."""

    __slots__ = ("due", "host", "inbox", "link", "outbox", "whose")

    def __init__(self, link: socket.socket, host: str, whose: object, due: float) -> None:
        self.link = link
        self.host = host
        self.whose = whose
        self.due = due
        self.inbox = bytearray()
        self.outbox = b""


class Streams:
    """All connections."""

    def __init__(self, loop: Loop, ask: Ask) -> None:
        self._loop = loop
        self._ask = ask
        self._open: dict[Stream, None] = {}

    def accept(self, listener: socket.socket, whose: Callable[[str], object | None]) -> None:
        """Accept one; ``whose`` says whose an address is, None is nobody's."""
        try:
            link, (host, *_) = listener.accept()
        except OSError:
            return  # it is gone already, or there are no descriptors left
        owner = whose(host)
        if owner is None or not self._make_room(owner):
            link.close()
            return
        link.settimeout(0)
        stream = Stream(link, host, owner, self._loop.now + PATIENCE)
        self._open[stream] = None
        self._listen(stream)

    def next_due(self) -> float | None:
        """Return when the first is given up."""
        return min((one.due for one in self._open), default=None)

    def expire(self) -> None:
        """Give up what is overdue."""
        for stream in [one for one in self._open if one.due <= self._loop.now]:
            self._close(stream)

    def _make_room(self, owner: object) -> bool:
        counts = Counter(one.whose for one in self._open)
        if counts[owner] >= MOST_OF_JAIL:
            return False
        if len(self._open) >= MOST:
            ((most, count),) = counts.most_common(1)
            if count <= counts[owner] + 1:
                return False
            self._close(next(one for one in self._open if one.whose == most))
        return True

    def _listen(self, stream: Stream) -> None:
        self._loop.watch(stream.link, READ, lambda: self._read(stream))

    def _close(self, stream: Stream) -> None:
        if stream in self._open:
            del self._open[stream]
            self._loop.forget(stream.link)
            stream.link.close()

    def _read(self, stream: Stream) -> None:
        try:
            data = stream.link.recv(_LENGTH + LARGEST_QUESTION - len(stream.inbox))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(stream)
            return
        stream.inbox += data
        self._look(stream)

    def _look(self, stream: Stream) -> None:
        """Ask what came whole; nothing else is read before it is answered."""
        size = int.from_bytes(stream.inbox[:_LENGTH]) if len(stream.inbox) >= _LENGTH else 0
        if size > LARGEST_QUESTION:
            self._close(stream)
        elif size and len(stream.inbox) >= _LENGTH + size:
            question = bytes(stream.inbox[_LENGTH : _LENGTH + size])
            del stream.inbox[: _LENGTH + size]
            self._loop.forget(stream.link)
            stream.due = self._loop.now + PATIENCE
            self._ask(question, stream.host, lambda wire: self._answer(stream, wire))

    def _answer(self, stream: Stream, wire: bytes) -> None:
        if stream not in self._open:
            return  # it was given up meanwhile
        stream.outbox = len(wire).to_bytes(_LENGTH) + wire
        stream.due = self._loop.now + PATIENCE
        self._loop.watch(stream.link, WRITE, lambda: self._write(stream))

    def _write(self, stream: Stream) -> None:
        try:
            sent = stream.link.send(stream.outbox)
        except BlockingIOError:
            return
        except OSError:
            self._close(stream)
            return
        stream.outbox = stream.outbox[sent:]
        if not stream.outbox:
            self._listen(stream)
            self._look(stream)
