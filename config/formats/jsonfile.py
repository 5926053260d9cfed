"""JSON: the object ``uwsgi`` (or another key, ``file.json:key``) holds the options (uwsgi-facts
6.2).

Keys may repeat, arrays repeat their key, ``true`` is ``1``, ``false`` and ``null`` are ``0``,
numbers stay as written and objects in place of a value are left out. The standard decoder does
the values; only the two outer objects are walked here, because it tells neither lines nor
repeated keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from donjon.config.entry import Entry
from donjon.config.formats.document import Document

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def parse(document: Document) -> list[Entry]:
    """Return the options of the wanted object. Raises ConfigError when there is none."""
    text = document.text
    try:
        return _options(document, text)
    except json.JSONDecodeError as error:
        raise document.broken(f"this is not JSON: {error.msg}", error.lineno) from error
    except (RecursionError, StopIteration) as error:
        raise document.broken("this is not JSON: nested too deeply", 1) from error


def _options(document: Document, text: str) -> list[Entry]:
    entries: list[Entry] = []
    found = False
    outer = list(_members(text, _skip(text, 0)))
    if outer and _skip(text, outer[-1][2]) != len(text):
        raise json.JSONDecodeError("Extra data", text, outer[-1][2])
    lines = _Lines(text)
    for key, start, _ in outer:
        if key == document.section and text[start : start + 1] == "{":
            found = True
            _gather(document, lines, start, entries)
    if not found:
        raise document.broken(f'there is no object "{document.section}"', 1)
    return entries


def _gather(document: Document, lines: _Lines, start: int, entries: list[Entry]) -> None:
    text = document.text
    for key, value_start, _ in _members(text, start):
        if not key:
            continue
        value, _end = _DECODER.raw_decode(text, value_start)
        line = lines.at(value_start)
        for item in value if isinstance(value, list) else [value]:
            if (word := _word(item)) is not None:
                entries.append(document.entry(key, word, line))
                document.check_count(entries)


def _word(value: Any) -> str | None:
    """Return a value as the text of an option; None for what cannot be one."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return "1" if value else "0"
    return None


def _members(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Yield key, start and end of the value of each member of the object at ``start``.

    A last item with an empty key and both positions behind the object says where it ends.
    """
    if text[start : start + 1] != "{":
        raise json.JSONDecodeError("Expecting an object", text, start)
    at = _skip(text, start + 1)
    if text[at : at + 1] == "}":
        yield "", at + 1, at + 1
        return
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting a key in double quotes", text, at)
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise json.JSONDecodeError("Expecting ':'", text, at)
        value_start = _skip(text, at + 1)
        _, end = _DECODER.raw_decode(text, value_start)
        yield key, value_start, end
        at = _skip(text, end)
        closing = text[at : at + 1]
        if closing == "}":
            yield "", at + 1, at + 1
            return
        if closing != ",":
            raise json.JSONDecodeError("Expecting ',' or '}'", text, at)
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


class _Lines:
    """Line numbers of rising positions, counted once over the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line = 1

    def at(self, position: int) -> int:
        """Return the line of a position."""
        if position < self._position:
            self._position, self._line = 0, 1
        self._line += self._text.count("\n", self._position, position)
        self._position = position
        return self._line
