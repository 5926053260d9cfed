"""Magic variables: ``%x``, one character, resolved in the text of a file (uwsgi-facts 6.3).

Lower-case letters speak of the file being read, upper-case ones of the first file. Values that
come from anywhere but a path (a command, standard input) have only a name: the rest stays what it
was before them. ``%(`` is left for placeholders, ``%%`` is one percent sign, any other ``%x``
becomes nothing.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable

from donjon.config.world import Facts, World
from donjon.errors import ConfigError

_VARIABLE = re.compile(r"%(.)?", re.DOTALL)

_FIRST_LETTERS = "OPSDENCXJ"
_PATH = "path"  # a key of the table that no single character can be
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Place:
    """One file being read, and the table of what variables say of it, made when one is used."""

    def __init__(
        self, world: World, name: str, section: str, outer: Place | None, *, is_path: bool
    ) -> None:
        """``outer`` is the file that names this one; None for one that the command line names."""
        self._world = world
        self._name = name
        self._section = section
        self._outer = outer
        self._is_path = is_path

    @functools.cached_property
    def table(self) -> dict[str, str]:
        """What each variable of a file says."""
        table = dict(self._outer.table) if self._outer is not None else {}
        table["o"] = self._name
        if self._is_path:
            table.update(_path_table(self._world, self._name))
            table[_PATH] = self._name
        table["x"] = self._section
        return table


class Magic:
    """The magic variables of one evaluation. ``enter`` makes them speak of another file."""

    def __init__(self, world: World) -> None:
        """Know the host and the process; no file yet."""
        self.world = world
        self._place: Place | None = None
        self._first: Place | None = None

    def enter(self, name: str, section: str, *, is_path: bool) -> Place | None:
        """Speak of another file from now on; return the one before, to give back to ``leave``.

        ``name`` is the file as it was given, ``section`` the one asked for ("" if none was).
        Raises ConfigError for a name with control characters.
        """
        if is_path and _CONTROL.search(name):
            raise ConfigError(
                f"cannot read {name!r}", reason="control characters in its name", hint="rename it"
            )
        before = self._place
        self._place = Place(self.world, name, section, before, is_path=is_path)
        self._first = self._first or self._place
        return before

    def leave(self, before: Place | None) -> None:
        """Speak of the file before again. What upper-case letters say of the first one stays."""
        self._place = before

    def fill(self, text: str) -> str:
        """Return a text of the current file with its magic variables resolved."""
        return _VARIABLE.sub(self._resolve, text)

    def _resolve(self, found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "(":
            return "%("
        if letter is None or letter == "\n":
            return letter or ""
        if letter in _FIRST_LETTERS:
            return self._first.table.get(letter.lower(), "") if self._first is not None else ""
        if letter in _OF_HOST:
            return _OF_HOST[letter](self.world.facts)
        if letter in "iI":
            return self._inode(self._place if letter == "i" else self._first)
        return self._place.table.get(letter, "") if self._place is not None else ""

    def _inode(self, place: Place | None) -> str:
        path = place.table.get(_PATH) if place is not None else None
        return str(self.world.inode(path) or "") if path else ""


_OF_HOST: dict[str, Callable[[Facts], str]] = {
    "%": lambda _: "%",
    "[": lambda _: "\x1b",
    "v": lambda facts: facts.cwd,
    "h": lambda facts: facts.hostname,
    "b": lambda facts: facts.binary,
    "V": lambda facts: facts.version,
    "k": lambda facts: str(facts.cpus),
    "u": lambda facts: str(facts.uid),
    "U": lambda facts: facts.user,
    "g": lambda facts: str(facts.gid),
    "G": lambda facts: facts.group,
    "t": lambda _: str(int(time.time())),
    "T": lambda _: str(time.time_ns() // 1000),
}
"""What does not depend on the file."""


def filled(text: str, name: str, world: World) -> str:
    """Return a text with the magic variables of the file ``name`` resolved.

    The Emperor does so with ``UWSGI_VASSAL_SOCKET=/tmp/%n.sock`` for each vassal.
    """
    magic = Magic(world)
    magic.enter(name, "", is_path=True)
    return magic.fill(text)


def _path_table(world: World, name: str) -> dict[str, str]:
    """Return the variables that a path gives: p s d e n c j and its directories 0-9."""
    path = world.canonical(name)
    directory, base = os.path.split(path)
    stem, dot, extension = base.rpartition(".")
    parts = directory.strip("/").split("/")
    table = {str(n): parts[n] if n < len(parts) else "" for n in range(10)}
    table.update(
        p=path,
        s=base,
        d=directory.rstrip("/") + "/",
        e=extension if dot else "",
        n=stem if dot else base,
        c=parts[-1],
        j=djb33x(path),
    )
    return table


def djb33x(text: str) -> str:
    """Return the djb33x hash (``h = h * 33 ^ c`` from 5381), as the original prints it: its four
    bytes in memory order, upper-case hexadecimal.
    """
    value = 5381
    for byte in os.fsencode(text):
        value = ((value * 33) ^ byte) & 0xFFFFFFFF
    return value.to_bytes(4, "little").hex().upper()
