"""An Emperor with vassals in a scratch directory, driven from outside as an administrator would."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patience import patient

DONJON = [sys.executable, "-m", "donjon"]

APP = """
import json, os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    facts = {"hostname": os.uname().nodename, "cwd": os.getcwd(), "groups": sorted(os.getgroups()),
             "pid": os.getpid(), "root": sorted(os.listdir("/")), "environ": dict(os.environ),
             "processes": sorted(int(n) for n in os.listdir("/proc") if n.isdigit())}
    return [json.dumps(facts).encode()]
"""


def pause(seconds: float) -> None:
    """Let ``seconds`` pass between two looks at something that offers no event."""
    select.select([], [], [], seconds)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Return the first true value of ``condition``; a failed look counts as not yet."""
    seconds = patient(seconds)
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            value = condition()
        except (OSError, ValueError, LookupError, StopIteration) as error:
            last, value = error, None
        if value:
            return value
        pause(0.02)
    raise AssertionError(f"no {what} within {seconds} s (last: {last!r})")


def replace_text(path: Path, text: str) -> None:
    """Put TEXT in place of what a file says, in one step: who watches it reads no half of it."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(path)


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status as a mapping."""
    pairs = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {key: value.strip() for key, value in pairs}


def own_namespaces(pid: int) -> list[str]:
    """Name the namespaces in which ``pid`` is and this process is not."""
    names = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    return [
        n for n in names if os.readlink(f"/proc/{pid}/ns/{n}") != os.readlink(f"/proc/self/ns/{n}")
    ]


def children(pid: int) -> list[int]:
    """Return the direct children of ``pid``."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Return all processes below ``pid``; one that ends during the look has nothing below it."""
    found = []
    for child in children(pid):
        found.append(child)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += descendants(child)
    return found


def held(pid: int) -> dict[int, str]:
    """Return the open descriptors of ``pid`` and what each is; one closed during the look is left out."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def alive(pid: int) -> bool:
    """Whether ``pid`` runs (a zombie does not)."""
    try:
        return status(pid)["State"][0] not in "ZX"
    except OSError:
        return False


def receive(path: Path | str, request: bytes = b"", seconds: float = 5.0) -> bytes:
    """Connect to a unix socket, send ``request``, read to the end; ``seconds`` bound each wait."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(patient(seconds))
        client.connect(str(path))
        if request:
            client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


def ask(path: Path | str, target: str = "/") -> dict[str, Any]:
    """GET ``target`` over a unix socket and return the application's JSON."""
    answer = receive(path, f"GET {target} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    facts: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return facts


class Host:
    """A scratch directory with an application, and an Emperor over its ``vassals`` folder."""

    def __init__(self, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        for name in ("vassals", "sockets"):
            (place / name).mkdir(parents=True)
        place.chmod(0o755)
        (place / "sockets").chmod(0o777)
        (place / "app.py").write_text(APP)
        self.place = place
        self.emperor: subprocess.Popen[bytes] | None = None

    def vassal(self, name: str, text: str) -> Path:
        """Write (atomically) the vassal NAME.ini; its HTTP socket is ``sock(NAME)``."""
        path = self.place / "vassals" / f"{name}.ini"
        temporary = self.place / f"{name}.tmp"
        temporary.write_text(
            f"[uwsgi]\nchdir = {self.place}\nhttp-socket = {self.sock(name)}\nchmod-socket = 666\n"
            f"wsgi-file = app.py\nmaster = true\n{text}"
        )
        temporary.rename(path)
        return path

    def sock(self, name: str) -> Path:
        """Where vassal NAME serves HTTP."""
        return self.place / "sockets" / f"{name}.sock"

    def start(self, lines: str = "", program: list[str] | None = None) -> None:
        """Start the Emperor with these lines beside ``emperor`` and ``emperor-stats``."""
        (self.place / "emperor.ini").write_text(
            f"[uwsgi]\nemperor = {self.place}/vassals\nemperor-stats = {self.place}/stats\n{lines}"
        )
        with (self.place / "log").open("wb") as log:
            self.emperor = subprocess.Popen(
                [*(program or DONJON), "--ini", str(self.place / "emperor.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The Emperor's pid."""
        assert self.emperor is not None
        return self.emperor.pid

    def log(self) -> str:
        """Everything the Emperor and its vassals printed."""
        return (self.place / "log").read_text(errors="replace")

    def stats(self) -> dict[str, Any]:
        """The Emperor's statistics."""
        document: dict[str, Any] = json.loads(receive(self.place / "stats"))
        return document

    def answer(self, name: str, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until vassal NAME answers, and return what it says."""
        try:
            facts: dict[str, Any] = wait_for(lambda: ask(self.sock(name)), "answer", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; log:\n{self.log()[-3000:]}") from None
        return facts

    def row(self, name: str) -> dict[str, Any]:
        """What the Emperor's statistics say of vassal NAME."""
        rows: list[dict[str, Any]] = self.stats()["vassals"]
        return next(row for row in rows if row["id"] == f"{name}.ini")

    def master(self, name: str) -> int:
        """The pid of vassal NAME as the Emperor tells it."""
        return int(self.row(name)["pid"])

    def close_emperor(self) -> None:
        """End the Emperor (SIGINT) and require a clean end, and that it made no mistake."""
        if self.emperor is not None and self.emperor.poll() is None:
            self.emperor.send_signal(signal.SIGINT)
            assert self.emperor.wait(patient(40)) == 0, self.log()[-3000:]
            assert "internal error" not in self.log(), self.log()[-3000:]

    def close(self) -> None:
        """End the Emperor and remove everything."""
        try:
            self.close_emperor()
        finally:
            if self.emperor is not None and self.emperor.poll() is None:
                self.emperor.kill()
                self.emperor.wait()
            shutil.rmtree(self.place, ignore_errors=True)
