"""What evaluating a configuration gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from donjon.config.entry import Entry
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field

if TYPE_CHECKING:
    from donjon.config.immediate import Record


@dataclass(frozen=True, slots=True)
class Action:
    """Something the configuration asks the program to do at once, in the order asked.

    ``kind`` is ``help``, ``version``, ``dump-options``, ``show-config``, ``print`` (a text),
    ``get`` (the value of an option, None where it has none; after all ``get`` the program ends
    with 0), ``exit`` (a status) or ``stop``, ``reload``, ``pause``, ``resume`` (a pid
    file whose process is told so); nothing comes after the last five.
    """

    kind: str
    text: str | None = None
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class Shown:
    """An option as ``--show-config`` prints it. ``done`` options were acted on while reading."""

    entry: Entry
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A configuration with everything resolved.

    ``entries`` are the options in their order, placeholders included (their keys are no options);
    ``records`` is the same with those that acted while reading (loaders, logic, ``set``).
    ``environ`` holds what early-envdir changed: a value, or None for a variable to remove.
    ``files`` were read, in order.
    """

    entries: tuple[Entry, ...] = ()
    records: tuple[Record, ...] = ()
    actions: tuple[Action, ...] = ()
    environ: Mapping[str, str | None] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    strict: bool = False

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Return every option, as ``--show-config`` prints it."""
        return tuple(Shown(Entry(r.key, r.value, r.origin), r.done) for r in self.records)

    @property
    def placeholders(self) -> Mapping[str, str]:
        """Return the first value of each key that is no option."""
        first: dict[str, Record] = {}
        for record in self.records:
            first.setdefault(record.key, record)
        return {
            key: record.value
            for key, record in first.items()
            if record.value is not None and record.row is None
        }

    def values(self, key: str) -> tuple[str | None, ...]:
        """Return the values of an option in their order."""
        return tuple(entry.value for entry in self.entries if entry.key == key)

    @property
    def envdirs(self) -> tuple[str, ...]:
        """Return the directories of ``envdir``, in their order."""
        return tuple(value for value in self.values("envdir") if value)
