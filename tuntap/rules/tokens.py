"""The text of rules as tokens: words, strings, marks, and ends of lines.

Within braces the end of a line means nothing, so that a set may have many lines. ``#`` begins a
comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from donjon.errors import ConfigError
from donjon.origin import Origin

MAX_LINE = 4096
MAX_TEXT = 4 * 1024 * 1024
SHOWN = 40
"""Characters of a wrong token that a message shows."""


class RuleError(ConfigError):
    """Rules that mean nothing: one line that says where, what was found, what was expected."""


class Kind(Enum):
    """What a token is."""

    WORD = "word"
    STRING = "string"
    MARK = "mark"
    END = "end of line"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text and where it stands."""

    kind: Kind
    text: str
    origin: Origin

    def __str__(self) -> str:
        if self.kind is Kind.END:
            return "the end of the line"
        return repr(shown(self.text))


_PIECE = re.compile(
    r"""(?P<blank>[ \t\r]+|\#.*)
    |(?P<word>[A-Za-z0-9_.:/+-]+)
    |"(?P<string>[^"\x00-\x1f\x7f]*)"
    |(?P<mark>!=|[{},@])""",
    re.VERBOSE,
)


def shown(text: str) -> str:
    """Return text as a message shows it: not longer than a line bears."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def expected(what: str, found: Token) -> RuleError:
    """Return the error for a token where there should be something else."""
    return RuleError(f"expected {what}, found {found}", origin=found.origin)


def tokens(text: str, source: str) -> Iterator[Token]:
    """Yield the tokens of ``text``, which stands in ``source``. Raises RuleError."""
    if len(text) > MAX_TEXT:
        raise RuleError(f"rules longer than {MAX_TEXT} characters", origin=Origin(source))
    opened: Token | None = None
    for number, line in enumerate(text.split("\n"), 1):
        origin = Origin(source, number)
        if len(line) > MAX_LINE:
            raise RuleError(f"a line longer than {MAX_LINE} characters", origin=origin)
        for token in _line(line, origin):
            if token.kind is Kind.MARK and token.text in "{}":
                opened = _braces(opened, token)
            yield token
        if opened is None:
            yield Token(Kind.END, "", origin)
    if opened is not None:
        raise RuleError("a { that no } closes", origin=opened.origin)


def _line(line: str, origin: Origin) -> Iterator[Token]:
    at = 0
    while at < len(line):
        piece = _PIECE.match(line, at)
        if piece is None:
            raise _unreadable(line[at:], origin)
        at = piece.end()
        kind = piece.lastgroup
        if kind is not None and kind != "blank":
            yield Token(Kind(kind), piece[kind], origin)


def _unreadable(rest: str, origin: Origin) -> RuleError:
    if rest.startswith('"'):
        return RuleError(
            f"a string that is not closed on its line: {shown(rest)!r}", origin=origin
        )
    return RuleError(
        f"unexpected character {rest[0]!r}", origin=origin, hint="one rule a line, as in nft(8)"
    )


def _braces(opened: Token | None, token: Token) -> Token | None:
    if token.text == "}":
        if opened is None:
            raise RuleError("a } that no { opened", origin=token.origin)
        return None
    if opened is not None:
        raise RuleError(
            f"a {'{'} within that of line {opened.origin.line}, which no }} closed before",
            origin=token.origin,
        )
    return token
