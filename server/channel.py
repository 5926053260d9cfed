"""The private line from the workers to their master: small packets over one pipe.

A worker holds the customer's application, so nothing it sends is trusted: packets are of a fixed
form, and a pid counts only if it is a child of the master (``Children`` asks the kernel).
A pipe in packet mode (O_DIRECT of
pipe(2)) keeps packets whole.
"""

from __future__ import annotations

import contextlib
import enum
import os
import struct

from donjon.records import dataclass

HEADER = struct.Struct("=BxHIi")
PIPE_BUF = 4096
"""Bytes of the largest packet that a pipe takes whole (pipe(7))."""

PACKETS_AT_ONCE = 256
"""A pipe holds a page for each, and a customer may enlarge it to a megabyte: so many are all that
was said before now, and one who never stops does not keep the master from everything else."""

pack = HEADER.pack
"""Makes the head of a packet: (word, slot, generation, pid)."""

ROOM = PIPE_BUF - HEADER.size


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
    PAUSED = 10  # the worker accepts no more and has no connection
    MORE = 9  # a piece of the payload of the packet that follows


_WORDS = {int(word): word for word in Word}


@dataclass(frozen=True, slots=True)
class Message:
    """One packet. ``generation`` and ``slot`` say who speaks, ``pid`` whom it is about."""

    word: Word
    generation: int = 0
    slot: int = 0
    pid: int = 0
    payload: bytes = b""


class Channel:
    """Both ends of a pipe in packet mode; the master reads one, every worker writes the other."""

    def __init__(self, ends: tuple[int, int] | None = None) -> None:
        """Open the pipe, or take over (reader, writer) of one. Raises OSError."""
        self._reader, self._writer = ends or os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
        if ends is None:
            os.set_blocking(self._reader, False)

    def fileno(self) -> int:
        """Lend the master's end, for the loop."""
        return self._reader

    def send(self, message: Message) -> None:
        """Say something, in a worker. A master that is gone is noticed elsewhere.

        A long payload goes ahead in packets of its own (MORE).
        """
        payload = message.payload
        with contextlib.suppress(OSError):
            while len(payload) > ROOM:
                part, payload = payload[:ROOM], payload[ROOM:]
                os.write(self._writer, _packet(message, Word.MORE, part))
            os.write(self._writer, _packet(message, message.word, payload))

    def receive(self) -> list[Message]:
        """Return the packets that have come, malformed ones left out."""
        messages: list[Message] = []
        for _ in range(PACKETS_AT_ONCE):
            try:
                packet = os.read(self._reader, PIPE_BUF)
            except BlockingIOError:
                break
            if message := unpack(packet):
                messages.append(message)
        return messages

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self._writer)


def _packet(message: Message, word: Word, payload: bytes) -> bytes:
    return pack(word, message.slot, message.generation, message.pid) + payload


def unpack(packet: bytes) -> Message | None:
    """Return what a packet says, None for a malformed one."""
    if len(packet) < HEADER.size:
        return None
    word, slot, generation, pid = HEADER.unpack_from(packet)
    known = _WORDS.get(word)
    if known is None:
        return None
    return Message(known, generation, slot, pid, packet[HEADER.size :])
