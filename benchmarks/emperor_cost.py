"""What an Emperor itself costs in processor time: its start, and each vassal, by stage.

    sudo .venv/bin/python benchmarks/emperor_cost.py [--vassals 300] [--times 3] [--json]

Processor time of the Emperor's own process alone (its spawner and the vassals are not in it), so
that a busy machine disturbs the numbers little. A start is measured from exec until the first
vassal is ordered; a vassal from there until it accepts requests, with the start of an Emperor of
one vassal taken off. Bytecode is kept in a directory of the run's own; "without bytecode" is the
first start after an installation that kept none (PYTHONDONTWRITEBYTECODE).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emperor import NAMESPACES, pause, populate  # noqa: TID251  (the file beside this)

PATIENCE = 120.0

DRIVER = '''
import sys, time
spent = time.process_time
result = {"interpreter": spent()}
stages, stack = {}, []
import donjon.cli
import donjon.verbs.start
from donjon.emperor import conduct, loop, nursery, prepare, reader, spawner
from donjon import log
result["imports"] = spent()

def stage(owner, name, label):
    """Time a function, less what the stages inside it take."""
    inner = getattr(owner, name)
    def timed(*args, **given):
        stack.append(0.0)
        begun = spent()
        try:
            return inner(*args, **given)
        finally:
            took = spent() - begun
            stages[label] = stages.get(label, 0.0) + took - stack.pop()
            if stack:
                stack[-1] += took
    setattr(owner, name, timed)

first = spawner.Spawner.send
def send(self, message, fds=()):
    if type(message).__name__ == "Order" and "first order" not in result:
        result["first order"] = spent()
        stages.clear()
    first(self, message, fds)
spawner.Spawner.send = send

accepting = conduct.Conduct.mark_accepting
def mark(self, vassal):
    accepting(self, vassal)
    result["accepting"] = result.get("accepting", 0) + 1
    if result["accepting"] == WANTED:
        result["all"], result["stages"] = spent(), dict(stages)
        import json, os
        with open(RESULT + ".part", "w") as file:
            json.dump(result, file)
        os.rename(RESULT + ".part", RESULT)
conduct.Conduct.mark_accepting = mark

begin = loop.run
def run(*args, **given):
    result["own configuration"] = spent()
    return begin(*args, **given)
loop.run = run

start = spawner.Spawner.start
def start_spawner(*args, **given):
    try:
        return start(*args, **given)
    finally:
        result["spawner"] = spent()
spawner.Spawner.start = start_spawner

if STAGES:
    stage(reader, "read_config", "read the file")
    stage(reader, "evaluate", "evaluate it")
    stage(prepare.launches, "build", "make a Launch")
    stage(prepare, "outline", "plan the jail")
    stage(prepare.Preparer, "understand", "understand the rest")
    stage(spawner.Spawner, "send", "pack and send the order")
    stage(nursery.Nursery, "order_vassal", "descriptors and order")
    stage(nursery.Nursery, "_answer", "answers of the spawner")
    stage(conduct.Conduct, "_born", "adopt the newborn")
    stage(log, "write", "log lines")
    stage(loop.Emperor, "_apply", "states and actions")
    stage(loop.Emperor, "_tell_status", "tell systemd")
sys.exit(donjon.cli.main())
'''

STARTS = ("interpreter", "imports", "own configuration", "spawner", "first order")
"""Marks of a start, in order."""

Table = dict[str, float]


def run_emperor(count: int, *, stages: bool, cache: Path | None) -> dict[str, object]:
    """Let one Emperor start ``count`` vassals; return its marks, seconds of processor time."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="bench-cost-") as name:
        place = Path(name)
        populate(place, count, "")
        environ["PYTHONPYCACHEPREFIX"] = str(cache or place / "nothing")
        if "PYTHONPATH" in os.environ:
            environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
        if cache is None:
            environ["PYTHONDONTWRITEBYTECODE"] = "1"
        result = place / "result"
        names = f"WANTED, RESULT, STAGES = {count}, {str(result)!r}, {stages}\n"
        command = [sys.executable, "-c", names + DRIVER, "--emperor", f"{place}/vassals"]
        command += ["--emperor-use-clone", NAMESPACES]
        with (place / "log").open("wb") as log:
            emperor = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place, env=environ
            )
        try:
            end = time.monotonic() + PATIENCE
            while not result.exists():
                if time.monotonic() > end or emperor.poll() is not None:
                    sys.exit(f"no result: {(place / 'log').read_text()[-2000:]}")
                pause(0.05)
        finally:
            emperor.send_signal(signal.SIGINT)
            emperor.wait()
        marks: dict[str, object] = json.loads(result.read_text())
        return marks


def start_table(marks: dict[str, object]) -> Table:
    """Return the milliseconds of each part of a start, and of all."""
    table, before = {}, 0.0
    for name in STARTS:
        moment = float(str(marks[name])) * 1000
        table[f"start: {name}"], before = moment - before, moment
    table["start"] = before
    return table


def measure(count: int, cache: Path) -> Table:
    """Measure once: a start with and without bytecode, then ``count`` vassals."""
    table = start_table(run_emperor(1, stages=False, cache=cache))
    bare = start_table(run_emperor(1, stages=False, cache=None))
    table["start, without bytecode"] = bare["start"]
    marks = run_emperor(count, stages=False, cache=cache)
    total = float(str(marks["all"])) * 1000 - table["start"]
    marks = run_emperor(count, stages=True, cache=cache)
    parts = marks["stages"]
    assert isinstance(parts, dict)
    for name, seconds in parts.items():
        table[f"vassal: {name}"] = seconds * 1000 / count
    timed = float(str(marks["all"])) * 1000 - table["start"]
    table["vassal: the loop and the clocks of this table"] = timed / count - sum(
        value for key, value in table.items() if key.startswith("vassal: ")
    )
    table["vassal"] = total / count
    return table


def main() -> int:
    """Measure several times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vassals", type=int, default=300)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as name:
        run_emperor(1, stages=False, cache=Path(name))  # compiles
        tables = [measure(options.vassals, Path(name)) for _ in range(options.times)]
    if options.json:
        print(json.dumps(tables))
        return 0
    print(f"{'milliseconds of processor time':48}{'median':>9}" + "     each")
    for key in tables[0]:
        values = [table[key] for table in tables]
        each = " ".join(f"{value:8.3f}" for value in values)
        print(f"{key:48}{statistics.median(values):9.3f} {each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
