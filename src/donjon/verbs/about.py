"""``version``, ``help``, and the ``--help`` made from the table of options."""

from __future__ import annotations

from collections.abc import Sequence

import donjon
from donjon import verbs
from donjon.config import options
from donjon.config.options import Option, Takes
from donjon.config.world import COMPATIBLE_VERSION
from donjon.errors import UsageError

WIDTH = 40  # columns for the names of an option


def main(verb: str, words: Sequence[str]) -> int:
    """Print the version, or the list of verbs; ``help VERB`` is ``VERB --help``."""
    if verb == "version":
        _no_more(verb, words)
        print(f"donjon {donjon.__version__} (configurations of uWSGI {COMPATIBLE_VERSION})")
    elif words:
        return _help_of(words)
    else:
        print(overview(), end="")
    return 0


def _help_of(words: Sequence[str]) -> int:
    if len(words) > 1 or words[0] not in verbs.VERBS:
        raise UsageError(f"no verb {' '.join(words)}", hint="donjon help lists them")
    if words[0] in ("help", "version"):
        print(f"usage: donjon {words[0]}")
        return 0
    return verbs.load(words[0])(words[0], ["--help"])


def _no_more(verb: str, words: Sequence[str]) -> None:
    if words:
        raise UsageError(f"{verb} takes no argument", hint=f"usage: donjon {verb}")


def overview() -> str:
    """Return the list of verbs."""
    rows = "".join(f"  {name:<9}{text}\n" for name, (_, text) in verbs.VERBS.items())
    return (
        "usage: donjon VERB [ARGUMENT]...\n"
        "       donjon [--OPTION [VALUE]]... [FILE]...\n\n"
        f"{rows}\n"
        "Without a verb, options and files are those of uWSGI: `donjon --help` lists them,\n"
        "`donjon options WORD` looks one up. `donjon VERB --help` says more about a verb.\n"
    )


def flags_help() -> str:
    """Return every option, area by area."""
    lines = [overview(), "\noptions (* is not built yet):\n"]
    area = ""
    for row in options.all_options():
        if row.area != area:
            area = row.area
            lines.append(f"\n{area}\n")
        lines.append(_line(row))
    return "".join(lines)


def _line(row: Option) -> str:
    mark = " " if row.built else "*"
    short = f"-{row.short}, " if row.short else ""
    names = short + ", ".join(f"--{name}" for name in row.names) + value_of(row)
    gap = "\n" + " " * (WIDTH + 4) if len(names) > WIDTH else " " * (WIDTH - len(names) + 1)
    return f" {mark} {names}{gap}{row.help}\n"


def value_of(row: Option) -> str:
    """Return how an option's value is written after its name."""
    word = row.metavar or "VALUE"
    return {Takes.NOTHING: "", Takes.OPTIONAL: f" [{word}]", Takes.REQUIRED: f" {word}"}[row.takes]


def names() -> str:
    """Return every name of every option, one a line."""
    return "".join(f"{name}\n" for row in options.all_options() for name in row.names)
