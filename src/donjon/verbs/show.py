"""``donjon show``: one vassal whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from donjon.emperor import client
from donjon.verbs import arguments, text
from donjon.verbs.ls import condition
from donjon.verbs.net import kind

FACTS: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "file": lambda row: row.get("path"),
    "source": lambda row: row.get("source"),
    "state": condition,
    "error": lambda row: row.get("error"),
    "pid": lambda row: row["pid"] if int(row["pid"]) > 0 else None,
    "owner": lambda row: f"uid {row['uid']}, gid {row['gid']} of the file",
    "started": lambda row: _when(row.get("last_run")),
    "changed": lambda row: _when(row.get("last_mod")),
    "starts": lambda row: row.get("respawns"),
    "plan": lambda row: row.get("resources", {}).get("plan"),
    "faults": lambda row: _faults(row.get("resources", {})),
    "born in": lambda row: " ".join(row.get("clone", ())),
    "network": lambda row: _network(row.get("network") or {}),
    "sockets": lambda row: "; ".join(row.get("sockets", ())),
    "command": lambda row: " ".join(row.get("argv", ())),
}


def main(verb: str, words: Sequence[str]) -> int:
    """Print what a vassal is, asks for and said last."""
    parser = arguments.parser(verb)
    parser.add_argument("name", metavar="NAME", help="a vassal: shop.ini, or shop")
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    row = client.ask("show", name=chosen.name, socket=chosen.control)["vassal"]
    if chosen.json:
        text.as_json(row)
        return 0
    _print(row)
    return 0


def _print(row: Mapping[str, Any]) -> None:
    print(text.paint(text.printable(str(row["name"])), text.BOLD))
    for name, fact in FACTS.items():
        value = fact(row)
        if value not in (None, ""):
            print(f"  {name + ':':<9} {text.printable(str(value))}")
    entries = [(one["key"], one["value"] or "", one["origin"]) for one in row.get("entries", ())]
    _section("options", [f"{key} = {value}  [{origin}]" for key, value, origin in entries])
    _section("last faults", [_fault(one) for one in row.get("resources", {}).get("recent", ())])
    _section("plan", row.get("plan", ()))
    _section("log", row.get("log", ()))


def _section(name: str, lines: Sequence[str]) -> None:
    if lines:
        print(text.paint(name, text.BOLD))
    for each in lines:
        text.line(f"  {each}")


def _network(row: Mapping[str, Any]) -> str:
    return " ".join((kind(row), *row["addresses"])) if row else ""


def _faults(resources: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in resources.get("faults", {}).items())


def _fault(fault: Mapping[str, Any]) -> str:
    """Say one fault, and who was there: the largest process first."""
    there = ", ".join(
        f"{one['name']} ({one['pid']}, {text.size(one['rss'])})" for one in fault["processes"][:5]
    )
    return f"{_when(fault['when'])}: {fault['text']}" + (f"; there were {there}" if there else "")


def _when(stamp: float | None) -> str:
    if not stamp:
        return ""
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))
    return f"{shown} ({text.duration(time.time() - stamp)} ago)"
