"""Framed peers: who connects, says who it is where that is asked for, and becomes a port."""

from __future__ import annotations

import contextlib
import socket
import struct

from donjon.records import dataclass
from donjon.tuntap._plane import Plane
from donjon.tuntap.counters import FIRST_PEER, PORTS

GREETING = b"uwsgi-tuntap"
"""What a peer with credentials sends first (uwsgi-facts 5.7)."""

MOST_PEERS = 2048
"""Each may fill 576 KiB."""

MOST_WAITING = 64
"""Peers that have not said yet who they are; for one more the oldest is given up."""

Credentials = tuple[int, int, int]  # pid, uid, gid
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that is a port."""

    stream: socket.socket
    credentials: Credentials | None


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that peers connect to."""

    stream: socket.socket
    credentials: bool


class Peers:
    """All listeners and peers of a router."""

    def __init__(self, plane: Plane) -> None:
        """Begin without any."""
        self._plane = plane
        self._listeners: dict[int, Listener] = {}
        self._waiting: dict[int, socket.socket] = {}
        self._peers: dict[int, Peer] = {}
        self._next = FIRST_PEER

    def listen(self, stream: socket.socket, *, credentials: bool) -> None:
        """Accept peers on ``stream``, which is owned from now on."""
        stream.settimeout(0)
        self._listeners[stream.fileno()] = Listener(stream, credentials)
        self._plane.watch(stream.fileno())

    def ready(self, descriptor: int) -> None:
        """Do what a readable descriptor asks for, if it is one of ours."""
        if descriptor in self._listeners:
            self._accept(self._listeners[descriptor])
        elif descriptor in self._waiting:
            self._stop_waiting(self._waiting[descriptor])

    def remove(self, number: int) -> bool:
        """Forget a dead peer; whether ``number`` is one."""
        peer = self._peers.pop(number, None)
        if peer is None:
            return False
        self._plane.remove(number)
        peer.stream.close()
        return True

    def all(self) -> dict[int, Peer]:
        """Return the peers by their port numbers."""
        return self._peers

    def _accept(self, listener: Listener) -> None:
        try:
            stream, _ = listener.stream.accept()
        except OSError:
            return  # it is gone already, or there are no descriptors left
        stream.settimeout(0)
        if not listener.credentials:
            self._add(stream, None)
            return
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._waiting[stream.fileno()] = stream
        self._plane.watch(stream.fileno())
        if len(self._waiting) > MOST_WAITING:
            self._stop_waiting(next(iter(self._waiting.values())))

    def _stop_waiting(self, stream: socket.socket) -> None:
        """Hear a peer for the last time before it is a port: whoever says nothing is sent away."""
        del self._waiting[stream.fileno()]
        self._plane.unwatch(stream.fileno())
        said = _who(stream)
        if said is None:
            stream.close()
        else:
            self._add(stream, said)

    def _add(self, stream: socket.socket, credentials: Credentials | None) -> None:
        number = self._free_number()
        if number is None:
            stream.close()
            return
        if stream.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # it is gone already: the plane will see it
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._plane.add_stream(number, stream.fileno())
        self._peers[number] = Peer(stream, credentials)

    def _free_number(self) -> int | None:
        if len(self._peers) >= MOST_PEERS:
            return None
        while self._next in self._peers:
            self._next = self._next + 1 if self._next + 1 < PORTS else FIRST_PEER
        number = self._next
        self._next = number + 1 if number + 1 < PORTS else FIRST_PEER
        return number


def _who(stream: socket.socket) -> Credentials | None:
    """Return who a peer says it is, as the kernel vouches for it; None if it says nothing."""
    try:
        data, ancillary, _, _ = stream.recvmsg(
            len(GREETING), socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT
        )
    except OSError:
        return None
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and data == GREETING:
            pid, uid, gid = _CREDENTIALS.unpack(content)
            return pid, uid, gid
    return None
