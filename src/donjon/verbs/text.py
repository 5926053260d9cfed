"""How verbs print: tables that line up, colours on a terminal only, no escapes of a stranger's.

Names, errors and log lines may come from customers. What goes to a terminal is made printable
first, so that no escape sequence of theirs reaches it (``printable``). In a pipe tables are the
same, without colour and without cutting; programs use ``--json``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

GAP = "  "
NARROWEST = 20  # columns into which text is wrapped
BOLD, RED, GREEN, YELLOW, DIM = "1", "31", "32", "33", "2"


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def paint(text: str, colour: str) -> str:
    """Return ``text`` in a colour where that is wanted (NO_COLOR is respected)."""
    if not on_terminal() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def printable(text: str) -> str:
    """Return ``text`` with everything that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def line(text: str) -> None:
    """Print one line that may come from a stranger; as it is where it goes to a file or a pipe."""
    if on_terminal():
        print(GAP.join(printable(part) for part in text.split("\t")))
    else:
        print(text.encode("utf-8", "backslashreplace").decode())


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a head, in columns; numbers stand at the right, the last column wraps."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in [list(head), *cells]) for at in range(len(head) - 1)]
    right = [
        bool(cells) and all(_is_number(row[at]) for row in cells) for at in range(len(widths))
    ]
    print(paint(_row(head, widths, right), BOLD))
    for row in cells:
        print(_row(row, widths, right))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "").isdecimal()


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = [
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(cells, widths, right, strict=False)
    ]
    left = "".join(part + GAP for part in parts)
    return (left + _wrapped(cells[-1], len(left))).rstrip()


def _wrapped(text: str, at: int) -> str:
    """Wrap a last column that begins at a column of the terminal; a pipe gets one line."""
    room = shutil.get_terminal_size().columns - at
    if not on_terminal() or len(text) <= room or room < NARROWEST:
        return text
    return ("\n" + " " * at).join(textwrap.wrap(text, room))


def as_json(value: object) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2 if on_terminal() else None))


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: ``3d 4h``, ``12s``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def size(count: float) -> str:
    """Return a number of bytes in a unit that leaves few digits."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}GiB"
