"""The table of every option, in one module an area. ``find`` is the only way to it."""

from __future__ import annotations

import functools
import importlib

from donjon.config.options.option import Option, Takes

__all__ = ["Option", "Takes", "all_options", "find", "find_short", "suggest"]

_BUILT = (
    "config",
    "instance",
    "emperor",
    "jail",
    "freebsd",
    "privileges",
    "confinement",
    "network",
    "resources",
    "hooks",
    "sockets",
    "processes",
    "application",
    "logging",
    "tuntap",
)
"""Modules that hold rows of what donjon does, each in a tuple named OPTIONS."""

_UNBUILT = (
    "caching",
    "cgi",
    "cheaper",
    "engines",
    "gateways",
    "languages",
    "legion",
    "metrics",
    "protocols",
    "routing",
    "sharing",
    "spooler",
    "static",
    "subscription",
    "terminals",
    "timers",
    "tls",
    "webdav",
    "zerg",
)
"""The same for areas of which nothing is built. Two thirds of all rows are theirs, and they are
wanted only for a name that is no other option: most starts do without.
"""

_AREAS = (*_BUILT, *_UNBUILT)  # in the order of the reference


def _rows(areas: tuple[str, ...]) -> tuple[Option, ...]:
    modules = [importlib.import_module(f"donjon.config.options.{area}") for area in areas]
    return tuple(row for module in modules for row in module.OPTIONS)


@functools.cache
def all_options() -> tuple[Option, ...]:
    """Return every row, area by area."""
    return _rows(_AREAS)


def _by_name(rows: tuple[Option, ...]) -> dict[str, Option]:
    return {name: row for row in rows for name in (row.name, *row.aliases)}


@functools.cache
def _built_index() -> dict[str, Option]:
    return _by_name(_rows(_BUILT))


@functools.cache
def _index() -> dict[str, Option]:
    """Return rows by each of their names."""
    return _by_name(all_options())


@functools.cache
def _shorts() -> dict[str, Option]:
    return {row.short: row for row in all_options() if row.short}


def find(name: str) -> Option | None:
    """Return the row of an option by its name or an alias.

    Names are exact, as in the original: ``reload_mercy`` is a placeholder in many files.
    """
    return _built_index().get(name) or _index().get(name)


def find_short(letter: str) -> Option | None:
    """Return the row of a one-letter option, without its dash."""
    return _shorts().get(letter)


_LONGEST = 64
"""Longer keys are no misspelt options, and comparing them costs time."""

_REPLACED = {
    "static-offload-to-thread": "offload-threads",
    "auto-snapshot": "master-fifo",
    "cluster": "legion",
    "cache-server": "cache2",
}
"""What to use for options that the original dropped (spec REM); they are placeholders today."""


def suggest(name: str) -> str | None:
    """Return the option that ``name`` was probably meant to be, or None."""
    if len(name) > _LONGEST:
        return None
    wanted = name.replace("_", "-").lower()
    if wanted in _REPLACED:
        return _REPLACED[wanted]
    if wanted in _index():
        return wanted
    import difflib  # noqa: PLC0415  (for a mistake alone)

    near = difflib.get_close_matches(wanted, _index(), n=1, cutoff=0.85)
    return near[0] if near else None
