"""What a row of the action table is, and what an action may know while it runs.

An action is parsed once, when the plan is built, into a tuple of words; so a plan can be pickled
and shown. ``$NAME`` and ``${NAME}`` in a word are replaced when the action runs, after the words
were split: a value with blanks stays one word, and a name that is not set stays as it was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from donjon.jail.phase import ORDER, Phase
from donjon.jail.step import Context
from donjon.records import dataclass, field

Words = tuple[str, ...]
Parse = Callable[[str], Words]
"""Splits the text after the colon. Raises ValueError with the reason in a few words."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What hooks need to know of the instance. Times in seconds.

    ``alarms`` maps a name to ``PLUGIN:ARGUMENTS``. ``new_root`` is the phase in which the root
    file system changes: from then to the drop of privileges nothing may be imported.
    """

    wait_for_fs_timeout: float = 60
    wait_for_socket_timeout: float = 60
    alarms: Mapping[str, str] = field(default_factory=dict)
    new_root: Phase | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an action runs: the phase, the facts of the instance, and what its steps share."""

    phase: Phase
    facts: Facts
    context: Context

    @property
    def may_import(self) -> bool:
        """Whether a module is the host's, or is imported without privileges."""
        changes = self.facts.new_root
        return changes is None or not ORDER[changes] <= ORDER[self.phase] <= ORDER[Phase.DROP]

    def environment(self) -> dict[str, str]:
        """Return the environment that a program started by a hook gets."""
        return {**os.environ, **self.context.variables}


Run = Callable[[Words, Scene], None]
"""Does it. Raises OSError or ActionError."""


class ActionError(Exception):
    """An action failed for a reason that no errno tells. The text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One row: ``name:usage``. ``expands`` is off where a shell, not we, replaces ``$NAME``.

    ``example`` is the text after the colon of an example that must parse.
    """

    name: str
    usage: str
    help: str
    parse: Parse
    run: Run
    example: str
    aliases: tuple[str, ...] = ()
    expands: bool = True


def expand(word: str, scene: Scene) -> str:
    """Replace ``$NAME`` and ``${NAME}`` by a variable of this start or of the environment."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        known = scene.context.variables.get(name)
        return known if known is not None else os.environ.get(name, match[0])

    return _VARIABLE.sub(value, word)


def words(least: int, most: int | None = None) -> Parse:
    """Make a parser of ``least`` to ``most`` words between blanks."""
    upper = least if most is None else most

    def parse(text: str) -> Words:
        found = tuple(text.split())
        if not least <= len(found) <= upper:
            wanted = str(least) if least == upper else f"{least} to {upper}"
            raise ValueError(f"wants {wanted} words, got {len(found)}")
        return found

    return parse


def first_and_rest(text: str) -> Words:
    """Split at the first blank; the rest is kept to the letter, and is "" where there is none."""
    first, _, rest = text.partition(" ")
    if not first:
        raise ValueError("an argument is missing")
    return first, rest


def whole(text: str) -> Words:
    """Take the text as one word; it must not be empty."""
    if not text.strip():
        raise ValueError("an argument is missing")
    return (text,)


def anything(text: str) -> Words:
    """Take the text as one word, empty or not."""
    return (text,)


def is_variable(word: str) -> bool:
    """Whether the value of a word is known only when it runs."""
    return _VARIABLE.search(word) is not None
