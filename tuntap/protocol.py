"""What a supervisor and its router say to each other, over one AF_UNIX SEQPACKET socket pair.

One message is one JSON object of at most ``LARGEST`` bytes, with at most ``MOST_DESCRIPTORS``
descriptors beside it (SCM_RIGHTS, unix(7)). A request names what to ``do``; the router answers
each with ``{"ok": true, ...}`` or ``{"error": "why"}``. Both sides carry ``VERSION`` in every
message and refuse another one: the two are always of one installation, so a difference is a
mistake. What may be long (rules, statistics) travels as a descriptor of memory, not as text.
"""

from __future__ import annotations

import array
import enum
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.records import dataclass

VERSION = 1

LARGEST = 16384
"""Bytes of one message."""

MOST_DESCRIPTORS = 4

LARGEST_MEMORY = 64 << 20
"""Bytes that either side reads of a memory descriptor."""


class RouterError(DonjonError):
    """The router refused a request, or cannot be reached."""


class RouterGoneError(RouterError):
    """The router ended, or does not answer: start another one and ``RouterClient.resume`` it."""


class Do(enum.Enum):
    """What a supervisor can ask for. The descriptors that go with each are named."""

    BEGIN = "begin"  # memory of the counters; a socket for what rules note
    DEVICE = "device"  # the router's own tun device
    LISTEN = "listen"  # a listening stream socket for framed peers
    GATEWAY = "gateway"  # a socket of UDP
    ATTACH = "attach"  # the tun device of a jail
    DETACH = "detach"
    ALLOT = "allot"  # networks of another router's
    TRUNK = "trunk"  # the stream of frames to it
    ROUTES = "routes"  # memory with the addresses that are there now, 16 bytes each
    RULES = "rules"  # memory with a compiled table
    PEERS = "peers"  # the answer brings memory with JSON
    CAPTURE = "capture"  # a SEQPACKET socket that takes a port's packets
    END_CAPTURE = "end-capture"  # the answer brings memory with JSON
    RULE_COUNTS = "rule-counts"  # the answer brings memory with JSON
    ALIVE = "alive"  # nothing but an answer


@dataclass(frozen=True, slots=True)
class Message:
    """One message and the descriptors that came with it, which the receiver owns."""

    body: Mapping[str, Any]
    descriptors: tuple[Fd, ...] = ()

    def text(self, key: str, most: int = 4096) -> str:
        """Return a text of the body. Raises RouterError."""
        value = self.body.get(key)
        if not isinstance(value, str) or len(value) > most:
            raise RouterError(f"router message: {key} is no text of at most {most} characters")
        return value

    def number(self, key: str, most: int) -> int:
        """Return a whole number from 0 to ``most``. Raises RouterError."""
        value = self.body.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise RouterError(f"router message: {key} is no number from 0 to {most}")
        return value

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        """Return a list of at most ``most`` texts. Raises RouterError."""
        value = self.body.get(key)
        if not isinstance(value, list) or len(value) > most:
            raise RouterError(f"router message: {key} is no list of at most {most}")
        if not all(isinstance(item, str) for item in value):
            raise RouterError(f"router message: {key} holds something that is no text")
        return tuple(value)

    def descriptor(self) -> Fd:
        """Return the only descriptor. Raises RouterError."""
        if len(self.descriptors) != 1:
            raise RouterError(f"router message: {len(self.descriptors)} descriptors instead of 1")
        return self.descriptors[0]

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        for descriptor in self.descriptors:
            descriptor.close()


def send(channel: socket.socket, body: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError, and RouterError for one that is too long."""
    data = json.dumps({"version": VERSION, **body}, separators=(",", ":")).encode()
    if len(data) > LARGEST or len(descriptors) > MOST_DESCRIPTORS:
        raise RouterError(f"router message of {len(data)} bytes", reason=f"at most {LARGEST}")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())]
    channel.sendmsg([data], rights if descriptors else [], socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> Message | None:
    """Receive one message, None at the end of the conversation. Raises OSError, RouterError."""
    item = array.array("i").itemsize
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * item)
    data, ancillary, flags, _ = channel.recvmsg(LARGEST, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(rights[: len(rights) - len(rights) % item])
    descriptors = tuple(Fd(number) for number in numbers)
    if not data:
        _close(descriptors)
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        _close(descriptors)
        raise RouterError("router message: longer than allowed")
    try:
        return Message(_body(data), descriptors)
    except RouterError:
        _close(descriptors)
        raise


def _close(descriptors: Sequence[Fd]) -> None:
    for descriptor in descriptors:
        descriptor.close()


def _body(data: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RouterError("router message: no JSON") from error
    if not isinstance(body, dict) or body.get("version") != VERSION:
        raise RouterError(f"router message: not of version {VERSION}")
    return body


def memory(name: str, data: bytes) -> Fd:
    """Return a memory descriptor with ``data``, memfd_create(2)."""
    made = Fd(os.memfd_create(name, os.MFD_CLOEXEC))
    view = memoryview(data)
    while view:
        view = view[os.write(made.fileno(), view) :]
    return made


def read_memory(descriptor: Fd) -> bytes:
    """Return what a memory descriptor holds. Raises OSError, RouterError."""
    data = bytearray()
    while block := os.pread(descriptor.fileno(), 1 << 20, len(data)):
        data += block
        if len(data) > LARGEST_MEMORY:
            raise RouterError(f"router memory of more than {LARGEST_MEMORY} bytes")
    return bytes(data)
