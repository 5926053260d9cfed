"""The option reference, written from the rows of the table.

``python -m donjon.config.options.reference [FILE]`` writes the page, docs/options.md if none is
named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from donjon.config.options import all_options
from donjon.config.options.option import Option, Takes

_HEAD = """\
# Options

Made from the table in `config/options/` by `make docs`; do not edit.

An option is a key of a file (`key = value`), a flag of the command line (`--key value`), or a
variable of the environment (`UWSGI_KEY=value`). Names are those of uWSGI; **new** marks ours.
Keys marked **operator** are refused in a customer's file (tyrant mode). Keys marked **again** may
come more than once. Flags without a value in the first column are true or false: `false`, `off`,
`no` and `0` are false in a file, anything else is true.

Options of uWSGI that are not built stand at the end of their part. *Not built yet* means that the
start ends with an error that names the option, file and line, because what runs would not be what
was asked. *Ignored* means that a line in the log names it, because the same runs without it.
"""


def reference() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *_parts(all_options())])


def _parts(rows: Iterable[Option]) -> Iterator[str]:
    areas: dict[str, list[Option]] = {}
    for row in rows:
        areas.setdefault(row.area, []).append(row)
    for area, group in areas.items():
        yield from _part(area, group)


def _part(area: str, rows: Sequence[Option]) -> Iterator[str]:
    yield f"## {area[0].upper()}{area[1:]}\n"
    built = [row for row in rows if row.built]
    if built:
        yield "| option | what it does |"
        yield "|---|---|"
        yield from (_line(row) for row in built)
        yield ""
    yield from _missing("Not built yet", (row for row in rows if not (row.built or row.harmless)))
    yield from _missing("Ignored", (row for row in rows if row.harmless and not row.built))


def _line(row: Option) -> str:
    marks = [
        word
        for word, on in (
            ("new", row.ours),
            ("operator", row.operator),
            ("again", row.repeats),
        )
        if on
    ]
    tail = f" **{', '.join(marks)}**" if marks else ""
    others = f"<br>{', '.join(f'`{name}`' for name in row.aliases)}" if row.aliases else ""
    return f"| `{_usage(row)}`{others} | {_cell(row.help)}{tail} |"


def _usage(row: Option) -> str:
    value = _cell(row.metavar or "VALUE")
    letter = f"-{row.short}, " if row.short else ""
    if row.takes is Takes.NOTHING:
        return letter + row.name
    if row.takes is Takes.OPTIONAL:
        return f"{letter}{row.name}[={value}]"
    return f"{letter}{row.name} {value}"


def _missing(title: str, rows: Iterable[Option]) -> Iterator[str]:
    names = ", ".join(" ".join(f"`{name}`" for name in row.names) for row in rows)
    if names:
        yield f"{title}: {names}.\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    with open(sys.argv[1] if len(sys.argv) > 1 else "docs/options.md", "w") as page:
        page.write(reference())
