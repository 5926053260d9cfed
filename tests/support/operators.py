"""An Emperor with the jailed vassal ``shop``, and operators that attach to it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import hosting
import pexpect

FIVE = "fs,ipc,pid,uts,net"


class Operators:
    """The Emperor, and the terminals of who attaches."""

    def __init__(self, place: Path) -> None:
        self.host = hosting.Host(place)
        self.control = str(place / "control")
        self._clients: list[pexpect.spawn] = []

    def start(self, lines: str = "") -> None:
        """Start the Emperor, with more ``lines`` of its own, and wait for the vassal."""
        bind = f"rootfs = host\nbind = {self.host.place}/sockets\n"
        self.host.vassal("shop", f"{bind}uid = 33\ngid = 33\nhostname = cell\n")
        self.host.start(f"emperor-control = {self.control}\nemperor-use-clone = {FIVE}\n{lines}")
        self.host.answer("shop")

    def command(self, *words: str, program: Sequence[str] = hosting.DONJON) -> list[str]:
        """What attaches."""
        return [*program, "attach", "--control", self.control, *words]

    def attach(
        self, *words: str, rows: int = 24, cols: int = 80, program: Sequence[str] = hosting.DONJON
    ) -> pexpect.spawn:
        """Attach on a terminal of that size."""
        command = self.command(*words, program=program)
        env = {**os.environ, "TERM": "xterm-256color"}
        client = pexpect.spawn(
            command[0], command[1:], dimensions=(rows, cols), timeout=20, env=env
        )
        self._clients.append(client)
        return client

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Attach without a terminal, to the end."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=60)  # fmt: skip

    def close(self) -> None:
        """End all."""
        for client in self._clients:
            client.close(force=True)
        self.host.close()
