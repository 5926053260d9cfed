"""The command line, as getopt_long(3) reads it: options and files in any order.

``--name value``, ``--name=value``, ``-p 3``, ``-p3`` and ``-Mp3``; long names may be cut short
where only one option fits; ``--`` ends the options. Options come out at once, in their order,
because some act at once; what is left over, the configuration files, comes after all of them.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence

from donjon.config import options
from donjon.config.entry import Entry
from donjon.config.options.option import Option, Takes
from donjon.errors import ConfigError
from donjon.origin import Origin

FILE = ""
"""Key of an argument that is no option: a configuration file."""

_SOURCE = "command line"


def parse(argv: Sequence[str]) -> Iterator[Entry]:
    """Yield options, then files. Raises ConfigError where an option is unknown or lacks its
    value.
    """
    files: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            files.extend(words)
        elif word.startswith("--"):
            yield _long(word, words)
        elif word.startswith("-") and word != "-":
            yield from _letters(word, words)
        else:
            files.append(word)
    for file in files:
        yield Entry(FILE, file, Origin(_SOURCE, 0, file))


def _long(word: str, words: Iterator[str]) -> Entry:
    name, equals, value = word[2:].partition("=")
    name, option = _complete(name)
    origin = Origin(_SOURCE, 0, f"--{name}")
    if equals:
        return Entry(name, value, origin)
    if option.takes is Takes.REQUIRED:
        return Entry(name, _required(words, origin), origin)
    return Entry(name, None, origin)


def _letters(word: str, words: Iterator[str]) -> Iterator[Entry]:
    """Yield the options of ``-Mp3``: the first that takes a value takes the rest of the word."""
    for at, letter in enumerate(word[1:], 2):
        option = options.find_short(letter)
        if option is None:
            raise ConfigError(f"unknown option -{letter}", origin=Origin(_SOURCE))
        origin = Origin(_SOURCE, 0, f"-{letter}")
        rest = word[at:]
        if option.takes is Takes.NOTHING:
            yield Entry(option.name, None, origin)
            continue
        if option.takes is Takes.REQUIRED and not rest:
            yield Entry(option.name, _required(words, origin), origin)
        else:
            yield Entry(option.name, rest or None, origin)
        return


def _required(words: Iterator[str], origin: Origin) -> str:
    value = next(words, None)
    if value is None:
        raise ConfigError("a value must follow", origin=origin)
    return value


def _complete(name: str) -> tuple[str, Option]:
    """Return the full name and the option that a name or its beginning means."""
    exact = options.find(name)
    if exact is not None:
        return name, exact
    names = _names()
    ordered = _ordered()
    at = bisect.bisect_left(ordered, name)
    fitting = []
    while name and at < len(ordered) and ordered[at].startswith(name):
        fitting.append(ordered[at])
        at += 1
    if not fitting:
        near = options.suggest(name)
        hint = f"did you mean --{near}?" if near else "donjon options WORD looks for one"
        raise ConfigError(f"unknown option --{name}", origin=Origin(_SOURCE), hint=hint)
    if len({id(names[each]) for each in fitting}) > 1:
        some = ", ".join(f"--{each}" for each in fitting[:6]) + (
            ", ..." if len(fitting) > 6 else ""
        )
        raise ConfigError(
            f"option --{name} is not clear", origin=Origin(_SOURCE), reason=f"it may be {some}"
        )
    return fitting[0], names[fitting[0]]


@functools.cache
def _names() -> dict[str, Option]:
    return {name: row for row in options.all_options() for name in (row.name, *row.aliases)}


@functools.cache
def _ordered() -> list[str]:
    return sorted(_names())
