"""emperor-stats: one JSON document a connection, keys and types of the original (uwsgi-facts
1.9)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.config.world import COMPATIBLE_VERSION
from donjon.emperor import ondemand
from donjon.emperor.roster import Vassal
from donjon.emperor.throttle import Blame
from donjon.errors import DonjonError
from donjon.jail import ksm

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor

HTTP_HEAD = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\n"
    b"Content-Type: application/json\r\n\r\n"
)
CLIENTS_MAX = 64
PATIENCE = 5.0
"""Seconds that a reader has to take its document."""


def document(emperor: Emperor) -> dict[str, Any]:
    """Return the statistics. Times are whole seconds since the epoch, 0 for never."""
    court, merging = emperor.court, ksm.status()
    return {
        "version": COMPATIBLE_VERSION,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "cwd": os.getcwd(),
        "emperor": list(emperor.spec.sources),
        "emperor_tyrant": int(emperor.spec.tyrant),
        "throttle_level": 0,
        "ksm": merging.to_json() if merging else None,
        "vassals": [
            {**vassal_row(vassal), **emperor.resources.facts(vassal)}
            for vassal in court.vassals.values()
        ],
        "blacklist": [blame_row(name, blame) for name, blame in court.blacklist.items()],
    }


def vassal_row(vassal: Vassal) -> dict[str, Any]:
    """One vassal; the keys after ``respawns`` are ours."""
    marks = vassal.marks
    return {
        "id": vassal.name,
        "pid": vassal.pid,
        "born": vassal.born,
        "last_mod": vassal.found.mtime_ns // 1_000_000_000,
        "last_heartbeat": marks.last_heartbeat,
        "loyal": int(marks.loyal),
        "ready": int(marks.ready),
        "accepting": int(marks.accepting),
        "last_loyal": marks.last_loyal,
        "last_ready": marks.last_ready,
        "last_accepting": marks.last_accepting,
        "first_run": vassal.first_run,
        "last_run": vassal.last_run,
        "cursed": vassal.cursed,
        "zerg": vassal.zerg,
        "on_demand": vassal.on_demand,
        "uid": vassal.found.uid,
        "gid": vassal.found.gid,
        "monitor": vassal.source.text,
        "respawns": vassal.respawns,
        "state": vassal.state.value,
        "error": vassal.error,
    }


def blame_row(name: str, blame: Blame) -> dict[str, Any]:
    """One entry of the blacklist; the level is in milliseconds."""
    return {
        "id": name,
        "throttle_level": int(blame.level * 1000),
        "attempt": blame.attempt,
        "first_attempt": int(blame.first),
        "last_attempt": int(blame.last),
    }


class StatsServer:
    """Serves the document without ever waiting for a client."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self.address = emperor.spec.stats
        self.listener: socket.socket | None = None
        self._clients: dict[socket.socket, bytes] = {}

    def open(self) -> None:
        """Bind the address, if one was asked for."""
        if not self.address:
            return
        try:
            self.listener = ondemand.bind(self.address, replace=True)
        except DonjonError as error:
            log.write(f"[emperor] no statistics: {error}")
            return
        self.listener.settimeout(0)
        self.emperor.conduct.note_file(self.address)
        self.emperor.reactor.watch(self.listener.fileno(), lambda _events: self._accept())

    def close(self) -> None:
        """Stop answering; a second time does nothing."""
        for client in list(self._clients):
            self._drop(client)
        if self.listener is not None and self.address:
            self.emperor.reactor.forget(self.listener.fileno())
            self.listener.close()
            self.listener = None
            ondemand.unbind(self.address)
            self.emperor.conduct.unnote_file(self.address)

    def _accept(self) -> None:
        try:
            client, _address = self.listener.accept() if self.listener else (None, None)
        except OSError:
            return  # gone before we came, or out of descriptors
        if client is None:
            return
        if len(self._clients) >= CLIENTS_MAX:
            client.close()
            return
        client.settimeout(0)
        self._clients[client] = b""
        self.emperor.reactor.after(PATIENCE, lambda: self._drop(client))
        if self.emperor.spec.stats_http:
            self.emperor.reactor.watch(client.fileno(), lambda _events: self._request(client))
        else:
            self.emperor.reactor.watch(
                client.fileno(), lambda _events: self._write(client), select.EPOLLOUT
            )
            self._answer(client, b"")

    def _request(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # any request gets the document
            client.recv(65536)
        self.emperor.reactor.listen_for(client.fileno(), select.EPOLLOUT)
        self.emperor.reactor.forget(client.fileno())
        self.emperor.reactor.watch(
            client.fileno(), lambda _events: self._write(client), select.EPOLLOUT
        )
        self._answer(client, HTTP_HEAD)

    def _answer(self, client: socket.socket, head: bytes) -> None:
        self._clients[client] = head + json.dumps(document(self.emperor)).encode()
        self._write(client)

    def _write(self, client: socket.socket) -> None:
        try:
            sent = client.send(self._clients[client])
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        self._clients[client] = self._clients[client][sent:]
        if not self._clients[client]:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        if self._clients.pop(client, None) is not None:
            self.emperor.reactor.forget(client.fileno())
            client.close()
