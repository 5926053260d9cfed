"""The statistics server: one JSON document to whoever connects, then the end (uwsgi-facts 7.4,
STA).

Keys are those that uwsgitop and collectors read. The document is made when somebody asks; a client
that does not read it is dropped, for the master waits for nobody.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.origin import DEFAULT
from donjon.server.board import Core, total
from donjon.server.crew import Crew, Slot
from donjon.server.reception import Reception
from donjon.server.sockets import Bound
from donjon.server.spec import Listener, ServerSpec
from donjon.server.uwsgi_module import VERSION

if TYPE_CHECKING:
    from donjon.server.master import Master
    from donjon.server.parts import Part

TCP_INFO_UNACKED = 24
"""Offset of tcpi_unacked in struct tcp_info (linux/tcp.h); of a listener, who waits."""

TCP_INFO_SACKED = 28
"""Offset of tcpi_sacked: for a listener, the length of the queue."""


class StatsServer:
    """The listener of statistics and who is told what."""

    def __init__(self, master: Master, parts: list[Part]) -> None:
        """Hold nothing yet; ``set`` listens."""
        self._master = master
        self._parts = parts
        self._reception = Reception(master.loop, self._answer)

    def set(self, spec: ServerSpec) -> None:
        """Listen where ``spec`` says. A failure is logged: statistics are no reason to be down."""
        listener = None
        if spec.stats is not None:
            listener = Listener(spec.stats, "stats", spec.origins.get("stats", DEFAULT))
        if self._reception.move(listener, spec):
            number = self._reception.fileno()
            log.write(f"*** Stats server enabled on {spec.stats} fd: {number} ***")

    def _answer(self, client: socket.socket) -> None:
        body = self._body()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(body) + 4096)
        client.sendall(body)

    def _body(self) -> bytes:
        spec = self._master.spec
        text = render(document(self._master, self._parts), minified=spec.stats_minified)
        if spec.stats_http:
            head = "HTTP/1.0 200 OK\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\n"
            text = f"{head}Content-Type: application/json\r\n\r\n{text}"
        return text.encode()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._reception.close()


def render(value: dict[str, Any], *, minified: bool) -> str:
    """Write the document with tabs, or in one line."""
    if minified:
        return json.dumps(value, separators=(",", ":"))
    return json.dumps(value, indent="\t") + "\n"


def document(master: Master, parts: list[Part]) -> dict[str, Any]:
    """Describe the instance now."""
    crew = master.current
    sockets = [_socket(bound, master.spec) for bound in crew.served]
    found: dict[str, Any] = {
        "version": VERSION,
        "listen_queue": sum(each["queue"] for each in sockets),
        "listen_queue_errors": 0,
        "signal_queue": 0,
        "load": sum(each["queue"] for each in sockets),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "cwd": _cwd(),
    }
    daemons = [_daemon(part) for part in parts if part.recipe.group]
    if daemons:
        found["daemons"] = daemons
    found["locks"] = []
    found["sockets"] = sockets
    found["workers"] = [_worker(master, crew, slot) for slot in crew.slots.values()]
    return found


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _daemon(part: Part) -> dict[str, Any]:
    command = part.recipe.name.removeprefix('daemon "').removesuffix('"')
    return {
        "cmd": command,
        "pid": part.child.pid if part.child else 0,
        "respawns": max(part.respawns, 0),
    }


def _socket(bound: Bound, spec: ServerSpec) -> dict[str, Any]:
    return {
        "name": bound.name(),
        "proto": bound.protocol,
        "queue": waiting(bound.sock),
        "max_queue": spec.listen,
        "shared": int(bound.listener.address.startswith("=")),
        "can_offload": 0,
    }


def waiting(sock: socket.SocketType) -> int:
    """Return how many clients wait to be accepted; 0 for unix sockets, the kernel is silent."""
    if sock.family == socket.AF_UNIX:
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", info, TCP_INFO_UNACKED)[0])


def _worker(master: Master, crew: Crew, slot: Slot) -> dict[str, Any]:
    worker = slot.worker
    cores = crew.board.cores(slot.number, worker.bank) if worker else []
    now, ever = total(cores), crew.counters(slot)
    rss, vsz = memory(worker.child.pid) if worker else (0, 0)
    return {
        "id": slot.number,
        "pid": worker.child.pid if worker else 0,
        "accepting": now.accepting,
        "requests": ever.requests,
        "delta_requests": now.requests,
        "exceptions": ever.exceptions,
        "harakiri_count": slot.harakiris,
        "signals": 0,
        "signal_queue": 0,
        "status": _status(master, slot, now),
        "rss": rss,
        "vsz": vsz,
        "running_time": ever.running_time,
        "last_spawn": slot.last_spawn,
        "respawn_count": slot.respawns,
        "tx": ever.tx,
        "avg_rt": now.avg_rt,
        "apps": _apps(crew, now),
        "cores": [_core(number, core) for number, core in enumerate(cores)],
    }


def _status(master: Master, slot: Slot, now: Core) -> str:
    if slot.worker is None:
        return "cheap"
    if now.busy_since:
        return "busy"
    return "pause" if master.paused else "idle"


def _apps(crew: Crew, now: Core) -> list[dict[str, Any]]:
    served = [each for each in crew.spec.applications if each.kind not in {"pyrun", "eval"}]
    return [
        {
            "id": number,
            "modifier1": 0,
            "mountpoint": wanted.mountpoint,
            "startup_time": 0,
            "requests": now.requests if number == 0 else 0,
            "exceptions": now.exceptions if number == 0 else 0,
            "chdir": "",
        }
        for number, wanted in enumerate(served)
    ]


def _core(number: int, core: Core) -> dict[str, Any]:
    return {
        "id": number,
        "requests": core.requests,
        "static_requests": 0,
        "routed_requests": 0,
        "offloaded_requests": 0,
        "write_errors": core.write_errors,
        "read_errors": core.read_errors,
        "in_request": int(core.busy_since > 0),
        "vars": [],
        "req_info": {},
    }


def memory(pid: int) -> tuple[int, int]:
    """Return resident and virtual size in bytes, zeros where /proc does not say."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            pages = file.read().split()
        size = os.sysconf("SC_PAGE_SIZE")
        return int(pages[1]) * size, int(pages[0]) * size
    except (OSError, ValueError, IndexError):
        return 0, 0
