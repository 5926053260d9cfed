"""What travels on a socket of a forkpty router (uwsgi-facts 4.2).

The framed kind: packets of four bytes, modifier1 0, a little-endian size, modifier2::

    modifier2 0     size bytes for the terminal follow
    modifier2 100   the terminal has size rows; no body
    modifier2 101   the terminal has size columns; no body
    any other       a signal of this number; no body

What the program writes comes back without frames. The raw kind has no frames at all.

Packets whose modifier1 is ``OURS`` are no packets of the original, which would take them for
those above: only a client that knows donjon sends them, the hello first. Who said hello gets
everything in such packets, and so learns its role and how the program ended.
"""

from __future__ import annotations

import enum
import json
import struct
from typing import Any, NamedTuple

HEADER = struct.Struct("<BHB")
STDIN, ROWS, COLS = 0, 100, 101
OURS = 0xD0
BODY_MAX = 0xFFFF
CONTROL_MAX = 4096
"""Bytes of a packet of ours from a client; hellos are short."""


class Word(enum.IntEnum):
    """modifier2 of our packets."""

    OUTPUT = 0  # to clients: what the program wrote
    HELLO = 1  # from clients, first: what they want (JSON)
    NEWS = 2  # to clients: what they have got, and how it ended (JSON)
    TAKE = 3  # from clients: may I drive?


class What(enum.IntEnum):
    """What a packet of a client is."""

    INPUT = 0
    ROWS = 1
    COLS = 2
    SIGNAL = 3
    OURS = 4


class Packet(NamedTuple):
    """``number`` is the rows, columns, signal or Word; ``body`` the bytes of INPUT and OURS."""

    what: What
    number: int
    body: bytes


class ProtocolError(Exception):
    """A client sent what no client sends."""


class Reader:
    """Takes packets out of a stream, wherever it was cut.

    Bytes for the terminal are handed on as they come; only headers and packets of ours are kept
    until they are whole, so that no client makes us hold more than ``CONTROL_MAX`` bytes.
    """

    __slots__ = ("_kept", "_left")

    def __init__(self) -> None:
        """Begin between two packets."""
        self._kept = b""
        self._left = 0  # bytes of a packet for the terminal that are still to come

    def is_between(self) -> bool:
        """Whether a packet begins with the next byte."""
        return not self._left and not self._kept

    def only_keys(self, data: bytes) -> bytes | None:
        """Return the body where ``data`` is one packet for the terminal, None where it is more.

        That is nearly all that a client sends, and whoever types waits for it.
        """
        if self._left or self._kept or len(data) < HEADER.size:
            return None
        mark, size, kind = HEADER.unpack_from(data)
        if kind != STDIN or mark == OURS or size != len(data) - HEADER.size:
            return None
        return data[HEADER.size :]

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that ``data`` completes. Raises ProtocolError."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        found: list[Packet] = []
        at, end = 0, len(data)
        while at < end:
            if self._left:
                body = data[at : at + self._left]
                self._left -= len(body)
                at += len(body)
                found.append(Packet(What.INPUT, 0, body))
                continue
            if end - at < HEADER.size:
                break
            mark, size, kind = HEADER.unpack_from(data, at)
            if mark == OURS:
                if size > CONTROL_MAX:
                    raise ProtocolError(f"a packet of {size} bytes")
                if end - at < HEADER.size + size:
                    break
                at += HEADER.size
                found.append(Packet(What.OURS, kind, data[at : at + size]))
                at += size
                continue
            at += HEADER.size
            if kind == STDIN:
                self._left = size
            else:
                found.append(_PLAIN.get(kind, _signal)(kind, size))
        self._kept = data[at:]
        return found


def _signal(kind: int, _size: int) -> Packet:
    return Packet(What.SIGNAL, kind, b"")


_PLAIN = {
    ROWS: lambda _kind, size: Packet(What.ROWS, size, b""),
    COLS: lambda _kind, size: Packet(What.COLS, size, b""),
}


def stdin(data: bytes) -> bytes:
    """Return the packets that carry ``data`` to the terminal."""
    if len(data) <= BODY_MAX:
        return HEADER.pack(0, len(data), STDIN) + data
    cuts = range(0, len(data), BODY_MAX)
    return b"".join(stdin(data[at : at + BODY_MAX]) for at in cuts)


def window(rows: int, cols: int) -> bytes:
    """Return the two packets that tell the size of the terminal."""
    return HEADER.pack(0, rows, ROWS) + HEADER.pack(0, cols, COLS)


def signal(number: int) -> bytes:
    """Return the packet of a signal."""
    return HEADER.pack(0, 0, number)


def ours(word: Word, body: bytes = b"") -> bytes:
    """Return a packet of ours."""
    return HEADER.pack(OURS, len(body), word) + body


def said(word: Word, **words: Any) -> bytes:
    """Return a packet of ours whose body is JSON."""
    return ours(word, json.dumps(words).encode())


def output(data: bytes) -> bytes:
    """Return the packets that carry what the program wrote to a client of ours."""
    return b"".join(
        ours(Word.OUTPUT, data[at : at + BODY_MAX]) for at in range(0, len(data), BODY_MAX)
    )


class Answers:
    """Takes our packets out of what a router sends to who said hello."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        """Begin between two packets."""
        self._kept = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return Word and body of the packets that ``data`` completes. Raises ProtocolError."""
        data = self._kept + data
        at, found = 0, []
        while len(data) - at >= HEADER.size:
            mark, size, kind = HEADER.unpack_from(data, at)
            if mark != OURS:
                raise ProtocolError("the router does not know donjon's own packets")
            if len(data) - at < HEADER.size + size:
                break
            at += HEADER.size + size
            found.append((kind, data[at - size : at]))
        self._kept = data[at:]
        return found
