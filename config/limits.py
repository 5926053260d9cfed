"""Bounds on what a configuration may cost, so that no input can hang or fill the program that
reads it.

They are far above what people write (the largest published vassal has some hundred lines) and far
below what hurts: reading up to each bound takes seconds and tens of mebibytes at most.
"""

from __future__ import annotations

from donjon.records import dataclass

MAX_BYTES = 8 << 20
"""Bytes of one file, of one answer over HTTP, of the output of one command."""

MAX_DEPTH = 32
"""Files including files."""

MAX_FILES = 1000
"""Files read for one configuration."""

MAX_ENTRIES = 100_000
"""Options in all, after loops."""

MAX_NESTING = 64
"""Depth of XML, YAML, JSON and TOML structures."""

MAX_VALUE = 1 << 20
"""Characters of one value after substitution."""

MAX_EXPANDED = 32 << 20
"""Characters that all substitutions of one configuration may make."""

MAX_MATCHES = 10_000
"""Paths that one ``for-glob`` may give."""

MAX_LINE = 1022
"""Characters of a line of ``for-readline`` (uwsgi-facts 6.6: lines of less than 1023)."""

FETCH_SECONDS = 10.0
"""Time for one file over HTTP."""

RUN_SECONDS = 60.0
"""Time for one ``exec://`` command."""

PUSH_SECONDS = 5.0
"""Time for each read of a configuration pushed by the Emperor (uwsgi-facts 1.5)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one evaluation may cost: bytes of a text, options, characters of substitutions."""

    bytes: int = MAX_BYTES
    entries: int = MAX_ENTRIES
    expanded: int = MAX_EXPANDED


FULL = Limits()

QUICK = Limits(bytes=32 << 10, entries=4000, expanded=1 << 20)
"""For a stranger's text that is evaluated where nobody may wait: some tens of milliseconds at
worst.
"""
