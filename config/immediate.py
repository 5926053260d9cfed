"""What options do that act while a configuration is read, and those that act when all is read.

One function an option, by its canonical name: ``HANDLERS`` act at once, with their value resolved
as far as it can be by then, ``DEFERRED`` in their turn, when all values are resolved. ``Record``
is an option in the list that is being made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from donjon.config import logic, options
from donjon.config.evaluation import Action
from donjon.config.formats import FORMATS, INI, by_extension
from donjon.config.reader import split_target
from donjon.config.walls import Walls
from donjon.errors import ConfigError
from donjon.origin import Origin
from donjon.records import dataclass

if TYPE_CHECKING:
    from donjon.config.evaluate import Evaluator

_ATOI = re.compile(r"\s*([+-]?\d{1,9})")
_LONGEST_NAME = 64
_LONGEST_TEXT = 300
_FALSE = frozenset(("false", "off", "no", "0"))


class Record:
    """An option in the list: what it says now, and whether it was acted on.

    ``row`` is what the table says of its key, None for a key that is no option. A ``placeholder``
    is never an option. ``chain`` is what was being read when ``inherit`` was met.
    """

    __slots__ = ("chain", "done", "key", "origin", "placeholder", "row", "value", "walls")

    def __init__(self, key: str, value: str | None, origin: Origin, walls: Walls) -> None:
        """Begin as it was given."""
        self.key = key
        self.row = options.find(key)
        self.value = value
        self.origin = origin
        self.walls = walls
        self.done = False
        self.placeholder = False
        self.chain: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Declared:
    """What ``declare-option`` said: keys and values with ``$1``, and where."""

    pairs: tuple[tuple[str, str], ...]
    origin: Origin

    def origin_for(self, use: Origin) -> Origin:
        """Return the origin of the options that a use gives.

        Two files have a part in them: the one cannot be taken for the other, or a customer could
        declare an option by the name of a placeholder in an operator's file and so speak for it.
        """
        if self.origin.source == use.source:
            return use
        source = f"{self.origin.source}:{self.origin.line} for {use.source}"
        return Origin(source, use.line, use.option)


Handler = Callable[["Evaluator", Record], None]


class Exit(Exception):  # noqa: N818  (the end of an evaluation, no error)
    """``exit`` or ``help`` was met: nothing after it counts."""


def located(error: ConfigError, origin: Origin) -> ConfigError:
    """Return the error with an origin, its own or this one."""
    if error.origin is None:
        error.origin = origin
    return error


def tidy(error: ConfigError) -> None:
    """Make an error's texts fit for one line of a log.

    Names and values of a configuration stand in them, and JSON can put anything into those.
    """
    place = error.origin
    if place is not None:
        error.origin = Origin(one_line(place.source), place.line, one_line(place.option))
    error.what, error.reason = one_line(error.what), one_line(error.reason)
    error.hint = one_line(error.hint)


def one_line(text: str) -> str:
    """Return a text without control characters, cut where it is too long to be read."""
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unknown(record: Record) -> ConfigError:
    """Return the error of ``strict`` for a key that is no option."""
    near = options.suggest(record.key) if len(record.key) <= _LONGEST_NAME else None
    return ConfigError(
        f"unknown option {record.key}",
        origin=record.origin,
        reason="strict is set",
        hint=f"did you mean {near}?" if near else "set-placeholder makes a placeholder of it",
    )


def _name(record: Record) -> str:
    return record.row.name if record.row is not None else record.key


def _pair(record: Record) -> tuple[str, str]:
    key, equals, value = (record.value or "").partition("=")
    if not equals or not key:
        raise ConfigError("invalid value", reason=f"{record.value!r} is not KEY=VALUE")
    return key, value


# -- at once --------------------------------------------------------------------------------------


def _load_as(evaluator: Evaluator, record: Record) -> None:
    evaluator.load(record.value or "", FORMATS[_name(record)], record.origin)


def _include(evaluator: Evaluator, record: Record) -> None:
    evaluator.load(record.value or "", None, record.origin)


def _load_config(evaluator: Evaluator, record: Record) -> None:
    """Take another extension for ini: the Emperor passes ``emperor-extra-extension`` files so."""
    name = record.value or ""
    evaluator.load(name, by_extension(split_target(name).name) or INI, record.origin)


def _inject_before(evaluator: Evaluator, record: Record) -> None:
    name = record.value or ""
    reader = evaluator.reader
    reader.before = (*reader.before, (name, reader.read_text(name)))


def _inject_after(evaluator: Evaluator, record: Record) -> None:
    name = record.value or ""
    reader = evaluator.reader
    reader.after = (*reader.after, (name, reader.read_text(name)))


def _set_mode(evaluator: Evaluator, record: Record) -> None:
    evaluator.reader.mode = record.value


def _set(evaluator: Evaluator, record: Record) -> None:
    key, value = _pair(record)
    evaluator.add(key, value, record.origin)


def _set_placeholder(evaluator: Evaluator, record: Record) -> None:
    key, value = _pair(record)
    if options.find(key) is not None:
        raise ConfigError(
            f"you cannot use {key} as a placeholder",
            reason="it is an option",
            hint=f"use set = {key}=... or another name",
        )
    evaluator.append(key, value, record.origin).placeholder = True


def _resolve(evaluator: Evaluator, record: Record) -> None:
    key, host = _pair(record)
    evaluator.append(key, evaluator.world.resolve(host), record.origin).placeholder = True


def _declare(evaluator: Evaluator, record: Record) -> None:
    name, body = _pair(record)
    pairs = [part.partition("=") for part in body.split(";") if part]
    if not pairs:
        raise ConfigError(f"option {name} would give nothing", hint="NAME=KEY=VALUE;KEY=VALUE")
    declared = Declared(tuple((key, value) for key, _, value in pairs), record.origin)
    evaluator.declared.setdefault(name, declared)


def _open_block(evaluator: Evaluator, record: Record) -> None:
    if evaluator.block is not None:
        raise ConfigError(
            f"{record.key} inside {evaluator.block.opener}",
            reason="loops and conditions do not nest",
            hint="close the first one before",
        )
    evaluator.block = logic.open_block(_name(record), record.value or "", evaluator.given)


def _close_block(evaluator: Evaluator, record: Record) -> None:
    """``add`` closed the block; an end without a block does nothing, as in the original."""


def _forbid(evaluator: Evaluator, record: Record) -> None:
    evaluator.walls = evaluator.walls.forbid(record.value or "", record.origin.source)


def _end_forbid(evaluator: Evaluator, record: Record) -> None:
    evaluator.walls = evaluator.walls.end_forbid(record.origin.source)


def _allow(evaluator: Evaluator, record: Record) -> None:
    evaluator.walls = evaluator.walls.allow(record.value or "", record.origin.source)


def _end_allow(evaluator: Evaluator, record: Record) -> None:
    evaluator.walls = evaluator.walls.end_allow(record.origin.source)


def _set_strict(evaluator: Evaluator, record: Record) -> None:
    record.done = False  # it stays in the list: the Launch knows it too
    evaluator.strict = (record.value or "true").lower() not in _FALSE


def _print_now(evaluator: Evaluator, record: Record) -> None:
    evaluator.actions.append(Action("print", record.value or "", record.origin))


def _exit(evaluator: Evaluator, record: Record) -> None:
    found = _ATOI.match(record.value or "")
    code = (int(found[1]) if found else 0) if record.value else 1
    evaluator.actions.append(Action("exit", str(code & 0xFF), record.origin))
    raise Exit


def _tell(evaluator: Evaluator, record: Record) -> None:
    evaluator.actions.append(Action(_name(record), record.value or "", record.origin))
    raise Exit


def _help(evaluator: Evaluator, record: Record) -> None:
    evaluator.actions.append(Action("help", None, record.origin))
    raise Exit


def _early_envdir(evaluator: Evaluator, record: Record) -> None:
    path = record.value or ""
    for name in evaluator.world.names(path):
        if not name.startswith(".") and "=" not in name:
            _change_environ(evaluator, name, evaluator.reader.read_text(os.path.join(path, name)))


def _change_environ(evaluator: Evaluator, name: str, text: str) -> None:
    """Set a variable as envdir(8) does: the first line without final blanks; an empty file
    unsets.
    """
    value = text.split("\n", 1)[0].rstrip(" \t") if text else None
    evaluator.environ_changes[name] = value
    if value is None:
        evaluator.environ.pop(name, None)
    else:
        evaluator.environ[name] = value


def _wait(evaluator: Evaluator, record: Record) -> None:
    record.done = False  # in its turn: DEFERRED
    record.chain = evaluator.reader.chain


# -- when all is read -----------------------------------------------------------------------------


def _inherit(evaluator: Evaluator, record: Record) -> None:
    reader, name = evaluator.reader, record.value or ""
    format_ = by_extension(split_target(name).name) or INI
    reader.chain, before = record.chain, reader.chain
    try:
        evaluator.load(name, format_, record.origin)
    finally:
        reader.chain = before


def _print(evaluator: Evaluator, record: Record) -> None:
    evaluator.actions.append(Action("print", record.value or "", record.origin))


def _get(evaluator: Evaluator, record: Record) -> None:
    evaluator.actions.append(Action("get", record.value or "", record.origin))


def _ask(evaluator: Evaluator, record: Record) -> None:
    evaluator.actions.append(Action(_name(record), None, record.origin))


DEFERRED: dict[str, Handler] = {
    "inherit": _inherit,
    "print": _print,
    "get": _get,
    "show-config": _ask,
    "dump-options": _ask,
    "version": _ask,
}

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(FORMATS, _load_as),
    **dict.fromkeys(logic.OPENERS, _open_block),
    **dict.fromkeys(("end", "end-for", "end-if"), _close_block),
    **dict.fromkeys(DEFERRED, _wait),
    "include": _include,
    "config": _load_config,
    "inject-before": _inject_before,
    "inject-after": _inject_after,
    "mode": _set_mode,
    "set": _set,
    "set-placeholder": _set_placeholder,
    "resolve": _resolve,
    "declare-option": _declare,
    "declare-option2": _declare,
    "blacklist": _forbid,
    "end-blacklist": _end_forbid,
    "whitelist": _allow,
    "end-whitelist": _end_allow,
    "strict": _set_strict,
    "iprint": _print_now,
    "exit": _exit,
    **dict.fromkeys(("stop", "reload", "pause", "resume"), _tell),
    "help": _help,
    "early-envdir": _early_envdir,
}

RAW = frozenset((_declare, _wait, _close_block, _forbid, _allow))
"""Handlers whose value is not resolved when they act."""
