"""Magic variables: ``%x``, one character, resolved in the text of a file (uwsgi-facts 6.3).

Lower-case letters speak of the file being read, upper-case ones of the first file. Values that
come from anywhere but a path (a command, standard input) have only a name: the rest stays what it
was before them. ``%(`` is left for placeholders, ``%%`` is one percent sign, any other ``%x``
becomes nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from donjon.config.world import World
from donjon.errors import ConfigError

_VARIABLE = re.compile(r"%(.)?", re.DOTALL)

_FILE_LETTERS = "opsdencxj"
_PATH = "path"
_FIRST_PATH = "PATH"  # two keys of the table that no single character can be
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Magic:
    """The table of magic variables of one evaluation. ``enter`` makes it speak of another file."""

    def __init__(self, world: World) -> None:
        """Know the host and the process; no file yet."""
        self._world = world
        self._file: dict[str, str] = {}
        self._lazy: dict[str, Callable[[], str]] = self._lazy_table(world)

    def enter(self, name: str, section: str, *, is_path: bool) -> dict[str, str]:
        """Speak of another file from now on; return the table to give back to ``leave``.

        ``name`` is the file as it was given, ``section`` the one asked for ("" if none was).
        """
        before = self._file
        table = dict(before)
        table["o"] = name
        if is_path:
            table.update(_path_table(self._world, name))
            table[_PATH] = name
        table["x"] = section
        if "O" not in table:
            table.update((letter.upper(), table.get(letter, "")) for letter in _FILE_LETTERS)
            table[_FIRST_PATH] = table.get(_PATH, "")
        self._file = table
        return before

    def leave(self, before: dict[str, str]) -> None:
        """Speak of the file before again, but keep what upper-case letters say of the first."""
        first = {letter: value for letter, value in self._file.items() if letter.isupper()}
        self._file = {**before, **first}

    def fill(self, text: str) -> str:
        """Return a text of the current file with its magic variables resolved."""
        return _VARIABLE.sub(self._resolve, text)

    def _resolve(self, found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "(":
            return "%("
        if letter is None or letter == "\n":
            return letter or ""
        value = self._file.get(letter)
        if value is None:
            make = self._lazy.get(letter)
            return make() if make is not None else ""
        return value

    def _inode(self, key: str) -> str:
        path = self._file.get(key)
        return str(self._world.inode(path) or "") if path else ""

    def _lazy_table(self, world: World) -> dict[str, Callable[[], str]]:
        facts = world.facts
        return {
            "%": lambda: "%",
            "[": lambda: "\x1b",
            "i": lambda: self._inode(_PATH),
            "I": lambda: self._inode(_FIRST_PATH),
            "v": lambda: facts.cwd,
            "h": lambda: facts.hostname,
            "b": lambda: facts.binary,
            "V": lambda: facts.version,
            "k": lambda: str(facts.cpus),
            "u": lambda: str(facts.uid),
            "U": lambda: facts.user,
            "g": lambda: str(facts.gid),
            "G": lambda: facts.group,
            "t": lambda: str(int(time.time())),
            "T": lambda: str(time.time_ns() // 1000),
        }


def filled(text: str, name: str, world: World) -> str:
    """Return a text with the magic variables of the file ``name`` resolved.

    The Emperor does so with ``UWSGI_VASSAL_SOCKET=/tmp/%n.sock`` for each vassal.
    """
    magic = Magic(world)
    magic.enter(name, "", is_path=True)
    return magic.fill(text)


def _path_table(world: World, name: str) -> dict[str, str]:
    """Return the variables that a path gives: p s d e n c j and its directories 0-9."""
    if _CONTROL.search(name):
        raise ConfigError(
            f"cannot read {name!r}", reason="control characters in its name", hint="rename it"
        )
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
