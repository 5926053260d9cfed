"""A filter for what makes a terminal answer: such answers arrive as if they had been typed.

A program inside can ask the operator's terminal for its title, its colours, its clipboard or the
cursor, and some terminals let the program choose what is answered. The filter takes the questions
out of the output, and what sets the clipboard or the keys; programs that need the answers (vim
asks for colours) work without them. ECMA-48; ctlseqs of xterm.

Output is read as UTF-8, as the terminal does; bytes that are none become U+FFFD. A sequence is
shown whole or not at all: its head, left over where it is broken off, would make another one with
what follows. Controls within a sequence do not end it: terminals do them, or ignore them.
"""

from __future__ import annotations

import codecs
import re

_ENQUIRY = "\x05"
_LONGEST = 4096
"""Characters of a sequence that is not over; a longer one is text to us."""

_CONTROLS = r"\x00-\x17\x19\x1c-\x1f\x7f"  # those that break nothing off, as ESC, CAN and SUB do
_BEGIN = re.compile(r"[\x1b\x80-\x9f]")
_HEAD = re.compile(rf"\x1b[{_CONTROLS}]*([ -~])?|[\x80-\x9f]")
_CONTROL = re.compile(f"[{_CONTROLS}]")

_LONE = re.compile("()()")
_FORMS = {
    "[": re.compile(rf"([{_CONTROLS} -?]*)([@-~])?"),
    "]": re.compile(r"([^\x07\x18\x1a\x1b\x80-\x9f]*)(\x07|\x1b\\|\x9c)?"),
    **dict.fromkeys("PX^_", re.compile(r"([^\x18\x1a\x1b\x80-\x9f]*)(\x1b\\|\x9c)?")),
    **dict.fromkeys(" !\"#$%&'()*+,-./", re.compile(rf"([{_CONTROLS} -/]*)([0-~])?")),
}
"""Body and end of a sequence, by the character after its escape."""

_REPORTS = frozenset({"$p", "$u", "$w", "*y", "&u", "+x", "'|", "#|", "#R", "#S", '"v'})
"""DECRQM, DECRQTSR, DECRQPSR, DECRQCRA, DECRQUPSS, DECRQPKFM, DECRQLP, three of xterm, DECRQDE."""
_OF_WINDOW = frozenset({11, 13, 14, 15, 16, 18, 19, 20, 21})
_OF_TEXT = frozenset({0, 1, 2, 7, 8, 9})
"""Commands (OSC) of titles, places, links and notes: a question mark is no question there."""
_DOING_MORE = frozenset({52, 60, 61, 99, 1337, 5113, 5522})
"""Those of clipboards, of what is allowed, and kitty's and iTerm's own, which answer."""
_HIGHEST = 9999
"""A number beyond it may be another one to a terminal that counts in few bits."""
_QUESTION = re.compile(r"[;=] *\?")
_CSI = re.compile(r"([0-?]*)([ -/]*)")
_SIXEL = re.compile(r"[0-9;]*q")


class Filter:
    """Takes questions out of a stream, wherever it was cut."""

    def __init__(self) -> None:
        """Begin with text."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def feed(self, data: bytes) -> bytes:
        """Return what may be shown of ``data``."""
        text = self._kept + self._decoder.decode(data).replace(_ENQUIRY, "")
        self._kept = ""
        found, at = [], 0
        while begin := _BEGIN.search(text, at):
            start = begin.start()
            found.append(text[at:start])
            at, shown = _sequence(text, start)
            if at < 0 and len(text) - start <= _LONGEST:
                self._kept = text[start:]
                break
            if at < 0:
                at = start + 1  # without its escape it is text
            elif shown:
                found.append(text[start:at])
        else:
            found.append(text[at:])
        return "".join(found).encode()


def _sequence(text: str, start: int) -> tuple[int, bool]:
    """Return where the sequence at ``start`` ends, -1 if not here, and whether it is shown."""
    head = _HEAD.match(text, start)
    assert head is not None  # it begins there
    if len(head[0]) == 1 and head[0] != "\x1b":
        kind = chr(ord(head[0]) - 0x40)  # C1: in one character what else has two
    elif head[1] is None:
        return (-1 if head.end() == len(text) else head.end()), False
    else:
        kind = head[1]
    match = _FORMS.get(kind, _LONE).match(text, head.end())
    assert match is not None  # all of it may be empty
    body, end = match.groups()
    if end is None:
        is_open = text[match.end() : match.end() + 2] in ("", "\x1b")
        return (-1 if is_open else match.end()), False
    return match.end(), not _asks(kind, _CONTROL.sub("", body), end)


def _asks(kind: str, body: str, end: str) -> bool:
    if kind == "[":
        return _csi_asks(body, end)
    if kind == "]":
        return _command_asks(body)
    if kind == "P":
        return not _SIXEL.match(body)
    return kind in "X^_Z%"  # strings for programs, DECID, and what leaves UTF-8


def _csi_asks(body: str, final: str) -> bool:
    match = _CSI.fullmatch(body)
    if match is None:
        return True  # terminals differ in what they make of it
    parameters, between = match.groups()
    if between:
        return between + final in _REPORTS
    if final in "cnx":
        return True  # DA, DSR, DECREQTPARM
    if final == "t":
        code = _number(parameters)
        return code in _OF_WINDOW or code > _HIGHEST
    return ("?" in parameters and final in "gmuS") or (">" in parameters and final == "q")


def _command_asks(body: str) -> bool:
    code, rest = _number(body), body.partition(";")[2]
    if code in _OF_TEXT:
        return rest == "?"
    return not 0 <= code <= _HIGHEST or code in _DOING_MORE or bool(_QUESTION.search(body))


def _number(text: str) -> int:
    """Return the number that a text begins with; -1 where it begins with none."""
    digits = re.match(r"0*([0-9]*)", text)
    assert digits is not None  # all of it may be empty
    return int(digits[1][:9] or 0) if digits[0] else -1
