"""TOML, beside the formats of the original: the table ``[uwsgi]``, or the top level if there is
none.

Arrays repeat their key, ``true`` is ``1`` and ``false`` is ``0``; dates stay as written. A table
in place of a value gives its pairs as options of their own. ``tomllib`` tells no lines: they are
found afterwards, by looking for the keys in their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from donjon.config.entry import Entry
from donjon.config.formats.document import DEFAULT_SECTION, Document
from donjon.config.limits import MAX_NESTING

_KEY_PART = re.compile(r"\s*(?:[\w-]+|\"[^\"]*\"|'[^']*')\s*")
_LINE = re.compile(r"at line (\d+)")


def parse(document: Document) -> list[Entry] | None:
    """Return the options of the wanted table."""
    _check_keys(document)
    import tomllib  # noqa: PLC0415  (4 ms, for TOML only; see config.preload)

    try:
        root = tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        raise document.broken(f"this is not TOML: {error}", int(line[1]) if line else 1) from error
    except (RecursionError, ValueError) as error:
        raise document.broken(
            "this is not TOML: nested too deeply, or a number too long", 1
        ) from error
    table = root.get(document.section)
    if not isinstance(table, Mapping):
        if document.section != DEFAULT_SECTION:
            return None
        table = {key: value for key, value in root.items() if not isinstance(value, Mapping)}
    entries: list[Entry] = []
    _gather(document, _Keys(document), table, entries, depth=0)
    return entries


def _check_keys(document: Document) -> None:
    """Refuse ``a.b.c.d...``: tomllib takes quadratic time for it."""
    for number, line in enumerate(document.text.split("\n"), 1):
        if line.count(".") <= MAX_NESTING:
            continue
        depth = 0
        for part in line.split("."):
            depth = depth + 1 if _KEY_PART.fullmatch(part) else 0
            if depth > MAX_NESTING:
                raise document.broken(f"a key of more than {MAX_NESTING} parts", number)


def _gather(
    document: Document, keys: _Keys, table: Mapping[str, Any], entries: list[Entry], *, depth: int
) -> None:
    if depth > MAX_NESTING:
        raise document.broken(f"tables more than {MAX_NESTING} deep", 1)
    for key, value in table.items():
        line = keys.line_of(key)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                _gather(document, keys, item, entries, depth=depth + 1)
            elif not isinstance(item, list):
                entries.append(document.entry(key, _word(item), line))
                document.check_count(entries)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


class _Keys:
    """Finds the lines of keys, best effort: a key is looked for behind the one found before it."""

    def __init__(self, document: Document) -> None:
        self._lines = document.text.split("\n")
        header = f"[{document.section}]"
        self._at = next((n for n, line in enumerate(self._lines) if line.strip() == header), 0)

    def line_of(self, key: str) -> int:
        """Return the line of a key, 0 if it cannot be found."""
        for number in range(self._at, len(self._lines)):
            name, equals, _ = self._lines[number].partition("=")
            if equals and name.strip().strip("\"'") == key:
                self._at = number
                return number + 1
        return 0
