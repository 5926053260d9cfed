"""The private line from the workers to their master: small packets over one socket pair.

A worker holds the customer's application, so nothing it sends is trusted: packets are of a fixed
form, and a pid counts only if it is a child of the master (``Children`` asks the kernel).
SOCK_SEQPACKET keeps packets whole.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
from dataclasses import dataclass

HEADER = struct.Struct("=BxHIi")
LIMIT = 64 * 1024
"""Bytes of the largest packet; an environment beyond that is reported cut at none (not at all)."""


class Word(enum.IntEnum):
    """What can be said."""

    SPAWNED = 1  # a sibling was made; pid says which
    LOADED = 2  # the application is loaded; the payload is environment.difference
    ACCEPTING = 3
    DUE = 4  # the worker wants to be replaced: max-requests
    HOOK_FAILED = 5  # a fatal hook failed in the worker
    RELOAD = 6  # the application asks for uwsgi.reload()
    STOP = 7  # the application asks for uwsgi.stop()
    ONCE = 8  # the hooks that run once a generation ran in this slot


@dataclass(frozen=True, slots=True)
class Message:
    """One packet. ``generation`` and ``slot`` say who speaks, ``pid`` whom it is about."""

    word: Word
    generation: int = 0
    slot: int = 0
    pid: int = 0
    payload: bytes = b""


class Channel:
    """Both ends; the master reads one, every worker writes the other."""

    def __init__(self) -> None:
        """Open the socket pair. Raises OSError."""
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reader.setblocking(False)  # noqa: FBT003  (socket names it so)

    def fileno(self) -> int:
        """Lend the master's end, for the loop."""
        return self._reader.fileno()

    def send(self, message: Message) -> None:
        """Say something, in a worker. A master that is gone is noticed elsewhere."""
        head = HEADER.pack(message.word, message.slot, message.generation, message.pid)
        payload = message.payload if len(message.payload) <= LIMIT - HEADER.size else b""
        with contextlib.suppress(OSError):
            self._writer.send(head + payload)

    def receive(self) -> list[Message]:
        """Return every packet that has come, malformed ones left out."""
        messages: list[Message] = []
        while True:
            try:
                packet = self._reader.recv(LIMIT)
            except BlockingIOError:
                return messages
            if message := _unpack(packet):
                messages.append(message)

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()


def _unpack(packet: bytes) -> Message | None:
    if len(packet) < HEADER.size:
        return None
    word, slot, generation, pid = HEADER.unpack_from(packet)
    if word not in Word._value2member_map_:
        return None
    return Message(Word(word), generation, slot, pid, packet[HEADER.size :])
