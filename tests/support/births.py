"""Vassals that are born plain, and what can be seen of them from outside."""

import contextlib
import itertools
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from hosting import Host, children, held, own_namespaces, receive, status, wait_for

PUPPET = """
import json
from wsgiref.util import request_uri
def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    scope = {"result": None}
    exec(environ["wsgi.input"].read(length), scope)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(scope["result"]).encode()]
"""
QUIET_FAULTS = 150
NAMESPACES = "emperor-use-clone = ipc,pid,uts,fs\n"


class Births(Host):
    """A host whose application does what a request says."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        (place / "app.py").write_text(PUPPET)

    def pair(self, name: str, text: str) -> tuple[str, str]:
        """Write the same vassal twice: plain, and with an option that is not."""
        self.vassal(f"{name}-plain", text)
        self.vassal(f"{name}-other", f"{text}pidfile = {self.place}/sockets/{name}.pid\n")
        return f"{name}-plain", f"{name}-other"

    def write(self, name: str, text: str) -> None:
        """Write a vassal of which every line is given."""
        temporary = self.place / f"{name}.tmp"
        temporary.write_text(f"[uwsgi]\n{text}")
        temporary.rename(self.place / "vassals" / f"{name}.ini")

    def do(self, name: str, code: str = "") -> object:
        """Have the application of vassal NAME execute CODE; return its ``result``."""
        body = code.encode()
        head = f"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        answer = receive(self.sock(name), head + body)
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise ValueError(answer)
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def born(self, name: str) -> int:
        """Wait until vassal NAME answers; return the pid of its master."""
        try:
            wait_for(lambda: self.do(name) is None, f"answer of {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-3000:]}") from None
        return self.known(name)

    def known(self, name: str) -> int:
        """Wait until the Emperor knows the pid of vassal NAME, which may serve before."""
        return int(wait_for(lambda: max(self.master(name), 0), f"pid of {name}"))

    def said(self, text: str, count: int = 1) -> None:
        """Wait until the log has TEXT so often."""
        try:
            wait_for(lambda: self.log().count(text) >= count, f"{text!r} in the log")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-3000:]}") from None

    def error(self, name: str) -> str:
        """Wait until the Emperor knows why vassal NAME does not run."""
        rows = lambda: self.stats()["vassals"]  # noqa: E731
        return str(
            wait_for(lambda: next(r["error"] for r in rows() if r["id"] == f"{name}.ini"), "error")
        )

    def spawner(self) -> int:
        """The process from which vassals are born."""
        below = lambda: [pid for pid in children(self.pid) if comm(pid) == "donjon spawner"]  # noqa: E731
        return int(wait_for(below, "spawner")[0])


def vassal(host: Births, name: str, text: str = "") -> int:
    """Write a vassal with a uid of its own and wait until it answers; return its master's pid."""
    host.vassal(name, f"uid = 20001\n{text}")
    return host.born(name)


class Gate:
    """What an application that executes ``code`` waits for, until the gate is opened for good."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.code = f"open({str(path)!r}).read()\n"
        self._end = -1
        os.mkfifo(path)
        path.chmod(0o644)

    def reached(self) -> None:
        """Wait until somebody waits."""
        enter = lambda: os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)  # noqa: E731
        self._end = wait_for(enter, "somebody at the gate")

    def open(self) -> None:
        """Let go who waits, and nobody wait any more."""
        free = self.path.with_suffix(".free")
        free.touch()
        free.rename(self.path)
        os.close(self._end)


_number = itertools.count()


@contextlib.contextmanager
def hosts() -> Iterator[Callable[..., Births]]:
    """Give a function that makes hosts; with lines for the Emperor it starts one at once."""
    made: list[Births] = []

    def make(lines: str | None = None) -> Births:
        made.append(Births(Path(f"/tmp/donjon-births-{os.getpid()}-{next(_number)}")))
        if lines is not None:
            made[-1].start(lines)
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.close()


def comm(pid: int) -> str:
    """What ps calls a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def worker(master: int) -> int:
    """The one worker of a master."""
    (pid,) = children(master)
    return pid


def is_quiet(pid: int) -> bool:
    """Whether a master never ran an interpreter: it wrote to hardly any page."""
    faults = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])
    return faults < QUIET_FAULTS


def private_memory(pid: int) -> int:
    """KiB that are a process's own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+)", text, re.MULTILINE))


def descriptors(pid: int) -> list[str]:
    """The kinds of what a process holds open."""
    return sorted(re.sub(r":?\[\d+\]$", "", link) for link in held(pid).values())


STATUS = (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
    "Seccomp", "Umask", "Threads", "SigBlk",
)  # fmt: skip


def facts(pid: int, name: str) -> dict[str, object]:
    """What /proc says of a process that must not depend on how it was born."""
    said = status(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    found: dict[str, object] = {key: said[key] for key in STATUS}
    found |= {f"link {key}": os.readlink(f"/proc/{pid}/{key}") for key in ("cwd", "root", "exe")}
    for key in ("cmdline", "environ", "limits", "oom_score_adj", "comm", "uid_map", "cgroup"):
        found[key] = Path(f"/proc/{pid}/{key}").read_bytes().replace(name.encode(), b"NAME")
    found["namespaces"] = own_namespaces(pid)
    found["pids"] = len(said["NSpid"].split())
    found["nice"] = fields[16]
    found["owner"] = os.stat(f"/proc/{pid}/fd").st_uid
    found["shared mounts"] = Path(f"/proc/{pid}/mountinfo").read_text().count(" shared:")
    found["leads its session"] = fields[3] == str(pid)
    return found


def worker_facts(pid: int, name: str) -> dict[str, object]:
    """The same of a worker, whose signals and descriptors must not either."""
    said = status(pid)
    signals = {key: said[key] for key in ("SigIgn", "SigCgt")}
    return facts(pid, name) | signals | {"descriptors": descriptors(pid)}


def send_packets(host: Births, name: str, packets: list[bytes]) -> object:
    """Have the application write PACKETS into the pipe to its master, which it looks for."""
    code = f"""
import os, stat, fcntl
for number in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
        writes = fcntl.fcntl(number, fcntl.F_GETFL) & 3 == os.O_WRONLY
    except OSError:
        continue
    if number > 2 and is_pipe and writes and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_DIRECT:
        for packet in {packets!r}:
            os.write(number, packet)
        result = number
"""
    return host.do(name, code)


def listens(address: tuple[str, int]) -> bool:
    """Whether somebody accepts at an internet address."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0
