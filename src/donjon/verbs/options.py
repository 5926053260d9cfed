"""``donjon options``: the table of options, searched by name and help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from donjon.config import options as table
from donjon.config.options import Option
from donjon.errors import DonjonError
from donjon.verbs import arguments, text
from donjon.verbs.about import value_of

OURS = frozenset({"-h", "--help", "--json", "--built"})


def main(verb: str, words: Sequence[str]) -> int:
    """Print one option whole, or those whose name or help has a word; 1 if there is none."""
    parser = arguments.parser(verb)
    parser.add_argument("word", metavar="WORD", nargs="?", default="", help="a name, or any word")
    parser.add_argument("--built", action="store_true", help="leave out what is not built yet")
    arguments.add_json(parser)
    chosen = parser.parse_args([_bare(word) for word in words])
    word = chosen.word
    exact = table.find(word)
    if exact is not None and not chosen.json:
        _whole(exact)
        return 0
    rows = [exact] if exact is not None else _search(word, chosen)
    if not rows:
        near = table.suggest(word)
        raise DonjonError(
            f"no option has {word} in its name or help",
            hint=f"did you mean {near}?" if near else "",
        )
    if chosen.json:
        text.as_json([_values(row) for row in rows])
    else:
        text.table(("OPTION", "VALUE", "AREA", "HELP"), [_line(row) for row in rows])
    return 0


def _bare(word: str) -> str:
    """Return ``uid`` for ``--uid``, and for ``-j`` the short option's name; our own flags stay."""
    if word in OURS or not word.startswith("-"):
        return word
    row = table.find(word.lstrip("-")) or table.find_short(word[1:])
    return row.name if row else word


def _search(word: str, chosen: argparse.Namespace) -> list[Option]:
    """Return rows by how well they fit: in the name first, then in the help."""
    rows = [row for row in table.all_options() if row.built or not chosen.built]
    low = word.lower()
    by_name = [row for row in rows if any(low in name for name in row.names)]
    named = {row.name for row in by_name}
    by_help = [row for row in rows if row.name not in named and low in row.help.lower()]
    return by_name + by_help


def _line(row: Option) -> tuple[str, str, str, str]:
    return (f"--{row.name}", value_of(row).strip(), row.area, row.help + _note(row))


def _note(row: Option) -> str:
    if row.built:
        return ""
    return " (not built yet; ignored)" if row.harmless else " (not built yet)"


def _whole(row: Option) -> None:
    print(text.paint(f"--{row.name}{value_of(row)}", text.BOLD))
    print(f"  {row.help}{_note(row)}")
    facts = {
        "also": ", ".join(f"--{name}" for name in row.aliases),
        "short": f"-{row.short}" if row.short else "",
        "area": row.area,
        "example": f"{row.name} = {row.example}" if row.example else "",
        "repeats": "yes, each counts" if row.repeats else "",
        "who": "the operator only, never a customer's file" if row.operator else "",
        "origin": "donjon's own" if row.ours else "",
    }
    for name, value in facts.items():
        if value:
            print(f"  {name + ':':<9} {value}")


def _values(row: Option) -> dict[str, object]:
    return {
        "name": row.name,
        "aliases": list(row.aliases),
        "short": row.short,
        "takes": row.takes.value,
        "metavar": row.metavar,
        "area": row.area,
        "help": row.help,
        "example": row.example,
        "repeats": row.repeats,
        "operator": row.operator,
        "built": row.built,
        "ours": row.ours,
    }
