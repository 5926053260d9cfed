"""A text with what its reader must know, and the shape of a reader."""

from __future__ import annotations

import re
from collections.abc import Callable

from donjon.config.entry import Entry
from donjon.config.limits import MAX_ENTRIES
from donjon.errors import ConfigError
from donjon.origin import Origin
from donjon.records import dataclass

DEFAULT_SECTION = "uwsgi"

_UNFIT = re.compile("[\0\ud800-\udfff]")
"""NUL and half surrogates: JSON, YAML and TOML can write them, no system call takes them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration's text. ``source`` is its name for errors, ``mode`` the ``--mode`` of XML.

    ``fill`` resolves magic variables (``%n``): readers apply it to keys and values after they
    have found them, so that a file's name can never make a line, an element or a key of its own.
    """

    text: str
    source: str
    section: str = DEFAULT_SECTION
    mode: str | None = None
    fill: Callable[[str], str] | None = None
    max_entries: int = MAX_ENTRIES
    too_much: Callable[[str], ConfigError] = ConfigError

    def entry(self, key: str, value: str | None, line: int) -> Entry:
        """Return an Entry of this document, magic variables resolved."""
        for text in (key, value):
            if text and _UNFIT.search(text):
                raise self.broken("a character that no path or variable can hold", line)
        if self.fill is not None:
            if "%" in key:
                key = self.fill(key)
            if value and "%" in value:
                value = self.fill(value)
        return Entry(key, value, Origin(self.source, line, key))

    def broken(self, what: str, line: int) -> ConfigError:
        """Return an error at a line of this document."""
        return ConfigError(what, origin=Origin(self.source, line))

    def check_count(self, entries: list[Entry]) -> None:
        """Raise ConfigError when there are too many entries to be a configuration."""
        if len(entries) > self.max_entries:
            error = self.too_much(f"more than {self.max_entries} options")
            error.origin = entries[-1].origin
            raise error


Parser = Callable[[Document], list[Entry] | None]
"""Gives the entries of the wanted section in their order, None where the document has no such
section.
"""
