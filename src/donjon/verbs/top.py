"""``donjon top``: processor time and memory of each vassal, with all its processes.

A vassal is the tree of processes below its pid (proc(5), ``/proc/PID/task/TID/children``).
Processor time is what the tree used between two looks; memory is its proportional share (PSS), in
which pages that many vassals have in common count once for all of them together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from donjon.emperor import client
from donjon.records import dataclass
from donjon.verbs import arguments, text

HEAD = ("NAME", "CPU%", "MEMORY", "PROCESSES", "PID", "STATE")
CLEAR = "\x1b[H\x1b[2J"
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Use:
    """What a vassal uses: ``cpu`` in percent of one processor, ``memory`` in bytes."""

    name: str
    state: str
    pid: int
    processes: int
    cpu: float
    memory: int


def main(verb: str, words: Sequence[str]) -> int:
    """Print a table again and again on a terminal, else once."""
    parser = arguments.parser(verb)
    parser.add_argument("--once", action="store_true", help="print one table")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds (default: 2)")
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    interval = max(0.1, chosen.interval)
    ticks = {}
    once = chosen.once or chosen.json or not text.on_terminal()
    try:
        ticks = _ticks(_vassals(chosen.control))
        while True:
            time.sleep(interval)
            vassals = _vassals(chosen.control)
            uses, ticks = _uses(vassals, ticks, interval)
            _print(uses, as_json=chosen.json, clear=not once)
            if once:
                return 0
    except KeyboardInterrupt:
        return 0  # how a display that never ends is ended


def _vassals(control: str | None) -> list[Mapping[str, Any]]:
    vassals: list[Mapping[str, Any]] = client.ask("ls", socket=control)["vassals"]
    return vassals


def _ticks(vassals: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {row["name"]: sum(_time_of(pid) for pid in _tree(int(row["pid"]))) for row in vassals}


def _uses(
    vassals: Sequence[Mapping[str, Any]], before: Mapping[str, int], interval: float
) -> tuple[list[Use], dict[str, int]]:
    """Return what was used since the last look, the busiest first, and the new readings."""
    now = _ticks(vassals)
    uses = []
    for row in vassals:
        name, pids = row["name"], list(_tree(int(row["pid"])))
        used = max(0, now[name] - before.get(name, now[name]))  # a new tree counts from now
        uses.append(
            Use(
                name=name,
                state=row["state"],
                pid=int(row["pid"]),
                processes=len(pids),
                cpu=100 * used / TICK / interval,
                memory=sum(_memory_of(pid) for pid in pids),
            )
        )
    return sorted(uses, key=lambda use: (-use.cpu, -use.memory, use.name)), now


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    if pid <= 0:
        return
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return  # gone meanwhile
    yield pid
    for task in tasks:
        for child in _read(f"/proc/{pid}/task/{task}/children").split():
            yield from _tree(int(child))


def _time_of(pid: int) -> int:
    """Return the ticks a process used: utime and stime of proc_pid_stat(5)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0


def _memory_of(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # the process is gone, or not ours to look into


def _print(uses: Sequence[Use], *, as_json: bool, clear: bool) -> None:
    if as_json:
        text.as_json([{name: getattr(use, name) for name in Use.__slots__} for use in uses])
        return
    if clear:
        print(CLEAR, end="")
        total = sum(use.memory for use in uses)
        print(
            f"{len(uses)} vassals, {text.size(total)}, {sum(use.cpu for use in uses):.1f}% CPU\n"
        )
    text.table(
        HEAD,
        [
            (use.name, f"{use.cpu:.1f}", text.size(use.memory), use.processes, use.pid, use.state)
            for use in uses
        ],
    )
