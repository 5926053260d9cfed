"""One link to a peer: a connection of TCP with TLS, without ever waiting.

A link connects (or was accepted), shakes hands, greets, is up, and leaves: then it says nothing
new, but what is on its way arrives. It holds no more than what a peer may send before it is
listened to again, and what our router sent before it was told to wait.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import selectors
import socket
import ssl
import time

from donjon.errors import reason_of
from donjon.tuntap.federation import wire
from donjon.tuntap.federation.peer import Peer
from donjon.tuntap.federation.wire import Kind, Said, Splitter, WireError

HIGH = 256 << 10
"""Bytes that wait to be sent until our router is not listened to any more."""

_BLOCK = 65536
_BLOCKS = 16
"""Reads of one turn."""

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class LinkError(Exception):
    """A link is over, and why."""


class State(enum.Enum):
    """Where a link is in its life, in this order."""

    CONNECTING = enum.auto()
    SHAKING = enum.auto()
    GREETING = enum.auto()
    UP = enum.auto()
    LEAVING = enum.auto()


class Link:
    """A link; ``peer`` is known of one that we dialed, of others when they shook hands."""

    def __init__(
        self, stream: socket.socket, context: ssl.SSLContext, peer: Peer | None, now: float
    ) -> None:
        """Own ``stream``, which is connected, or is being connected to ``peer``."""
        self.peer = peer
        self.dialed = peer is not None
        self.other = 0  # the identity of the process at the other end
        self.begun = self.heard = self.spoke = now
        self.expires = 0.0  # of the peer's certificate, seconds since 1970
        self.bye = False  # the peer says nothing new
        self.more = False  # there is something to be read that no event will tell
        self.out = bytearray()
        self.state = State.CONNECTING if self.dialed else State.SHAKING
        self._context = context
        self._splitter = Splitter()
        self._wants = 0
        self._plain = stream
        self._tls: ssl.SSLSocket | None = None
        stream.settimeout(0)
        if not self.dialed:
            self._tls = self._wrap()

    def _wrap(self) -> ssl.SSLSocket:
        with contextlib.suppress(OSError):  # it is gone already: the next call will say so
            self._plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return self._context.wrap_socket(
                self._plain,
                server_side=not self.dialed,
                do_handshake_on_connect=False,
                server_hostname=self.peer.name if self.peer else None,
            )
        except OSError as error:
            raise LinkError(_words(error)) from error

    def fileno(self) -> int:
        """Lend the descriptor, -1 once closed."""
        return (self._tls or self._plain).fileno()

    def events(self, *, listen: bool) -> int:
        """Return what is to be waited for; without ``listen`` nothing is read."""
        if self.state is State.CONNECTING:
            return WRITE
        if self.state is State.SHAKING:
            return self._wants or READ
        return (READ if listen else 0) | (WRITE if self.out else 0) | self._wants

    def say(self, data: bytes) -> None:
        """Send something when there is room."""
        self.out += data

    def leave(self) -> None:
        """Say nothing new any more."""
        self.say(wire.frame(Kind.BYE))
        self.state = State.LEAVING

    @property
    def is_over(self) -> bool:
        """Whether both ends have said everything."""
        return self.state is State.LEAVING and self.bye and not self.out

    def advance(self, now: float, *, listen: bool) -> list[bytes | Said]:
        """Do what can be done now; return what was received. Raises LinkError."""
        try:
            if self.state is State.CONNECTING:
                self._connect()
            if self.state is State.SHAKING and not self._shake():
                return []
            found = self._read(now) if listen else self._read_later()
            self._write(now)
        except WireError as error:
            raise LinkError(f"the peer sent {error}") from error
        except OSError as error:
            raise LinkError(_words(error)) from error
        return found

    def _connect(self) -> None:
        number = self._plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        self._tls = self._wrap()
        self.state = State.SHAKING

    def _shake(self) -> bool:
        assert self._tls is not None
        self._wants = 0
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._wants = WRITE
            return False
        certificate = self._tls.getpeercert() or {}
        self.expires = float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
        self.state = State.GREETING
        return True

    def names(self) -> set[str]:
        """Return the DNS names in the peer's certificate."""
        assert self._tls is not None
        found = (self._tls.getpeercert() or {}).get("subjectAltName", ())
        return {str(entry[1]) for entry in found if entry[0] == "DNS"}

    def is_expired(self) -> bool:
        """Whether the peer's certificate is not good any more."""
        return bool(self.expires) and time.time() >= self.expires

    def _read_later(self) -> list[bytes | Said]:
        self.more = self._tls is not None and self._tls.pending() > 0
        return []

    def _read(self, now: float) -> list[bytes | Said]:
        assert self._tls is not None
        found: list[bytes | Said] = []
        self.more, self._wants = False, 0
        for _ in range(_BLOCKS):
            try:
                data = self._tls.recv(_BLOCK)
            except ssl.SSLWantReadError:
                return found
            except ssl.SSLWantWriteError:
                self._wants = WRITE
                return found
            except OSError:
                if not found:
                    raise
                data = b""
            if not data and found:  # what came before the end is not lost with it
                self.more = True
                return found
            if not data:
                raise LinkError("the peer closed it")
            self.heard = now
            found += self._splitter.feed(data)
        self.more = self._tls.pending() > 0
        return found

    def write(self, now: float) -> None:
        """Send what waits, as far as the peer takes it. Raises LinkError."""
        try:
            self._write(now)
        except OSError as error:
            raise LinkError(_words(error)) from error

    def _write(self, now: float) -> None:
        if self._tls is None or self.state.value < State.GREETING.value:
            return
        while self.out:
            try:
                sent = self._tls.send(bytes(self.out[:_BLOCK]))
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            self.spoke = now
            del self.out[:sent]

    def close(self) -> None:
        """Close it; a second time does nothing."""
        (self._tls or self._plain).close()


def dial(peer: Peer, context: ssl.SSLContext, now: float) -> Link:
    """Begin to connect to a peer that has an address. Raises LinkError."""
    assert peer.where is not None
    address, port = peer.where
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    stream = socket.socket(family, socket.SOCK_STREAM)
    stream.settimeout(0)
    number = stream.connect_ex((str(address), port))
    if number not in {0, errno.EINPROGRESS}:
        stream.close()
        raise LinkError(os.strerror(number))
    return Link(stream, context, peer, now)


def _words(error: OSError) -> str:
    """Return in words why a link is over."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "the peer closed it"
    if isinstance(error, ssl.SSLError):
        words = (error.reason or str(error)).lower().replace("_", " ")
        return f"TLS: {words}"
    return reason_of(error)
