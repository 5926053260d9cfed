"""``donjon plans``: what was promised to each vassal, and what it uses of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from donjon.emperor import client
from donjon.jail import cgroups
from donjon.jail.cgroup_driver import Counts, Use
from donjon.verbs import arguments, text

HEAD = ("NAME", "PLAN", "WEIGHT", "CPU", "MEMORY", "SWAP", "PIDS", "DISK/s", "LIMITS MET")
CLEAR = "\x1b[H\x1b[2J"
MET = {
    "oom_kill": "out of memory",
    "memory_max": "memory full",
    "memory_high": "memory high",
    "pids": "forks refused",
    "throttled": "throttled",
}


def main(verb: str, words: Sequence[str]) -> int:
    """Print plan against use, again and again on a terminal; with ``--list`` the plans."""
    parser = arguments.parser(verb, more="CPU is measured over the interval.")
    parser.add_argument("--list", action="store_true", help="print what the plans are")
    parser.add_argument("--once", action="store_true", help="print one table")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds (default: 1)")
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    first = look(chosen.control)
    if chosen.list:
        _list(first, as_json=chosen.json)
        return 0
    once = chosen.once or chosen.json or not text.on_terminal()
    try:
        while True:
            time.sleep(max(0.1, chosen.interval))
            second = look(chosen.control)
            _print(rows(first, second), as_json=chosen.json, clear=not once)
            if once:
                return 0
            first = second
    except KeyboardInterrupt:
        return 0  # how a display that never ends is ended


def look(control: str | None) -> dict[str, Any]:
    """Return the Emperor's answer with what its vassals use now."""
    answer = client.ask("plans", socket=control)
    for row in answer["vassals"]:
        use, counts = cgroups.use_of(row["groups"]), cgroups.counts_of(row["groups"])
        row["use"] = {name: getattr(use, name) for name in Use.__slots__}
        row["counts"] = {name: getattr(counts, name) for name in Counts.__slots__}
    return {**answer, "now": time.monotonic()}


def _list(answer: Mapping[str, Any], *, as_json: bool) -> None:
    plans = answer["plans"]
    if as_json:
        text.as_json(plans)
        return
    said = [
        (one["name"], " ".join(f"{key}={value}" for key, value in one["words"].items()))
        for one in plans
    ]
    text.table(("PLAN", "WHAT IT GIVES"), said)


def rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the vassals of the second look, with what they did since the first, a second."""
    passed = max(second["now"] - first["now"], 0.001)
    before = {row["name"]: row["use"] for row in first["vassals"]}
    found = []
    for row in second["vassals"]:
        old = before.get(row["name"], {})
        use = row["use"]
        found.append(
            {
                **row,
                "cpu": _rate(old.get("cpu_usec"), use["cpu_usec"], passed * 10_000),
                "disk": _rate(old.get("io_bytes"), use["io_bytes"], passed),
            }
        )
    return sorted(found, key=lambda row: str(row["name"]))


def _rate(old: int | None, new: int | None, per: float) -> float | None:
    if old is None or new is None:
        return None
    return round(max(0, new - old) / per, 1)  # a group made anew counts from nothing


def _print(found: Sequence[Mapping[str, Any]], *, as_json: bool, clear: bool) -> None:
    if as_json:
        text.as_json(list(found))
        return
    if clear:
        print(CLEAR, end="")
    text.table(HEAD, [_row(row) for row in found])


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    use = row["use"]
    ceiling = use["cpu_percent"]
    return (
        str(row["name"]),
        str(row["plan"] or "-"),
        str(use["cpu_weight"] or "-"),
        _of(_percent(row["cpu"]), _percent(ceiling)),
        _of(_size(use["memory"]), _size(_least(use["memory_max"], use["memory_high"]))),
        _of(_size(use["swap"]), _size(use["swap_max"])),
        _of(_count(use["pids"]), _count(use["pids_max"])),
        _size(row["disk"]),
        ", ".join(
            f"{row['counts'][key]} {what}" for key, what in MET.items() if row["counts"][key]
        ),
    )


def _least(*limits: int | None) -> int | None:
    return min((one for one in limits if one is not None), default=None)


def _of(used: str, limit: str) -> str:
    return used if limit == "-" else f"{used}/{limit}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}%".replace(".0%", "%")


def _size(value: float | None) -> str:
    return "-" if value is None else text.size(value)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
