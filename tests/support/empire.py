"""A small Emperor under test, with everything it needs in a scratch directory."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from patience import patient

PROGRAM = Path(__file__).with_name("little_emperor.py")


def pause(seconds):
    select.select([], [], [], seconds)


def wait_for(condition, what, seconds=10.0):
    seconds = patient(seconds)
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
        except (OSError, ValueError, IndexError, KeyError, StopIteration) as error:
            last, value = error, None
        if value:
            return value
        pause(0.005)
    raise AssertionError(f"no {what} within {seconds} s (last: {last!r})")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


class Emperor:
    """The process, its vassals' directory, what it says."""

    def __init__(self, place):
        self.place = place
        self.vassals = place / "vassals"
        self.vassals.mkdir()
        self.process = None
        self.upper = None

    def start(self, *, environ=None, pass_fds=(), wait=True, prefix=(), **spec):
        fields = {
            "sources": [str(self.vassals)],
            "stats": str(self.place / "stats"),
            "control": str(self.place / "control"),
            **spec,
        }
        with (self.place / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, str(PROGRAM), json.dumps(fields)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environ or {})},
                pass_fds=pass_fds,
            )
        if wait:
            wait_for((self.place / "control").exists, "Emperor")
        return self

    def vassal(self, name, text="", **words):
        """Write a vassal whole (by rename); its record is ``NAME.record``."""
        words.setdefault("record", self.place / f"{name}.record")
        lines = "".join(f"{key} = {value}\n" for key, value in words.items())
        temporary = self.place / f"{name}.tmp"
        temporary.write_text(f"[uwsgi]\n{lines}{text}")
        temporary.rename(self.vassals / name)
        return self.vassals / name

    def record(self, name, event="start"):
        path = self.place / f"{name}.record"
        facts = [json.loads(line) for line in path.read_text().splitlines()]
        return [fact for fact in facts if fact["event"] == event]

    def started(self, name, count=1):
        return wait_for(lambda: self._start(name, count), f"start {count} of {name}")

    def _start(self, name, count):
        starts = self.record(name)
        return starts[-1] if len(starts) >= count else None

    def log(self):
        return (self.place / "log").read_text()

    def said(self, text):
        return wait_for(lambda: text in self.log(), f"{text!r} in the log")

    def stats(self):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(patient(5))
            link.connect(str(self.place / "stats"))
            return json.loads(b"".join(iter(lambda: link.recv(65536), b"")))

    def row(self, name):
        return next(row for row in self.stats()["vassals"] if row["id"] == name)

    def ask(self, line):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(patient(5))
            link.connect(str(self.place / "control"))
            link.sendall(json.dumps(line).encode() + b"\n")
            return json.loads(link.makefile("rb").readline())

    def send(self, number):
        self.process.send_signal(number)

    def end(self, number=signal.SIGTERM, seconds=10):
        self.process.send_signal(number)
        return self.process.wait(patient(seconds))
