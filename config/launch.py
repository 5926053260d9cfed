"""From entries to a Launch: each option is found, its value read, and what it says put in its
part.

A key that is no option is a placeholder and says nothing here. An option of the original that is
not built yet is named: with a warning where the same runs without it, with an error where it does
not. A customer's file (tyrant mode) may not use the keys of the operator; what the operator gives
to all vassals comes from sources of his own and may.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Collection, Iterable, Sequence

from donjon import log
from donjon.config import options
from donjon.config.builder import Advice, Builder, place
from donjon.config.entry import Entry
from donjon.config.options.option import Option
from donjon.config.spec import Launch
from donjon.errors import ConfigError, OptionError
from donjon.origin import Origin

__all__ = ["Advice", "build", "is_operators", "problems"]


def build(
    entries: Iterable[Entry],
    *,
    argv0: str = "donjon",
    under_emperor: bool = False,
    customer: bool = False,
    operator_sources: Collection[str] = (),
    owner: tuple[int, int] | None = None,
    born_in: frozenset[str] = frozenset(),
) -> Launch:
    """Return the Launch that the entries ask for, and log what they ask for in vain.

    ``customer`` says that the entries come from a file that is not the operator's; those of
    ``operator_sources`` (as in ``Origin.source``) still are his. ``owner`` is the uid and gid
    that the customer has anyway, ``born_in`` namespaces that its process is given besides those
    it asks for. Raises OptionError for a value that does not fit its option,
    ConfigError for an option that is not built or not allowed.
    """
    entries = tuple(entries)
    builder = Builder()
    allowed = _allowed_to(customer, operator_sources, owner)
    for entry in entries:
        row = options.find(entry.key)
        if row is not None and not row.immediate:
            _apply(builder, row, entry, allowed)
    builder.born_in = born_in
    launch = builder.finish(entries, argv0=argv0, under_emperor=under_emperor)
    for advice in builder.advice:
        log.write(str(advice))
    return launch


def problems(
    entries: Sequence[Entry],
    *,
    customer: bool = False,
    operator_sources: Collection[str] = (),
    owner: tuple[int, int] | None = None,
) -> list[ConfigError]:
    """Return all that is wrong or odd, in order of the entries; ``Advice`` stops no start."""
    found: list[ConfigError] = []
    builder = Builder()
    last: dict[tuple[str, str], Origin] = {}
    allowed = _allowed_to(customer, operator_sources, owner)
    for entry in entries:
        row = options.find(entry.key)
        try:
            if row is None:
                found.extend(_near_miss(entry))
            elif not row.immediate:
                _apply(builder, row, entry, allowed)
                found.extend(_overruled(row, entry, last))
        except ConfigError as error:
            found.append(error)
        found.extend(builder.advice)
        builder.advice.clear()
    try:
        builder.finish(tuple(entries), argv0="donjon", under_emperor=False)
    except ConfigError as error:
        found.append(error)
    return found + builder.advice


_Allowed = Callable[[Entry, Option], bool]


def _allowed_to(
    customer: bool,  # noqa: FBT001
    operator_sources: Collection[str],
    owner: tuple[int, int] | None,
) -> _Allowed:
    """Return who may use the operator's keys: everybody, or entries of his own sources.

    A customer may say again who he is: ``uid`` and ``gid`` of the owner of his file change
    nothing.
    """
    if not customer:
        return lambda _entry, _row: True

    def allowed(entry: Entry, row: Option) -> bool:
        return is_operators(entry.origin, operator_sources) or _names_owner(row, entry, owner)

    return allowed


_WITHOUT_LINES = frozenset({"command line", "environment"})


def is_operators(origin: Origin, operator_sources: Collection[str]) -> bool:
    """Whether something is from the operator. A file that is named ``environment`` has lines."""
    source, line = origin.source, origin.line
    return source in operator_sources and (line == 0) == (source in _WITHOUT_LINES)


def _names_owner(row: Option, entry: Entry, owner: tuple[int, int] | None) -> bool:
    if owner is None or not entry.value:
        return False
    try:
        if row.name == "uid":
            return _uid(entry.value) == owner[0]
        return row.name == "gid" and _gid(entry.value) == owner[1]
    except KeyError:
        return False  # a name that nobody has


def _uid(name: str) -> int:
    return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _apply(builder: Builder, row: Option, entry: Entry, allowed: _Allowed) -> None:
    """Do what one option says. Raises ConfigError."""
    if row.operator and not allowed(entry, row):
        raise ConfigError(
            f"{entry.key} is for the operator only",
            origin=place(entry.origin),
            hint="it cannot stand in a customer's file",
        )
    if row.apply is None:
        _unbuilt(builder, row, entry)
        return
    try:
        value = row.parse(entry.value or "")
    except ValueError as error:
        raise _misfit(row, entry, error) from error
    row.apply(builder, value, entry.origin)


def _unbuilt(builder: Builder, row: Option, entry: Entry) -> None:
    """Warn about a harmless option that is not built; raise ConfigError for another."""
    if row.harmless:
        builder.warn(f"{entry.key} is not built yet; ignored", entry.origin)
        return
    raise ConfigError(
        f"{entry.key} is not built yet",
        origin=place(entry.origin),
        reason=f"it belongs to {row.area}, and the application would not run as asked without it",
    )


def _misfit(row: Option, entry: Entry, error: ValueError) -> OptionError:
    example = f"for example {row.name} = {row.example}" if row.example else ""
    given = f"{entry.key} = {_shown(entry.value)}"
    return OptionError(
        f"cannot use {given}", origin=place(entry.origin), reason=str(error), hint=example
    )


def _shown(value: str | None) -> str:
    """Return a value as a message shows it: one line of bounded length."""
    text = "" if value is None else value.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 80 else text[:77] + "..."


def _overruled(
    row: Option, entry: Entry, last: dict[tuple[str, str], Origin]
) -> list[ConfigError]:
    """Return advice where a file sets again what it set before, in a line kept in ``last``."""
    before = last.get((row.name, entry.origin.source))
    last[row.name, entry.origin.source] = entry.origin
    if row.repeats or row.apply is None or before is None or not before.line:
        return []
    what = f"{entry.key} is given again; line {before.line} counts no more"
    return [Advice(what, origin=place(entry.origin))]


def _near_miss(entry: Entry) -> list[ConfigError]:
    """Return advice for a key that is no option but looks like one."""
    meant = options.suggest(entry.key)
    if meant is None:
        return []
    return [
        Advice(
            f"{entry.key} is not an option, so it is only a placeholder",
            origin=place(entry.origin),
            hint=f"did you mean {meant}?",
        )
    ]
