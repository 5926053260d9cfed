"""Hosting plans: what the operator sells, as sections ``plan:NAME`` of a file.

::

    [plan:gold]
    cpu-weight = 400
    cpu-max = 150%
    memory-max = 1G

In YAML, JSON and TOML the key ``plan:gold`` stands at the top, beside ``uwsgi``, which is read as
always and does not see it. A plan is only a set of values here; the Emperor compiles it to control
groups and limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from donjon.config import formats
from donjon.config.entry import Entry
from donjon.config.formats import Document
from donjon.config.options import values
from donjon.config.reader import decode
from donjon.errors import ConfigError, OptionError, reason_of
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field

PREFIX = "plan:"
FILE_MAX = 1 << 20
_HEADING = re.compile(r"^\s*\[\s*(plan:[^\]\n]*)\]", re.MULTILINE)
_NAME = re.compile(r"plan:([A-Za-z0-9][\w.-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostingPlan:
    """One plan. None is no limit, or the kernel's default."""

    name: str
    origin: Origin = DEFAULT
    cpu_weight: int | None = None
    cpu_max: int | None = None  # percent of one core
    memory_high: int | None = None  # bytes
    memory_max: int | None = None
    memory_swap: int | None = None
    pids: int | None = None
    io_weight: int | None = None
    io_bytes: int | None = None  # a second, read and written each
    io_operations: int | None = None
    io_device: str | None = None
    open_files: int | None = None
    processes: int | None = None
    bandwidth: int | None = None  # bytes a second in each direction, network = tap
    connections: int | None = None  # that are remembered at once, network = tap
    pressure: int | None = None  # percent of a time in which work had to wait
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def words(self) -> dict[str, str]:
        """Return the plan as it could be written."""
        found = {}
        for word, row in VOCABULARY.items():
            value = getattr(self, row.field)
            if value is not None:
                found[word] = f"{value}%" if row.percent else str(value)
        return found


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the vocabulary: the field, how its value is read, what it means."""

    field: str
    parse: Callable[[str], Any]
    example: str
    help: str
    percent: bool = False


def _percent(least: int, most: int) -> Callable[[str], int]:
    whole = values.integer(least, most)

    def parse(text: str) -> int:
        try:
            return whole(text.strip().removesuffix("%").rstrip() or "-")
        except ValueError as error:
            raise ValueError(f"not a percentage from {least}% to {most}%") from error

    return parse


def _or_max(parse: Callable[[str], int]) -> Callable[[str], int | None]:
    return lambda text: None if text.strip() == "max" else parse(values.word(text))


_SIZE = _or_max(values.size())
_COUNT = _or_max(values.integer(1))

VOCABULARY: dict[str, Word] = {
    "cpu-weight": Word(
        "cpu_weight",
        values.integer(1, 10_000),
        "400",
        "share of the processors when they are scarce; 100 is the default of a group",
    ),
    "cpu-max": Word(
        "cpu_max",
        _or_max(_percent(1, 1_000_000)),
        "150%",
        "ceiling of processor time, in percent of one core",
        percent=True,
    ),
    "memory-high": Word(
        "memory_high", _SIZE, "768M", "memory above which it is slowed down (version 2 only)"
    ),
    "memory-max": Word("memory_max", _SIZE, "1G", "memory it never exceeds"),
    "memory-swap": Word("memory_swap", _SIZE, "0", "swap beside the memory"),
    "pids": Word("pids", _COUNT, "128", "processes and threads of the vassal"),
    "io-weight": Word(
        "io_weight", values.integer(1, 10_000), "200", "share of the disks; 100 is the default"
    ),
    "io-bytes": Word("io_bytes", _SIZE, "50M", "bytes a second, for reading and for writing each"),
    "io-operations": Word(
        "io_operations", _COUNT, "500", "operations a second, for reading and for writing each"
    ),
    "io-device": Word(
        "io_device", values.absolute, "/dev/vda", "the disk of both; without it, every disk"
    ),
    "open-files": Word("open_files", _COUNT, "1024", "descriptors of each process"),
    "processes": Word("processes", _COUNT, "64", "processes of its user, in all of the host"),
    "bandwidth": Word(
        "bandwidth",
        _SIZE,
        "10M",
        "bytes a second, to and from a vassal with network = tap each",
    ),
    "connections": Word(
        "connections",
        _or_max(values.integer(1, 4096)),
        "500",
        "connections at once of a vassal with network = tap",
    ),
    "pressure": Word(
        "pressure",
        _percent(1, 100),
        "20%",
        "report a fault where work waits so much for memory, disk or processor",
        percent=True,
    ),
}


def read_plans(path: str) -> dict[str, HostingPlan]:
    """Return the plans of a file by their names. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the plans of {path}", reason=reason_of(error)) from error
    if len(data) > FILE_MAX:
        raise ConfigError(f"cannot read the plans of {path}", reason=f"more than {FILE_MAX} bytes")
    text = decode(data, path)
    parse = (formats.by_extension(path) or formats.INI).parse
    _check_headings(text, path)
    plans = {}
    for name in dict.fromkeys(_NAME.findall(text)):
        entries = _section(parse, Document(text, path, PREFIX + name))
        if entries is not None:
            plans[name] = plan_of(name, entries)
    return plans


def _check_headings(text: str, path: str) -> None:
    """Refuse a plan whose name nobody could write. Raises ConfigError with its line."""
    for heading in _HEADING.finditer(text):
        if not _NAME.fullmatch(heading[1]):
            raise ConfigError(
                f"[{heading[1]}] is not the name of a plan",
                origin=Origin(path, text.count("\n", 0, heading.start(1)) + 1),
                reason="a name has letters, digits and . _ - and begins with a letter or a digit",
            )


def _section(
    parse: Callable[[Document], list[Entry] | None], document: Document
) -> list[Entry] | None:
    """Return the entries of a section; None for a name that only occurs somewhere in the text."""
    try:
        return parse(document)
    except ConfigError as error:
        if "there is no object" in error.what:  # how JSON says None
            return None
        raise


def plan_of(name: str, entries: list[Entry]) -> HostingPlan:
    """Return a plan from the entries of its section. Raises OptionError with the line."""
    found: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for entry in entries:
        row = VOCABULARY.get(entry.key)
        at = Origin(entry.origin.source, entry.origin.line)
        if row is None:
            import difflib  # noqa: PLC0415  (for a mistake alone)

            near = difflib.get_close_matches(entry.key, VOCABULARY, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(VOCABULARY)}"
            raise OptionError(f"a plan has no {entry.key}", origin=at, hint=hint)
        try:
            found[row.field] = row.parse(entry.value or "")
        except ValueError as error:
            raise OptionError(
                f"cannot use {entry.key} = {entry.value or ''} in plan {name}",
                origin=at,
                reason=str(error),
                hint=f"for example {entry.key} = {row.example}",
            ) from error
        origins[row.field] = Origin(entry.origin.source, entry.origin.line, f"plan {name}")
    first = entries[0].origin if entries else DEFAULT
    origin = Origin(first.source, first.line, f"plan {name}")
    return HostingPlan(name=name, origin=origin, origins=origins, **found)
