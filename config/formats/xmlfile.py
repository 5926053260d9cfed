"""XML: each child of ``<uwsgi>`` is an option, its text the value, an empty one ``1``
(uwsgi-facts 6.2).

The root is ``<uwsgi>``, or anything with ``<uwsgi>`` children: then ``file.xml:NAME`` asks for
the one whose ``id`` is NAME. ``mode="x"`` on an option counts only with ``--mode x``, when a mode
was given. The old ``<app mountpoint="/m">TEXT</app>`` is ``mount = /m=TEXT``. Entities and
external things are refused by defusedxml; depth is counted here.
"""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Mapping
from typing import Any

from donjon.config.entry import Entry
from donjon.config.formats.document import DEFAULT_SECTION, Document
from donjon.config.limits import MAX_NESTING
from donjon.errors import ConfigError


class _Options:
    """Gathers options from the events of a parser; a target as xml.etree.ElementTree.XMLParser
    takes.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.entries: list[Entry] = []
        self.found = False
        self.parser: Any = None
        self.path: list[str] = []
        self.inside = 0  # length of the path of the wanted element, 0 outside
        self.text: list[str] | None = None
        self.attributes: Mapping[str, str] = {}
        self.line = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self.path.append(tag)
        if len(self.path) > MAX_NESTING:
            raise self._broken(f"elements more than {MAX_NESTING} deep")
        if not self.inside:
            if self._is_wanted(tag, attributes):
                self.inside, self.found = len(self.path), True
        elif len(self.path) == self.inside + 1:
            self.text, self.attributes, self.line = [], attributes, self._line()

    def data(self, text: str) -> None:
        """Text, in one or several pieces."""
        if self.text is not None and len(self.path) == self.inside + 1:
            self.text.append(text)

    def end(self, tag: str) -> None:
        """An element ends."""
        if self.inside and len(self.path) == self.inside + 1 and self.text is not None:
            self._add(tag, "".join(self.text))
            self.text = None
        elif len(self.path) == self.inside:
            self.inside = 0
        self.path.pop()

    def close(self) -> None:
        """The document ends."""

    def _is_wanted(self, tag: str, attributes: Mapping[str, str]) -> bool:
        if (
            tag != "uwsgi"
            or len(self.path) > 2
            or (self.found and self.document.section == DEFAULT_SECTION)
        ):
            return False
        wanted = self.document.section
        return wanted == DEFAULT_SECTION or attributes.get("id") == wanted

    def _add(self, tag: str, text: str) -> None:
        mode = self.attributes.get("mode")
        if mode is not None and self.document.mode not in (None, mode):
            return
        if tag == "app" and "mountpoint" in self.attributes:
            tag, text = "mount", f"{self.attributes['mountpoint']}={text.strip()}"
        self.entries.append(self.document.entry(tag, text or "1", self.line))
        self.document.check_count(self.entries)

    def _line(self) -> int:
        return int(self.parser.parser.CurrentLineNumber)

    def _broken(self, what: str) -> ConfigError:
        return self.document.broken(what, self._line())


def parse(document: Document) -> list[Entry] | None:
    """Return the options of the wanted ``<uwsgi>`` element."""
    import defusedxml.ElementTree  # noqa: PLC0415  (10 ms and 1 MiB, for XML only; see config.preload)
    from defusedxml import DefusedXmlException  # noqa: PLC0415

    options = _Options(document)
    options.parser = defusedxml.ElementTree.DefusedXMLParser(target=options)
    try:
        options.parser.feed(document.text)
        options.parser.close()
    except xml.parsers.expat.ExpatError as error:
        raise document.broken("this is not XML", error.lineno) from error
    except SyntaxError as error:  # ElementTree.ParseError
        line = getattr(error, "position", (0, 0))[0]
        raise document.broken(f"this is not XML: {error.msg}", line) from error
    except DefusedXmlException as error:
        what = f"XML with {type(error).__name__.removesuffix('Forbidden').lower()} declarations"
        raise document.broken(f"{what} is refused", options._line()) from error
    if not options.found and document.section == DEFAULT_SECTION:
        raise document.broken("there is no <uwsgi> element", 1)
    return options.entries if options.found else None
