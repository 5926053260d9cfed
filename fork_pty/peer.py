"""One connection to a router: what it is allowed, and what it has not read yet."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from typing import Any, Protocol

from donjon.fork_pty import protocol
from donjon.fork_pty.loop import READ, WRITE, Loop, Spilling
from donjon.fork_pty.protocol import Packet, ProtocolError, Reader, What, Word

PIECE = 16384
"""Bytes that are read at once; a pseudoterminal gives 4 KiB."""

LAST_WORDS = 10.0
"""Seconds that a client has to read the end."""

WATCHER_MAX = 256 << 10
"""Bytes that one who watches may be behind."""

MARK = b"\r\n[donjon: you were too far behind and are cut off]\r\n"


class Connection(Protocol):
    """What a peer needs of a socket; one that is ``encrypted`` is nothing for the pump."""

    def fileno(self) -> int:
        """Lend the descriptor."""

    def recv(self, count: int, /) -> bytes:
        """Read. Raises BlockingIOError, OSError."""

    def send(self, data: bytes | bytearray, /) -> int:
        """Write what is taken. Raises BlockingIOError, OSError."""

    def close(self) -> None:
        """Hang up."""


class Role(enum.StrEnum):
    """What a client may do with a session; who drives sends signals too, a watcher as its ticket
    says.
    """

    DRIVE = "drive"
    WATCH = "watch"
    SIGNAL = "signal"


class Peer:
    """A client. ``takes`` gets its packets, ``gone`` is told of its end."""

    def __init__(self, loop: Loop, link: Connection, *, framed: bool, who: str) -> None:
        """Own the connection; nothing is read before ``listen``."""
        self.loop = loop
        self.link = link
        self.who = who
        self.allowed = frozenset({Role.DRIVE, Role.WATCH})
        self.wants_to_drive = True
        self.ours = False  # said hello: gets packets too
        self.behind = 0
        self.reading = True
        self.types: Callable[[bytes], None] | None = None  # of who drives: its keys
        self.takes: Callable[[Peer, list[Packet]], None] = _ignore
        self.gone: Callable[[Peer], None] = _forget
        self.drained: Callable[[], None] = _nothing
        self.settled: Callable[[], None] = _nothing  # what came was taken
        self._fd = link.fileno()
        self._reader = Reader() if framed else None
        self._out = bytearray()
        self._last = False  # close once everything is sent
        self._encrypted = getattr(link, "encrypted", False)
        self.closed = False

    def listen(self) -> None:
        """Begin to read."""
        self.loop.watch(self._fd, READ, self._serve)

    def _serve(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.closed or not events & ~WRITE:
            return
        if self.reading:
            self._read()
            self.settled()
        elif events & ~(READ | WRITE):
            self._end()  # hung up while we do not read

    def _read(self) -> None:
        try:
            data = self.link.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        keys = data if self._reader is None else self._reader.only_keys(data)
        if keys is not None and self.types is not None:
            self.types(keys)
        elif self._reader is None:
            self.takes(self, [Packet(What.INPUT, 0, data)])
        else:
            self._unpack(self._reader, data)

    def pumped(self) -> Spilling | None:
        """Return what the loop copies from, None where what comes or goes needs a thought."""
        if self._out or not self.reading or self.closed or self.ours or self._encrypted:
            return None
        if self._reader is None:
            assert self.types is not None
            return self._fd, self.types
        return (self._fd, self._spill) if self._reader.is_between() else None

    @property
    def framed(self) -> bool:
        """Whether it speaks in packets."""
        return self._reader is not None

    def _spill(self, data: bytes) -> None:
        assert self._reader is not None
        self._unpack(self._reader, data)
        self.settled()

    def _unpack(self, reader: Reader, data: bytes) -> None:
        try:
            packets = reader.feed(data)
        except ProtocolError:
            self._end()
            return
        self.takes(self, packets)

    def show(self, data: bytes) -> None:
        """Send what the program wrote."""
        self._send(protocol.output(data) if self.ours else data)

    def tell(self, **words: Any) -> None:
        """Send news, to a client that understands them."""
        if self.ours:
            self._send(protocol.said(Word.NEWS, **words))

    def _send(self, data: bytes) -> None:
        if self.closed:
            return
        if not self._out:
            try:
                sent = self.link.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.loop.after(0.0, self._end)
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._out += data
        self.behind = len(self._out)
        self._listen_for()

    def _flush(self) -> None:
        try:
            sent = self.link.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        del self._out[:sent]
        self.behind = len(self._out)
        if not self._out:
            if self._last:
                self._end()
                return
            self._listen_for()
            self.drained()

    def pause(self, *, reading: bool) -> None:
        """Read from it, or not: its terminal takes nothing now."""
        if reading is not self.reading and not self.closed:
            self.reading = reading
            self._listen_for()

    def _listen_for(self) -> None:
        events = (READ if self.reading else 0) | (WRITE if self._out else 0)
        self.loop.change(self._fd, events)

    def finish(self) -> None:
        """Close once everything is sent, or ``LAST_WORDS`` seconds have passed."""
        self._last = True
        self.loop.after(LAST_WORDS, self._end)
        if not self._out:
            self._end()

    def cut_off(self) -> None:
        """Forget what it has not read, say ``MARK`` if that can be said, and hang up."""
        if not self.ours:  # there it could stand within a packet
            with contextlib.suppress(OSError):
                self.link.send(MARK)
        self.gone = _forget
        self._end()

    def _end(self) -> None:
        if not self.closed:
            self.close()
            self.gone(self)

    def close(self) -> None:
        """Hang up, and tell nobody."""
        if not self.closed:
            self.closed = True
            self.loop.forget(self._fd)
            self.link.close()


def _ignore(_peer: Peer, _packets: list[Packet]) -> None:
    """Take nothing yet."""


def _forget(_peer: Peer) -> None:
    """Nobody waits for its end."""


def _nothing() -> None:
    """Nobody waits for it."""
