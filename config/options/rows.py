"""Short ways to write rows of the table.

``flag``, ``number``, ``text`` and ``several`` make the common rows: the value of option ``a-b``
goes to the field ``a_b`` of one part of the Launch (``jail``, ``server``, ``emperor``,
``terminals`` or ``pty``) unless ``field`` names another. A test checks that each field exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from donjon.config.options import values
from donjon.config.options.option import Apply, Option, Takes
from donjon.origin import Origin

if TYPE_CHECKING:
    from donjon.config.builder import Builder

Part = Literal["jail", "server", "emperor", "terminals", "pty"]


def put(part: Part, field: str) -> Apply:
    """Return an ``apply`` that sets a field; the last value wins."""

    def apply(builder: Builder, value: Any, origin: Origin) -> None:
        builder.part(part).put(field, value, origin)

    return apply


def add(part: Part, field: str) -> Apply:
    """Return an ``apply`` that appends the value to a field."""

    def apply(builder: Builder, value: Any, origin: Origin) -> None:
        builder.part(part).append(field, value, origin)

    return apply


def make(part: Part, field: str, factory: Callable[[Any, Origin], object]) -> Apply:
    """Return an ``apply`` that appends what ``factory`` makes of the value and its origin."""

    def apply(builder: Builder, value: Any, origin: Origin) -> None:
        builder.part(part).append(field, factory(value, origin), origin)

    return apply


class Rows:
    """Makes the rows of one area that go to one part of the Launch."""

    def __init__(self, area: str, part: Part, *, operator: bool = False) -> None:
        """Remember what is the same in all rows of the area."""
        self._area = area
        self._part: Part = part
        self._operator = operator

    def flag(self, name: str, about: str, *aliases: str, field: str = "", **more: Any) -> Option:
        """Return a row that is true or false."""
        more.setdefault("takes", Takes.NOTHING)
        more.setdefault("parse", values.boolean)
        return self._put(name, about, aliases, field, more)

    def number(self, name: str, about: str, *aliases: str, field: str = "", **more: Any) -> Option:
        """Return a row that takes a whole number, zero or more unless ``parse`` says otherwise."""
        for key, value in {"parse": values.number, "metavar": "N", "example": "10"}.items():
            more.setdefault(key, value)
        return self._put(name, about, aliases, field, more)

    def text(self, name: str, about: str, *aliases: str, field: str = "", **more: Any) -> Option:
        """Return a row that takes a text."""
        more.setdefault("parse", values.word)
        return self._put(name, about, aliases, field, more)

    def several(self, name: str, about: str, *aliases: str, field: str, **more: Any) -> Option:
        """Return a row that may come more than once; ``field`` is a tuple."""
        factory = more.pop("factory", None)
        action = make(self._part, field, factory) if factory else add(self._part, field)
        more.setdefault("parse", values.word)
        return self._row(name, about, aliases, {"apply": action, "repeats": True, **more})

    def _put(
        self, name: str, about: str, aliases: tuple[str, ...], field: str, more: dict[str, Any]
    ) -> Option:
        action = put(self._part, field or name.replace("-", "_"))
        return self._row(name, about, aliases, {"apply": action, **more})

    def _row(
        self, name: str, about: str, aliases: tuple[str, ...], more: dict[str, Any]
    ) -> Option:
        more.setdefault("operator", self._operator)
        return Option(name=name, help=about, area=self._area, aliases=aliases, **more)


def unbuilt(
    area: str,
    *,
    required: str = "",
    nothing: str = "",
    optional: str = "",
    harmless: bool = False,
) -> tuple[Option, ...]:
    """Return a row for each option of the original that is known and not built yet.

    Options stand in words, by whether they take a value. ``name|alias|alias`` gives other names,
    ``name/x`` the letter of a short option.
    """
    groups = (
        (Takes.REQUIRED, required),
        (Takes.NOTHING, nothing),
        (Takes.OPTIONAL, optional),
    )
    return tuple(
        Option(
            name=name,
            help=f"An option of the original, about {area}.",
            area=area,
            takes=takes,
            aliases=aliases,
            short=short,
            harmless=harmless,
        )
        for takes, words in groups
        for name, aliases, short in _names(words)
    )


def _names(words: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for item in words.split():
        names, _, short = item.partition("/")
        name, *aliases = names.split("|")
        yield name, tuple(aliases), short
