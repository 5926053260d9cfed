"""A filter for what makes a terminal answer: such answers arrive as if they had been typed.

A program inside can ask the operator's terminal for its title, its colours, its clipboard or the
cursor, and some terminals let the program choose what is answered. The filter takes the questions
out of the output, and what sets the clipboard; programs that need the answers (vim asks for
colours) work without them. ECMA-48; ctlseqs of xterm.
"""

from __future__ import annotations

import re

_ESCAPE, _ENQUIRY = b"\x1b", b"\x05"
_LONGEST = 4096
"""Bytes of a sequence that is not over; a longer one is text to us."""

_CSI = re.compile(rb"\x1b\[([0-?]*)([ -/]*)([@-~])")
_STRING = re.compile(rb"\x1b([\]P_^X])([^\x07\x1b\x9c]*)(?:\x07|\x1b\\|\x9c)")
_ASKING_WINDOW = {b"11", b"13", b"14", b"15", b"16", b"18", b"19", b"20", b"21"}


class Filter:
    """Takes questions out of a stream, wherever it was cut."""

    def __init__(self) -> None:
        """Begin with text."""
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may be shown of ``data``."""
        data = (self._kept + data).replace(_ENQUIRY, b"")
        self._kept = b""
        found, at = [], 0
        while True:
            start = data.find(_ESCAPE, at)
            if start < 0:
                found.append(data[at:])
                break
            found.append(data[at:start])
            end, asks = _sequence(data, start)
            if end < 0:
                if len(data) - start <= _LONGEST:
                    self._kept = data[start:]
                    break
                end, asks = start + 1, True  # without its escape it is text
            if not asks:
                found.append(data[start:end])
            at = end
        return b"".join(found)


def _sequence(data: bytes, start: int) -> tuple[int, bool]:
    """Return where the sequence at ``start`` ends, -1 if not here, and whether it asks."""
    second = data[start + 1 : start + 2]
    if not second:
        return -1, False
    if second == b"[":
        match = _CSI.match(data, start)
        if match:
            return match.end(), _csi_asks(*match.groups())
        return (
            (-1, False)
            if re.fullmatch(rb"[0-?]*[ -/]*", data[start + 2 :])
            else (start + 2, False)
        )
    if second in b"]P_^X":
        match = _STRING.match(data, start)
        if match:
            return match.end(), _string_asks(*match.groups())
        rest = data[start + 2 :]
        open_end = not re.search(rb"[\x07\x9c]|\x1b(?!\\|$)", rest)
        return (-1, False) if open_end else (start + 2, True)
    return start + 2, second == b"Z"  # DECID


def _csi_asks(parameters: bytes, between: bytes, final: bytes) -> bool:
    if between:
        return between + final == b"$p"  # DECRQM
    if final in b"cnx":
        return True  # DA, DSR, DECREQTPARM
    if final == b"t":
        return parameters.partition(b";")[0] in _ASKING_WINDOW
    return (final == b"u" and parameters[:1] == b"?") or (final == b"q" and parameters[:1] == b">")


def _string_asks(kind: bytes, body: bytes) -> bool:
    if kind == b"]":
        code, _, rest = body.partition(b";")
        return code == b"52" or b"?" in rest.split(b";")
    return body[:2] in (b"$q", b"+q")
