"""A server in a scratch directory, without configuration and jail, looked at from outside."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patience import patient

HERE = Path(__file__).parent
APP = """
import os, sys
try:
    import uwsgi
except ImportError:
    uwsgi = None
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/hold/"):
        os.mkfifo(path[5:])
        open(path[5:]).close()  # until somebody opens it to write
    if path == "/die":
        os._exit(9)
    if path == "/ask-reload":
        uwsgi.reload()
    if path == "/ask-stop":
        uwsgi.stop()
    body = f"{VERSION} {os.getpid()} {os.environ.get('MARK', '')} {uwsgi.worker_id()}".encode()
    end = [("Connection", "close")] if environ["QUERY_STRING"] == "close" else []
    start_response("200 OK", [("Content-Length", str(len(body))), *end])
    return [body]
VERSION = "one"
"""


def pause(seconds: float) -> None:
    """Let ``seconds`` pass between two looks at something that offers no event."""
    select.select([], [], [], seconds)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """Return the first true value of ``condition``; a failed look counts as not yet."""
    seconds = patient(seconds)
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except (OSError, ValueError, IndexError, KeyError) as error:
            last = error
        pause(0.01)
    raise AssertionError(f"no {what} within {seconds} s (last: {last!r})")


def release(held: Path) -> None:
    """Let a request for ``/hold/PATH`` go on."""
    held.open("w").close()
    held.unlink()


def children(pid: int) -> list[int]:
    """Return the living children of ``pid``."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(name))
    return sorted(found)


def alive(pid: int) -> bool:
    """Whether ``pid`` runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Instance:
    """One server. ``words`` become fields of its ServerSpec."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = folder / "app.py"
        self.app.write_text(APP)
        self.journal = folder / "journal"
        self.log = folder / "log"
        self.port = free_port()
        self.conf: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def configure(
        self, *, listeners: Any = None, apps: Any = None, hooks: Any = None, **words: Any
    ) -> None:
        """Write what the server reads at its start and at each reload."""
        rest = {k: words.pop(k) for k in ("routers", "daemons", "touch") if k in words}
        words.setdefault("master", True)
        self.conf = {
            "spec": words,
            "listeners": listeners
            if listeners is not None
            else [[f"127.0.0.1:{self.port}", "http"]],
            "apps": apps if apps is not None else [["wsgi-file", str(self.app)]],
            "hooks": hooks or {},
            "journal": str(self.journal),
            **rest,
        }
        self._write(json.dumps(self.conf))

    def _write(self, text: str) -> None:
        path = self.folder / "conf.json"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)

    def break_configuration(self) -> None:
        """Make the next reload fail."""
        self._write("{")

    def start(
        self,
        *prefix: str,
        emperor: socket.socket | None = None,
        cwd: Path | None = None,
        **words: Any,
    ) -> None:
        """Start it; ``words`` configure it first."""
        if words or not self.conf:
            self.configure(**words)
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        passed = []
        if emperor is not None:
            env["DONJON_TEST_EMPEROR_FD"] = str(emperor.fileno())
            passed = [emperor.fileno()]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, str(HERE / "serve_spec.py"), str(self.folder / "conf.json")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, pass_fds=passed,
                cwd=cwd or self.folder, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The master."""
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        """What it logged."""
        return self.log.read_text()

    def get(self, path: str = "/", port: int | None = None, timeout: float = 5.0) -> str:
        """Ask once and return the body of a 200."""
        with socket.create_connection(("127.0.0.1", port or self.port), patient(timeout)) as sock:
            return ask(sock, path)

    def answer(self, path: str = "/") -> str:
        """Ask until it answers."""
        return str(
            wait_for(lambda: self.get(path), f"answer; the log says {self.text_or_nothing()}")
        )

    def text_or_nothing(self) -> str:
        """What it logged so far, for messages."""
        return self.log.read_text() if self.log.exists() else ""

    def phases(self) -> list[str]:
        """Which moments came, in order."""
        if not self.journal.exists():
            return []
        return [line.split()[0] for line in self.journal.read_text().splitlines()]

    def send(self, number: int) -> None:
        """Signal the master."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 10.0) -> int:
        """Wait for its end and return the exit status."""
        assert self.process is not None
        return self.process.wait(patient(seconds))

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it and return the exit status."""
        self.send(number)
        return self.wait()

    def clean(self) -> None:
        """End what still runs of its session; by pid."""
        if self.process is None:
            return
        left = [self.pid, *session(self.pid)]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(patient(5))
        wait_for(lambda: not session(self.pid), "end of all processes")


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(name))
    return found


def ask(sock: socket.socket, path: str = "/") -> str:
    """Send one request on a connected socket, read to the end, return the body of a 200."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] + b" ":
        raise ValueError(f"answer {data[:200]!r}")
    return body.decode()


def free_port() -> int:
    """Return a port nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def read_all(path: Path) -> bytes:
    """Connect to a unix socket and read to its end."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patient(5))
        sock.connect(str(path))
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
        return data


def statistics(path: Path) -> dict[str, Any]:
    """Read the document of a statistics server."""
    found: dict[str, Any] = json.loads(read_all(path))
    return found
