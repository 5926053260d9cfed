"""A guest: started, spoken to over a serial line, and ended, whatever it does.

The agent in the guest (guest/agent.py) answers requests. A guest that does not answer within its time is
killed and ``HungError`` is raised with the last lines of its console; nobody waits for it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import images, kernels
from machine.flavours import Flavour

_READY = b"agent is ready\n"
_CHUNK = 1500  # bytes of a file in one request: a line's buffer holds 4096
_COMMON = "loglevel=3 panic=-1 systemd.show_status=0 systemd.journald.forward_to_console=0"
_TRUTHS = re.compile(r"Kernel panic|BUG: |Oops|general protection|double fault")
BOUND = (
    "setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip
"""The words before a program that have it, and whomever it forked, end with who starts it.

A User-Mode Linux is many processes; without a pid namespace those of its programs go on without it.
"""


class HungError(AssertionError):
    """A guest did not answer in time; it was ended."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did: ``status`` as a shell counts it, ``late`` when its time ran out."""

    status: int
    output: str
    late: bool


class Guest:
    """A running guest of ``flavour``; ``place`` is its directory, ``data`` a disk that outlives it."""

    def __init__(self, flavour: Flavour, place: Path, data: Path | None = None) -> None:
        self.flavour = flavour
        self.place = place
        self.console = place / "console"
        self._rest = b""
        kernel, root = kernels.obtain(flavour.kernel), images.root()
        self._scratch = Path(tempfile.mkdtemp(prefix="donjon-vm-", dir="/dev/shm"))
        self._line, theirs = socket.socketpair()
        with theirs, self.console.open("ab") as console:
            self.process = subprocess.Popen(
                command(flavour, kernel, root, self._scratch, data, theirs.fileno()),
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                pass_fds=[theirs.fileno()], env={**os.environ, "TMPDIR": str(self._scratch)},
            )  # fmt: skip
        begun = time.monotonic()
        try:
            self._await(_READY, 4 * flavour.boot)
        except BaseException:
            self.cut()
            raise
        self.booted = time.monotonic() - begun

    def run(
        self, *argv: str, seconds: float = 120, environ: Mapping[str, str] | None = None
    ) -> Done:
        """Run ``argv`` as root in the guest, for at most ``seconds``."""
        answer = self._ask(
            seconds + 60, do="run", argv=argv, environ=environ or {}, seconds=seconds
        )
        return Done(**answer)

    def sh(self, script: str, seconds: float = 120) -> str:
        """Run ``script`` by a shell that ends at the first failure; return what it said."""
        done = self.run("bash", "-euo", "pipefail", "-c", script, seconds=seconds)
        assert done.status == 0, f"status {done.status}: {script}\n{done.output[-4000:]}"
        return done.output

    def read(self, path: str) -> bytes:
        """Return the content of a file of the guest."""
        return base64.b64decode(self._ask(120, do="read", path=path)["data"])

    def write(self, path: str, content: bytes | str) -> None:
        """Write a file of the guest."""
        whole = content.encode() if isinstance(content, str) else content
        for at in range(0, max(1, len(whole)), _CHUNK):
            data = base64.b64encode(whole[at : at + _CHUNK]).decode()
            self._ask(60, do="write", path=path, data=data, mode="ab" if at else "wb")

    def cut(self) -> None:
        """Take the power away: what is not on the disk is lost."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._line.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def tail(self, lines: int = 60) -> str:
        """Return the last lines of the console."""
        text = self.console.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _ask(self, patience: float, /, **request: Any) -> dict[str, Any]:
        self._line.sendall(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._await(b"\n", patience))
        if "error" in answer:
            raise OSError(answer["error"])
        return answer

    def _await(self, end: bytes, seconds: float) -> bytes:
        """Return what came on the line before ``end``; ends the guest when it does not come."""
        deadline = time.monotonic() + seconds
        while (at := self._rest.find(end)) < 0:
            left = deadline - time.monotonic()
            ready = select.select([self._line], [], [], max(0, left))[0]
            piece = self._line.recv(1 << 20) if ready else b""
            if not piece:
                why = f"said nothing for {seconds:.0f} s" if not ready else "ended"
                self.cut()
                raise HungError(f"{self.flavour.name} {why}; its console ended so:\n{self.tail()}")
            self._rest += piece
        found, self._rest = self._rest[:at], self._rest[at + len(end) :]
        return found

    def crashes(self) -> list[str]:
        """Return the lines of the console that tell of a broken kernel."""
        text = self.console.read_text(errors="replace")
        return [line for line in text.splitlines() if _TRUTHS.search(line)]


def command(
    flavour: Flavour, kernel: Path, root: Path, scratch: Path, data: Path | None, line: int
) -> list[str]:
    """Return the argument vector that starts a guest whose agent's line is descriptor ``line``.

    The guest ends with the process that starts it.
    """
    make = _uml if flavour.kernel.backend == "uml" else _qemu
    return [*BOUND, *make(flavour, kernel, root, scratch, data, line)]


def data_disk(path: Path, size: str = "256M") -> Path:
    """Make an empty file system that guests mount at /srv."""
    words = [
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-E",
        "lazy_itable_init=0",
        "-L",
        "data",
        str(path),
        size,
    ]
    subprocess.run(words, check=True)
    return path


def _uml(
    flavour: Flavour, kernel: Path, root: Path, scratch: Path, data: Path | None, line: int
) -> list[str]:
    return [
        str(kernel / "kernel"), f"uml_dir={scratch}", f"mem={flavour.memory}M",
        f"ubd0={scratch}/root,{root}", f"ubd1r={kernel}/modules.ext4",
        *([f"ubd2={data}"] if data else []),
        f"ssl0=fd:{line}", "con=null", "con0=null,fd:1", "root=/dev/ubda", "rw",
        *_COMMON.split(), "donjon.line=/dev/ttyS0", *flavour.append.split(),
    ]  # fmt: skip


def _qemu(
    flavour: Flavour, kernel: Path, root: Path, _scratch: Path, data: Path | None, line: int
) -> list[str]:
    append = f"console=ttyS0 nokaslr reboot=t mitigations=off random.trust_cpu=on {_COMMON} donjon.line=/dev/ttyS1 {flavour.append}"
    disks = [
        f"file={root},format=raw,snapshot=on",
        f"file={kernel}/modules.ext4,format=raw,readonly=on",
        *([f"file={data},format=raw"] if data else []),
    ]
    return [
        "qemu-system-x86_64", "-M", "pc", "-accel", os.environ.get("VMTEST_ACCEL", "tcg"),
        "-cpu", "Nehalem,-cx16", "-smp", "1", "-m", f"{flavour.memory}M", "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot", "-serial", "stdio",
        "-chardev", f"socket,id=agent,fd={line}", "-serial", "chardev:agent",
        *(w for i, disk in enumerate(disks) for w in ("-drive", f"if=none,id=d{i},{disk}", "-device", f"virtio-blk-pci,drive=d{i}")),
        "-kernel", str(kernel / "kernel"), "-initrd", str(kernel / "initrd"), "-append", append,
    ]  # fmt: skip
