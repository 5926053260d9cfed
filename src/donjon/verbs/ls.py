"""``donjon ls``: the vassals of the running Emperor."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from donjon.emperor import client
from donjon.verbs import arguments, text

HEAD = ("NAME", "STATE", "PID", "UID", "AGE", "STARTS", "NOTE")


def main(verb: str, words: Sequence[str]) -> int:
    """Print one line a vassal."""
    parser = arguments.parser(verb)
    arguments.add_control(parser)
    arguments.add_formats(parser)
    chosen = parser.parse_args(words)
    vassals = client.ask("ls", socket=chosen.control)["vassals"]
    if chosen.openmetrics:
        from donjon.verbs import metrics  # noqa: PLC0415  (its library is slow to import)

        metrics.show(metrics.vassals(vassals))
        return 0
    if chosen.json:
        text.as_json(vassals)
        return 0
    ordered = sorted(vassals, key=lambda row: str(row["name"]))
    text.table(HEAD, [_row(row, time.time()) for row in ordered])
    return 0


def _row(row: Mapping[str, Any], now: float) -> tuple[str, ...]:
    alive = int(row["pid"]) > 0
    return (
        str(row["name"]),
        condition(row),
        str(row["pid"]) if alive else "-",
        _uid_of(int(row["pid"])) or str(row["uid"]),
        text.duration(now - row["last_run"]) if alive and row["last_run"] else "-",
        str(row["respawns"]),
        str(row.get("error") or _next(row, now)),
    )


def _uid_of(pid: int) -> str:
    """Return the effective uid of a process, "" where there is none (proc_pid_status(5))."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return next((line.split()[2] for line in file if line.startswith("Uid:")), "")
    except OSError:
        return ""


def condition(row: Mapping[str, Any]) -> str:
    """Return a vassal's state, and how far it is: ready, accepting, loyal."""
    state = str(row["state"])
    if row.get("frozen"):
        return f"{state}, frozen"
    for mark in ("accepting", "ready"):
        if row.get(mark) and int(row["pid"]) > 0:
            return f"{state}, {mark}"
    return state


def _next(row: Mapping[str, Any], now: float) -> str:
    """Say when a vassal that waits is started."""
    wait = row.get("next_start") or 0
    return f"starts in {text.duration(wait - now)}" if wait > now else ""
