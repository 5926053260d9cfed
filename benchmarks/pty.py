"""The forkpty router beside the original's: output, one key's echo, many sessions, memory.

    .venv/bin/python benchmarks/pty.py [--megabytes N] [--keys N] [--rounds N]

Both routers run as root on unix sockets in one directory; rounds alternate between them, and of
each figure the best round counts, so that what else the machine does weighs least. Echo is that of
the terminal itself (a key to ``cat``). Memory is the growth of PSS of the router and of everything
below it with 100 idle sessions, a session; a dash is in each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PLUGINS = "/usr/lib/uwsgi/plugins"
NAMES = {"uwsgi": "uWSGI", "donjon": "donjon"}
PIECE = 1 << 18


def command(which: str, place: Path) -> list[str]:
    """Return what starts a router."""
    doors = ["--master", "--forkpty-router", f"{place}/{which}-raw"]
    doors += ["--forkpty-urouter", f"{place}/{which}-framed", "--forkptyrouter-timeout", "600"]
    if which == "uwsgi":
        plugins = ["--plugins-dir", PLUGINS, "--plugin", "corerouter,forkptyrouter"]
        return ["uwsgi", *plugins, *doors]
    more = ["--forkpty-sessions", "1000", "--forkpty-rate", "10000"]
    return [sys.executable, "-m", "donjon", *doors, *more]


@contextlib.contextmanager
def router(which: str, place: Path) -> Iterator[int]:
    """Run a router; yields the pid of its master."""
    with (place / f"{which}.log").open("wb") as log:
        process = subprocess.Popen(command(which, place), stdout=log, stderr=log)
    try:
        end = time.monotonic() + 10
        while not (place / f"{which}-framed").exists():
            if time.monotonic() > end:
                sys.exit((place / f"{which}.log").read_text())
            time.sleep(0.02)
        time.sleep(0.5)
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def dial(path: Path) -> socket.socket:
    """Connect; whoever is silent for ten seconds is an error."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(30)
    link.connect(str(path))
    return link


def typed(data: bytes, *, framed: bool) -> bytes:
    """Return what a client sends for keys."""
    return b"\0" + len(data).to_bytes(2, "little") + b"\0" + data if framed else data


def output(path: Path, megabytes: int, *, framed: bool) -> float:
    """Return megabytes a second of one session."""
    size, got, buffer = megabytes << 20, 0, bytearray(PIECE)
    line = f"head -c {size} /dev/zero | tr '\\0' x; exit\n".encode()
    with dial(path) as link:
        link.sendall(typed(line, framed=framed))
        begin = time.perf_counter()
        while count := link.recv_into(buffer):
            got += count
        spent = time.perf_counter() - begin
    if got < size:
        sys.exit(f"{path.name}: {got} of {size} bytes came")
    return got / 1e6 / spent


def echo(path: Path, keys: int, *, framed: bool) -> tuple[float, float]:
    """Return median and 99th percentile of one key's way there and back, in microseconds."""
    key, clear = typed(b"x", framed=framed), typed(b"\x15", framed=framed)
    times = []
    with dial(path) as link:
        link.sendall(typed(b"exec cat\n", framed=framed))
        time.sleep(0.3)
        link.recv(PIECE)
        for number in range(keys):
            begin = time.perf_counter()
            link.sendall(key)
            link.recv(16)
            times.append(time.perf_counter() - begin)
            if number % 500 == 499:  # the line of a terminal is at most 4095 bytes long
                link.sendall(clear)
                time.sleep(0.02)
                link.recv(PIECE)
    times.sort()
    return statistics.median(times) * 1e6, times[len(times) * 99 // 100] * 1e6


def below(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += below(int(child))
    return found


def memory(pid: int) -> int:
    """Return the PSS of a process and all below it, in KiB."""
    total = 0
    for each in below(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except ProcessLookupError:
            continue  # a zombie, which has no memory
        total += int(
            next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]
        )
    return total


def idle(path: Path, pid: int, count: int) -> float:
    """Return KiB a session of ``count`` idle ones."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(dial(path))
        first.recv(100)
        before = memory(pid)
        for _ in range(count):
            link = stack.enter_context(dial(path))
            link.recv(100)
        return (memory(pid) - before) / count


def busy(path: Path, megabytes: int, count: int, *, framed: bool) -> float:
    """Return megabytes a second of ``count`` sessions together."""
    share = max(megabytes // count, 1)
    threads = [
        threading.Thread(target=output, args=(path, share), kwargs={"framed": framed})
        for _ in range(count)
    ]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return share * count * (1 << 20) / 1e6 / (time.perf_counter() - begin)


def main() -> int:
    """Measure, print a table, return 1 where a bar is not held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    best: dict[tuple[str, str], float] = {}

    def note(figure: str, which: str, value: float, *, least: bool = False) -> None:
        key = (figure, which)
        best[key] = min(best.get(key, value), value) if least else max(best.get(key, 0.0), value)

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        place = Path(name)
        pids = {which: stack.enter_context(router(which, place)) for which in NAMES}
        for kind in ("raw", "framed"):
            framed = kind == "framed"
            for _ in range(chosen.rounds):
                for which in NAMES:
                    path = place / f"{which}-{kind}"
                    speed = output(path, chosen.megabytes, framed=framed)
                    note(f"{kind}, output, MB/s", which, speed)
                    median, late = echo(path, chosen.keys, framed=framed)
                    note(f"{kind}, echo median, us", which, median, least=True)
                    note(f"{kind}, echo p99, us", which, late, least=True)
                    total = busy(path, chosen.megabytes, 20, framed=framed)
                    note(f"{kind}, 20 busy, MB/s", which, total)
        for which in NAMES:
            cost = idle(place / f"{which}-raw", pids[which], 100)
            note("100 idle, KiB a session", which, cost, least=True)
    return report(best)


def report(best: dict[tuple[str, str], float]) -> int:
    """Print the figures beside each other; return 1 where a bar is not held."""
    print(f"{'':26}{'uWSGI':>10}{'donjon':>10}{'ratio':>8}  bar")
    missed = 0
    for figure in dict.fromkeys(figure for figure, _ in best):
        theirs, ours = best[figure, "uwsgi"], best[figure, "donjon"]
        bar, holds = _bar(figure, theirs, ours)
        missed += not holds
        print(f"{figure:26}{theirs:10.1f}{ours:10.1f}{ours / theirs:8.2f}  {bar}")
    return 1 if missed else 0


def _bar(figure: str, theirs: float, ours: float) -> tuple[str, bool]:
    if "median" in figure:
        holds, bar = ours <= 1.1 * theirs, "<= 1.1"
    elif "output" in figure:
        holds, bar = ours >= theirs, ">= 1"
    elif "idle" in figure:
        holds, bar = ours <= 150, "<= 150 KiB"
    else:
        return "", True
    return f"{bar} {'held' if holds else 'MISSED'}", holds


if __name__ == "__main__":
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    raise SystemExit(main())
