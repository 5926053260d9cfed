"""The ini grammar of the original: lines, nothing else (uwsgi-facts 6.1).

Blanks around a line, a key and a value are dropped. A line that begins with ``[`` opens a
section, its name being all up to the line's last character. A line that begins with ``;`` or
``#`` is a comment. Everything else is ``key = value``, or a key alone. There are no quotes, no
continued lines and no comments behind values. A section may come several times: all its parts
count.
"""

from __future__ import annotations

from donjon.config.entry import Entry
from donjon.config.formats.document import Document
from donjon.origin import Origin

_BLANKS = " \t\r"


def parse(document: Document) -> list[Entry] | None:
    """Return the options of the wanted section."""
    entries: list[Entry] = []
    wanted = document.section
    inside = found = False
    for number, line in enumerate(document.text.split("\n"), 1):
        text = line.strip(_BLANKS)
        if not text or text[0] in ";#":
            continue
        if text[0] == "[":
            name = text[1:-1]
            if document.fill is not None and "%" in name:
                name = document.fill(name)
            inside = name == wanted
            found = found or inside
        elif inside:
            key, _, value = text.partition("=")
            if document.fill is not None and "%" in text:
                key, value = document.fill(key), document.fill(value)
            key = key.strip(_BLANKS)
            entries.append(Entry(key, value.strip(_BLANKS), Origin(document.source, number, key)))
            if len(entries) > document.max_entries:
                document.check_count(entries)
    return entries if found else None
