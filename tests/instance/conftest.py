"""An instance in a process of its own, from entries as a file would give them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from donjon import instance
from donjon.config import launch
from donjon.config.entry import Entry
from donjon.errors import DonjonError
from donjon.origin import Origin

def read():
    with open(sys.argv[1]) as file:
        pairs = json.load(file)
    entries = [Entry(k, v, Origin("test.ini", n, k)) for n, (k, v) in enumerate(pairs, 1)]
    return launch.build(entries)

try:
    sys.exit(instance.run(read(), reread=read))
except DonjonError as error:
    print("donjon:", error, file=sys.stderr)
    sys.exit(error.exit_status)
"""


class Started:
    """One instance: its process, its log, its configuration that can be changed for a reload."""

    def __init__(self, folder, pairs, **how):
        self.folder = folder
        self.configure(pairs)
        self.log = folder / "instance.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, str(folder / "pairs")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **how,
            )  # fmt: skip
        self.handle = os.pidfd_open(self.process.pid)

    def configure(self, pairs):
        (self.folder / "pairs.new").write_text(json.dumps(pairs))
        os.rename(self.folder / "pairs.new", self.folder / "pairs")

    def wait(self):
        return self.process.wait(20)

    def said(self):
        return self.log.read_text()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.handle)


@pytest.fixture
def tmp_path():
    """A directory that other users can reach; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory(prefix="donjon-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def start(tmp_path):
    """Start an instance of some (key, value) pairs; what still runs is stopped."""
    started = []

    def go(*pairs, **how):
        started.append(Started(tmp_path, pairs, **how))
        return started[-1]

    yield go
    for each in started:
        each.stop()


@pytest.fixture
def run(start):
    """Run an instance to its end; return its exit status and its log."""

    def go(*pairs, **how):
        instance = start(*pairs, **how)
        return instance.wait(), instance.said()

    return go
