"""``donjon ids``: whose host ids are whose, and taking them back."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from donjon.errors import DonjonError
from donjon.jail.idledger import PATH, Ledger, Range
from donjon.verbs import arguments, text


def main(verb: str, words: Sequence[str]) -> int:
    """Print the ledger of ``id-range``, or release the ids of one name."""
    more = "Files that still have released ids will be the next owner's: remove them first."
    parser = arguments.parser(verb, more=more)
    parser.add_argument("--release", metavar="NAME", help="give the ids of NAME back")
    parser.add_argument(
        "--ledger", metavar="FILE", default=PATH, help=f"id-range-ledger (default: {PATH})"
    )
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    ledger = Ledger(chosen.ledger)
    if chosen.release:
        return _release(ledger, chosen)
    if chosen.json:
        text.as_json([_row(one) for one in ledger.ranges()])
    else:
        rows = [(str(one.base), str(one.size), one.name) for one in ledger.ranges()]
        text.table(("BASE", "SIZE", "NAME"), rows)
    return 0


def _release(ledger: Ledger, chosen: argparse.Namespace) -> int:
    found = ledger.find(_full_name(ledger, chosen.release))
    if found is None:
        raise DonjonError(
            f"{chosen.release} has no ids in {ledger.path}", hint="donjon ids lists who has"
        )
    pid = _user_of(found)
    if pid:
        raise DonjonError(
            f"the ids of {found.name} are in use", reason=f"by process {pid}", hint="stop it first"
        )
    ledger.release(found.name)
    if chosen.json:
        text.as_json(_row(found))
    else:
        text.line(f"{found.name} has given ids {found} back")
    return 0


def _full_name(ledger: Ledger, name: str) -> str:
    """Return the one name that ends in ``/name``, or ``name`` itself."""
    names = [one.name for one in ledger.ranges()]
    ends = [one for one in names if one.rpartition("/")[2] == name]
    return ends[0] if name not in names and len(ends) == 1 else name


def _user_of(found: Range) -> int:
    """Return a process that has one of the ids, 0 if none has."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as lines:
                ids = [line.split()[1:] for line in lines if line.startswith(("Uid:", "Gid:"))]
        except OSError:
            continue  # it has ended
        if any(found.base <= int(one) <= found.last for row in ids for one in row):
            return int(name)
    return 0


def _row(one: Range) -> dict[str, object]:
    return {"name": one.name, "base": one.base, "size": one.size}
