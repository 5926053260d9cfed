"""An Emperor's cost per jailed vassal: donjon beside Debian's uWSGI, in one run on one machine.

    sudo .venv/bin/python benchmarks/emperor.py [--vassals 300] [--only donjon|uwsgi] [--check]

Each vassal has five namespaces (emperor-use-clone fs,ipc,pid,uts,net), its own uid, a master and
one worker with a WSGI application. Measured: time from the Emperor's start until every vassal
answered a request and the processor time of that, PSS of the vassals' processes, processor time of
everything while idle, time from a touch to the reload. ``--check`` fails unless the bars hold: an
eighth of uWSGI's time, a quarter of its memory, under 1 % of a core, 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

NAMESPACES = "fs,ipc,pid,uts,net"
FIRST_UID = 20000
IDLE_SECONDS = 5.0
TOUCHES = 9
DEADLINE = 300.0

APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What one Emperor cost. Times in milliseconds, memory in KiB, processor in percent of a
    core."""

    vassals: int
    first_answer_ms: float
    start_ms_per_vassal: float
    start_cpu_ms_per_vassal: float
    pss_kib_per_vassal: float
    idle_cpu_percent: float
    reload_ms_median: float
    reload_ms_worst: float


def pause(seconds: float) -> None:
    """Let time pass between two looks."""
    select.select([], [], [], seconds)


def populate(place: Path, count: int, extra: str) -> None:
    """Write the application and the vassals' files."""
    place.chmod(0o755)
    (place / "app.py").write_text(APP)
    (place / "sockets").mkdir()
    (place / "sockets").chmod(0o1777)
    (place / "vassals").mkdir()
    for number in range(count):
        (place / "vassals" / f"v{number:04}.ini").write_text(
            f"[uwsgi]\n{extra}http-socket = {place}/sockets/{number:04}.sock\n"
            f"chdir = {place}\nwsgi-file = app.py\nmaster = true\nprocesses = 1\n"
            f"uid = {FIRST_UID + number}\ngid = {FIRST_UID + number}\ndisable-logging = true\n"
        )


def answers(path: Path) -> bool:
    """Whether a vassal answers a request."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        try:
            link.connect(str(path))
            link.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            answer = b"".join(iter(lambda: link.recv(4096), b""))
        except OSError:
            return False
    return b"200 OK" in answer.partition(b"\r\n")[0]


def wait_for_all(place: Path, count: int) -> None:
    """Return when every vassal answered once; one is asked at a time, as asking costs too."""
    end = time.monotonic() + DEADLINE
    for number in range(count):
        path = place / "sockets" / f"{number:04}.sock"
        while not (path.exists() and answers(path)):
            if time.monotonic() > end:
                raise SystemExit(f"{path} does not answer; see {place}/log")
            pause(0.005)


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def pss(pids: list[int]) -> int:
    """Proportional set size in KiB, summed."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def run_time(pid: int) -> float:
    """Milliseconds of processor time of a process with one thread (proc_pid_schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def ticks(pids: list[int]) -> int:
    """Processor time in clock ticks, summed."""
    total = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(words[11]) + int(words[12])
    return total


def idle_cpu(pids: list[int]) -> float:
    """Percent of one core that these processes use while nothing happens."""
    before = ticks(pids)
    pause(IDLE_SECONDS)
    return (ticks(pids) - before) / os.sysconf("SC_CLK_TCK") / IDLE_SECONDS * 100


def reload_times(place: Path, count: int) -> list[float]:
    """Milliseconds from a touch to the Emperor's line that the reload has begun."""
    times = []
    for turn in range(TOUCHES):
        name = f"v{turn * (count // TOUCHES):04}.ini"
        offset = (place / "log").stat().st_size
        line = f"[emperor] reload the uwsgi instance {name}".encode()
        moment = time.time() + 2 + turn
        begun = time.monotonic()
        os.utime(place / "vassals" / name, (moment, moment))
        with (place / "log").open("rb") as log:
            log.seek(offset)
            seen = b""
            while line not in seen:
                if time.monotonic() - begun > 30:
                    raise SystemExit(f"{name} was not reloaded; see {place}/log")
                pause(0.0005)
                seen += log.read()
        times.append((time.monotonic() - begun) * 1000)
    return times


def measure(program: list[str], place: Path, count: int) -> Result:
    """Run one Emperor; ``own`` of its direct children are not vassals."""
    command = [*program, "--emperor", f"{place}/vassals", "--emperor-use-clone", NAMESPACES]
    with (place / "log").open("wb") as log:
        begun = time.monotonic()
        emperor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place
        )
    try:
        wait_for_all(place, 1)
        first = time.monotonic() - begun
        wait_for_all(place, count)
        took = time.monotonic() - begun
        pause(1.0)
        below = descendants(emperor.pid)
        spent = sum(run_time(pid) for pid in (emperor.pid, *below))
        memory = pss([pid for pid in below if not is_spawner(pid, emperor.pid)])
        idle = idle_cpu([emperor.pid, *below])
        reloads = reload_times(place, count)
    finally:
        emperor.send_signal(signal.SIGINT)
        try:
            emperor.wait(60)
        except subprocess.TimeoutExpired:
            emperor.kill()
            emperor.wait()
    return Result(
        vassals=count,
        first_answer_ms=first * 1000,
        start_ms_per_vassal=took * 1000 / count,
        start_cpu_ms_per_vassal=spent / count,
        pss_kib_per_vassal=memory / count,
        idle_cpu_percent=idle,
        reload_ms_median=statistics.median(reloads),
        reload_ms_worst=max(reloads),
    )


def is_spawner(pid: int, emperor: int) -> bool:
    """Whether ``pid`` is the Emperor's zygote: its child, with the Emperor's own command line."""
    lines = [Path(f"/proc/{one}/cmdline").read_bytes() for one in (pid, emperor)]
    return lines[0] == lines[1]


def run(which: str, count: int) -> Result:
    """Measure one program in a scratch directory of its own."""
    place = Path(tempfile.mkdtemp(prefix=f"bench-{which}-"))
    try:
        if which == "donjon":
            populate(place, count, "")
            return measure([sys.executable, "-m", "donjon"], place, count)
        populate(place, count, "plugin = python3\n")
        return measure([shutil.which("uwsgi") or "uwsgi"], place, count)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def show(results: dict[str, Result]) -> None:
    """Print a table."""
    print(f"{'':24}" + "".join(f"{name:>12}" for name in results))
    for key in asdict(next(iter(results.values()))):
        values = [getattr(result, key) for result in results.values()]
        print(f"{key:24}" + "".join(f"{value:12.2f}" for value in values))


def missed(results: dict[str, Result]) -> list[str]:
    """Name the bars that do not hold."""
    ours = results["donjon"]
    bars = {
        "a touch reloads within 50 ms": ours.reload_ms_median <= 50,
        "idle under 1 % of a core": ours.idle_cpu_percent < 1,
    }
    if "uwsgi" in results:
        theirs = results["uwsgi"]
        time_bar = ours.start_ms_per_vassal * 8 <= theirs.start_ms_per_vassal
        memory_bar = ours.pss_kib_per_vassal * 4 <= theirs.pss_kib_per_vassal
        bars |= {"an eighth of uWSGI's time": time_bar, "a quarter of its memory": memory_bar}
    return [name for name, holds in bars.items() if not holds]


def main() -> int:
    """Measure, print, and with --check judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vassals", type=int, default=300)
    parser.add_argument("--only", choices=["donjon", "uwsgi"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    names = [options.only] if options.only else ["donjon", "uwsgi"]
    results = {name: run(name, options.vassals) for name in names}
    if options.json:
        print(json.dumps({name: asdict(result) for name, result in results.items()}))
    else:
        show(results)
    failures = missed(results) if options.check else []
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
