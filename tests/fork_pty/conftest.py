"""Routers of both kinds, and clients of both on terminals of their own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pexpect
import pytest
from hosting import wait_for

DONJON = [sys.executable, "-m", "donjon"]
CLIENT = [
    sys.executable,
    "-c",
    "from donjon.fork_pty.client import main; raise SystemExit(main())",
]
PLUGINS = Path("/usr/lib/uwsgi/plugins")


class Place:
    """A directory with sockets, the routers on them and the clients."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw, self.framed, self.stats = (str(path / n) for n in ("raw", "framed", "stats"))
        self.log = path / "log"
        self._started: list[subprocess.Popen[bytes]] = []
        self._clients: list[pexpect.spawn] = []

    def ours(self, *words: str, before: Sequence[str] = ()) -> int:
        """Start an instance of donjon with both routers; return its pid."""
        return self.run("--master", *self._doors(), *words, before=before)

    def run(self, *words: str, before: Sequence[str] = ()) -> int:
        """The same with options that say all themselves; ``before`` executes what follows it."""
        return self._start([*before, *DONJON, *words], f"router on {self.framed}")

    def originals(self, *words: str) -> int:
        """The same of the original."""
        plugins = ["--plugins-dir", str(PLUGINS), "--plugin", "corerouter,forkptyrouter"]
        command = ["uwsgi", *plugins, "--master", *self._doors(), *words]
        return self._start(command, "spawned uWSGI forkptyrouter")

    def _doors(self) -> list[str]:
        return ["--forkpty-router", self.raw, "--forkpty-urouter", self.framed]

    def _start(self, command: list[str], listening: str) -> int:
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._started.append(process)
        try:
            wait_for(lambda: listening in self.text(), "router")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.text()}") from None
        return process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def connect(self, *words: str, rows: int = 24, cols: int = 80) -> pexpect.spawn:
        """Our client on a terminal of its own."""
        return self._spawn(self.client(*words), rows, cols)

    @staticmethod
    def client(*words: str) -> list[str]:
        return [*CLIENT, *words]

    def donjon(self, *words: str, rows: int = 24, cols: int = 80) -> pexpect.spawn:
        """The command itself."""
        return self._spawn([*DONJON, *words], rows, cols)

    def connect_original(self, *words: str, rows: int = 24, cols: int = 80) -> pexpect.spawn:
        command = ["uwsgi", "--plugins-dir", str(PLUGINS), "--plugin", "pty", *words]
        return self._spawn(command, rows, cols)

    def _spawn(self, command: list[str], rows: int, cols: int) -> pexpect.spawn:
        env = {**os.environ, "TERM": "xterm-256color"}
        client = pexpect.spawn(command[0], command[1:], dimensions=(rows, cols), env=env,
                               timeout=15, encoding=None)  # fmt: skip
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close(force=True)
        for process in self._started:
            process.send_signal(signal.SIGINT)
        for process in self._started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.path, ignore_errors=True)


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path)
    yield found
    found.close()
