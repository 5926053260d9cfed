"""Requests a second of one worker: donjon beside uWSGI and other WSGI servers, in one run.

    .venv/bin/python benchmarks/http.py [--seconds 5] [--rounds 3] [--only donjon,uwsgi] [--check]

Every server gets the same application ("hello world", 11 bytes, with its Content-Length), one
worker, logs off, and a load of wrk with one thread and 64 connections, keep-alive. Rounds are
interleaved, so that a slow minute of the machine hits all of them; the median counts. Nothing is
installed: a peer that is missing is named, with how to get it. ``--check`` fails unless donjon
reaches twice uWSGI's http11-socket.

One processor serves and another loads where there are two: the server is pinned to the first.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BAR = 2.0
CONNECTIONS = 64

APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
    return [b"hello world"]
"""

BJOERN = """
import bjoern, app
bjoern.run(app.application, "127.0.0.1", {port})
"""

FASTWSGI = """
import fastwsgi, app
fastwsgi.run(app.application, "127.0.0.1", {port}, loglevel=0)
"""


@dataclass(frozen=True)
class Peer:
    """A server: how it is started, and how a reader of the table can get it."""

    name: str
    command: tuple[str, ...]
    get: str
    missing: bool = False


def _donjon() -> str:
    """The installed command beside this interpreter, else the one on PATH."""
    beside = Path(sys.executable).with_name("donjon")
    return str(beside) if beside.exists() else shutil.which("donjon") or "donjon"


def _uwsgi_plugin() -> tuple[str, ...]:
    """Debian's uwsgi loads Python as a plugin; one from PyPI has it inside."""
    plugins = Path("/usr/lib/uwsgi/plugins")
    debian = shutil.which("uwsgi") == "/usr/bin/uwsgi" and plugins.is_dir()
    return ("--plugin", "python3") if debian else ()


def _module(name: str, script: str) -> Peer:
    """A server that is a Python package, run by a few lines."""
    missing = importlib.util.find_spec(name) is None
    return Peer(name, (sys.executable, "-c", script), f"pip install {name}", missing)


def peers() -> list[Peer]:
    """All servers that this benchmark knows; a command has {port} and runs beside app.py."""
    shared = ("--wsgi-file", "app.py", "--master", "--processes", "1", "--disable-logging")
    donjon = _donjon()
    uwsgi = shutil.which("uwsgi")
    return [
        Peer(
            "donjon http11-socket",
            (donjon, "--http11-socket", "127.0.0.1:{port}", *shared),
            "make build",
            missing=shutil.which(donjon) is None,
        ),
        Peer(
            "uwsgi http11-socket",
            ("uwsgi", *_uwsgi_plugin(), "--http11-socket", "127.0.0.1:{port}", *shared),
            "apt-get install uwsgi-core uwsgi-plugin-python3",
            missing=uwsgi is None,
        ),
        _module("bjoern", BJOERN),
        _module("fastwsgi", FASTWSGI),
        Peer(
            "granian",
            ("granian", "--interface", "wsgi", "--port", "{port}", "--no-log", "app:application"),
            "pip install granian",
            missing=shutil.which("granian") is None,
        ),
        Peer(
            "gunicorn",
            ("gunicorn", "-b", "127.0.0.1:{port}", "-k", "gthread", "app:application"),
            "pip install gunicorn",
            missing=shutil.which("gunicorn") is None,
        ),
    ]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                if b" 200 " in sock.recv(64):
                    return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{process.args!r} does not answer")


@contextmanager
def running(peer: Peer, folder: Path) -> Iterator[int]:
    """The server, in a process group of its own that ends with the block; its port."""
    port = _free_port()
    command = [part.replace("{port}", str(port)) for part in peer.command]
    pin = ["taskset", "-c", "0"] if _can_pin() else []
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*pin, *command], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(port, process)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _can_pin() -> bool:
    return shutil.which("taskset") is not None and len(os.sched_getaffinity(0)) > 1


def measure(port: int, seconds: int) -> tuple[float, str]:
    """Requests a second that wrk sees, and the errors that it reports."""
    url = f"http://127.0.0.1:{port}/"
    pin = ["taskset", "-c", "1"] if _can_pin() else []
    command = [*pin, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if found is None:
        raise SystemExit(f"wrk said: {out}")
    errors = re.search(r"(Socket errors:.*|Non-2xx.*)", out)
    return float(found[1]), errors[1] if errors else ""


def run(chosen: list[Peer], seconds: int, rounds: int) -> dict[str, list[float]]:
    """All measurements, round by round."""
    rates: dict[str, list[float]] = {peer.name: [] for peer in chosen}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "app.py").write_text(APP)
        for _ in range(rounds):
            for peer in chosen:
                with running(peer, folder) as port:
                    measure(port, 1)
                    rate, errors = measure(port, seconds)
                rates[peer.name].append(rate)
                print(f"  {peer.name:24} {rate:10,.0f} requests/s  {errors}", flush=True)
    return rates


def table(rates: dict[str, list[float]]) -> dict[str, float]:
    """Print medians and their ratio to uWSGI's; the medians."""
    medians = {name: statistics.median(found) for name, found in rates.items() if found}
    base = medians.get("uwsgi http11-socket")
    print(f"\n{'server':26}{'requests/s':>12}{'x uWSGI':>10}")
    for name, rate in sorted(medians.items(), key=lambda item: -item[1]):
        ratio = f"{rate / base:.2f}" if base else "-"
        print(f"{name:26}{rate:12,.0f}{ratio:>10}")
    return medians


def main() -> int:
    """Run, print, and with --check judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="of load for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of servers, by their beginning")
    parser.add_argument("--check", action="store_true", help=f"fail below {BAR} x uWSGI")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    wanted = tuple(filter(None, options.only.split(",")))
    known = [peer for peer in peers() if not wanted or peer.name.startswith(wanted)]
    for peer in known:
        if peer.missing:
            print(f"  {peer.name:24} is not installed ({peer.get})")
    rates = run([peer for peer in known if not peer.missing], options.seconds, options.rounds)
    medians = table(rates)
    if not options.check:
        return 0
    ours, theirs = medians.get("donjon http11-socket"), medians.get("uwsgi http11-socket")
    if ours is None or theirs is None:
        raise SystemExit("--check needs both donjon and uwsgi")
    return 0 if ours >= BAR * theirs else 1


if __name__ == "__main__":
    sys.exit(main())
