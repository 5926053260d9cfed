"""The table of every option, in one module an area. ``find`` is the only way to it."""

from __future__ import annotations

import difflib
import functools
import importlib

from donjon.config.options.option import Option, Takes

__all__ = ["Option", "Takes", "all_options", "find", "find_short", "suggest"]

_AREAS = (
    "config",
    "instance",
    "emperor",
    "jail",
    "freebsd",
    "privileges",
    "confinement",
    "resources",
    "hooks",
    "sockets",
    "processes",
    "application",
    "logging",
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
    "tuntap",
    "webdav",
    "zerg",
)
"""Modules that hold rows, each in a tuple named OPTIONS; in the order of the reference."""


@functools.cache
def all_options() -> tuple[Option, ...]:
    """Return every row, area by area."""
    modules = [importlib.import_module(f"donjon.config.options.{area}") for area in _AREAS]
    return tuple(row for module in modules for row in module.OPTIONS)


@functools.cache
def _index() -> dict[str, Option]:
    """Return rows by each of their names."""
    return {name: row for row in all_options() for name in row.names}


@functools.cache
def _shorts() -> dict[str, Option]:
    return {row.short: row for row in all_options() if row.short}


def find(name: str) -> Option | None:
    """Return the row of an option by its name or an alias.

    Names are exact, as in the original: ``reload_mercy`` is a placeholder in many files.
    """
    return _index().get(name)


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
    near = difflib.get_close_matches(wanted, _index(), n=1, cutoff=0.85)
    return near[0] if near else None
