"""The control socket: how an operator asks and tells a running Emperor (``donjon ls show reload
…``).

A unix socket for root alone (mode 0600), and since a descriptor can be passed on, each client is
asked who it is as well (SO_PEERCRED, unix(7)): uid 0 or the Emperor's. One JSON object a line, one
answer a line; ``logs`` with ``follow`` goes on. Clients cannot hold the Emperor up: nothing
blocks, what they do not read is bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.emperor import doorway, stats
from donjon.emperor.client import DEFAULT_SOCKET
from donjon.emperor.roster import Vassal
from donjon.emperor.vassal import Event, State
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.records import dataclass, field

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor

LINE_MAX = 4096
OUTBOX_MAX = 4 << 20
CLIENTS_MAX = 64
LOG_LINES = 100
_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid

JSON = dict[str, Any]
Later = Callable[[Callable[[JSON], None]], None]
"""An answer that comes by and by: it is given who takes it."""


class RequestError(Exception):
    """What was asked cannot be done; ``hint`` says what can."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


@dataclass(slots=True)
class Client:
    """One connection."""

    link: socket.socket
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    follows: Vassal | None = None
    follower: Callable[[str], None] | None = None
    waits: bool = False  # for an answer, and with it the requests that came after it
    given: Fd | None = None  # goes with the next answer


class ControlServer:
    """Answers operators."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        networks = emperor.networks
        self.path = emperor.spec.control or DEFAULT_SOCKET
        self.listener: socket.socket | None = None
        self._clients: dict[int, Client] = {}
        self._verbs: dict[str, Callable[[JSON], JSON | Later]] = {
            "ls": self._ls,
            "show": self._show,
            "stats": lambda _request: {"stats": stats.document(self.emperor)},
            "reload": lambda request: self._tell(request, Event.RELOAD, "is told to reload"),
            "stop": lambda request: self._tell(request, Event.STOP, "is told to stop"),
            "start": self._start,
            "logs": self._logs,
            "plans": lambda _request: self.emperor.resources.overview(),
            "net": self._net,
            "enter": self._enter,
            "left": self._left,
            "desk": self._desk,
        }
        self._holders: dict[str, Callable[[Client, JSON], Later]] = {
            "capture": self._capture,
            "captured": lambda client, _request: partial(networks.end_capture, client),
        }

    def open(self) -> None:
        """Listen. An Emperor without a control socket rules as well: a failure is a line in the
        log."""
        if self.emperor.upper is not None and not self.emperor.spec.control:
            return  # a vassal's own Emperor: the host's /run is not its place
        try:
            self.listener = self._bind()
        except OSError as error:
            if self.emperor.spec.control:
                log.write(f"[emperor] no control socket on {self.path}: {error.strerror}")
            return
        self.listener.settimeout(0)
        self.emperor.conduct.note_file(self.path)
        self.emperor.reactor.watch(self.listener.fileno(), lambda _events: self._accept())

    def close(self) -> None:
        """Hang up on everyone and remove the socket."""
        for client in list(self._clients.values()):
            self._drop(client)
        if self.listener is not None:
            self.emperor.reactor.forget(self.listener.fileno())
            self.listener.close()
            self.listener = None
            with contextlib.suppress(OSError):  # somebody else removed it
                os.unlink(self.path)
            self.emperor.conduct.unnote_file(self.path)

    def _bind(self) -> socket.socket:
        directory = os.path.dirname(os.path.abspath(self.path))
        os.makedirs(directory, mode=0o755, exist_ok=True)
        if _answers(self.path):
            if self.emperor.spec.control:
                raise FileExistsError(17, "another Emperor listens there")
            self.path = f"{directory}/control-{os.getpid()}.sock"
        temporary = f"{self.path}.{os.getpid()}"  # nobody finds it before it listens
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            listener.bind(temporary)
            listener.listen(16)
            os.rename(temporary, self.path)
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(old)
        return listener

    def _accept(self) -> None:
        if self.listener is None:
            return
        try:
            link, _address = self.listener.accept()
        except OSError:
            return  # gone before we came, or out of descriptors
        raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _gid = _UCRED.unpack(raw)
        if uid not in (0, os.geteuid()) or len(self._clients) >= CLIENTS_MAX:
            log.write(f"[emperor] refused a control connection of uid {uid} (pid {pid})")
            link.close()
            return
        link.settimeout(0)
        client = Client(link)
        self._clients[link.fileno()] = client
        self.emperor.reactor.watch(link.fileno(), lambda events: self._serve(client, events))

    def _serve(self, client: Client, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush(client)
        if not events & ~select.EPOLLOUT or client.link.fileno() < 0:
            return
        try:
            data = client.link.recv(LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.inbox += data
        unread = client.waits or b"\n" not in client.inbox
        if not data or (len(client.inbox) > LINE_MAX and unread):
            self._drop(client)
            return
        self._answer_all(client)

    def _answer_all(self, client: Client) -> None:
        while b"\n" in client.inbox and client.link.fileno() >= 0 and not client.waits:
            line, _separator, rest = bytes(client.inbox).partition(b"\n")
            client.inbox[:] = rest
            answer = self._answer(client, line)
            if callable(answer):
                self._await(client, answer)
            else:
                self._send(client, answer)

    def _await(self, client: Client, later: Later) -> None:
        client.waits = at_once = True

        def take(answer: JSON) -> None:
            client.waits = False
            if client.link.fileno() >= 0:
                self._send(client, {"ok": True, **answer})
                if not at_once:
                    self._answer_all(client)

        later(take)
        at_once = False

    def _answer(self, client: Client, line: bytes) -> JSON | Later:
        try:
            request = json.loads(line)
            name = str(request["verb"])
            if name in self._holders:
                return self._holders[name](client, request)
            found = self._verbs.get(name, _unknown)(request)
            if callable(found):
                return found
            answer = {"ok": True, **found}
            if request["verb"] == "logs" and request.get("follow"):
                self._follow(client, self._find(request))
        except RequestError as error:
            return {"ok": False, "error": str(error), "hint": error.hint}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return {"ok": False, "error": "not a request", "hint": ""}
        return answer

    def _send(self, client: Client, answer: JSON) -> None:
        client.outbox += json.dumps(answer).encode() + b"\n"
        if len(client.outbox) > OUTBOX_MAX:
            self._drop(client)
        else:
            self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            sent = self._give(client) if client.given else 0
            sent = sent or (client.link.send(client.outbox) if client.outbox else 0)
            del client.outbox[:sent]
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        wanted = select.EPOLLIN | (select.EPOLLOUT if client.outbox else 0)
        self.emperor.reactor.listen_for(client.link.fileno(), wanted)

    def _drop(self, client: Client) -> None:
        fd = client.link.fileno()
        if self._clients.pop(fd, None) is None:
            return
        if client.follows is not None and client.follower is not None:
            client.follows.log.followers.remove(client.follower)
        self.emperor.networks.end_capture(client, lambda _counts: None)
        if client.given is not None:
            client.given.close()
        self.emperor.reactor.forget(fd)
        client.link.close()

    def _find(self, request: JSON) -> Vassal:
        name = str(request.get("name", ""))
        vassals = self.emperor.court.vassals
        if name in vassals:
            return vassals[name]
        matches = [one for one in vassals.values() if _short(one.name) == name]
        if len(matches) == 1:
            return matches[0]
        known = ", ".join(sorted(vassals)[:10]) or "none"
        raise RequestError(f"no vassal {name}", hint=f"known are: {known}")

    def _net(self, request: JSON) -> JSON | Later:
        networks = self.emperor.networks
        return networks.ask_overview if request.get("rules") is True else networks.overview()

    def _ls(self, _request: JSON) -> JSON:
        return {"vassals": [self._row(vassal) for vassal in self.emperor.court.vassals.values()]}

    def _row(self, vassal: Vassal) -> JSON:
        row = stats.vassal_row(vassal)
        row.update(self.emperor.resources.facts(vassal))
        row["name"] = row.pop("id")
        row["source"] = row.pop("monitor")
        row["path"] = vassal.found.path
        row["next_start"] = vassal.starts_at if vassal.state is State.WAITING else 0
        return row

    def _show(self, request: JSON) -> JSON:
        vassal = self._find(request)
        row = self._row(vassal)
        reading = vassal.process.reading if vassal.process else vassal.reading
        if reading is not None:
            server = reading.launch.server
            row["argv"] = list(reading.argv)
            row["entries"] = [
                {"key": entry.key, "value": entry.value, "origin": str(entry.origin)}
                for entry in reading.launch.entries
            ]
            row["plan"] = list(reading.plan)
            row["clone"] = sorted(reading.clone_words)
            row["sockets"] = [
                f"{one.protocol} {one.address}"
                for one in (*server.listeners, *server.http_routers)
            ]
        row["resources"] = self.emperor.resources.row(vassal)
        row["network"] = self.emperor.networks.row(vassal.name)
        row["log"] = vassal.log.tail(20)
        return {"vassal": row}

    def _tell(self, request: JSON, event: Event, words: str) -> JSON:
        vassal = self._find(request)
        if self.emperor.ending:
            raise RequestError("the Emperor is ending")
        self.emperor.happen(vassal, event)
        return {"done": f"{vassal.name} {words}", "state": vassal.state.value}

    def _start(self, request: JSON) -> JSON:
        vassal = self._find(request)
        if vassal.process is not None and vassal.state is State.RUNNING:
            raise RequestError(f"{vassal.name} runs already", hint="donjon reload")
        return self._tell(request, Event.START, "is started")

    def _enter(self, request: JSON) -> JSON:
        vassal = self._find(request)
        try:
            groups = self.emperor.nursery.groups
            found = doorway.describe(vassal, lambda: groups.shells(vassal.name))
        except DonjonError as error:
            raise RequestError(str(error)) from error
        self.emperor.resources.frost.thaw(vassal)  # who comes would stand still with it
        log.write(f"[emperor] the operator enters the jail of {vassal.name}")
        return {"door": found}

    def _left(self, request: JSON) -> JSON:
        vassal = self._find(request)
        seconds, status = float(request["seconds"]), int(request["status"])
        log.write(
            f"[emperor] the operator left the jail of {vassal.name} after {seconds} s,"
            f" exit status {status}"
        )
        return {}

    def _desk(self, request: JSON) -> JSON:
        """Have the operators' door of a vassal's terminals."""
        vassal = self._find(request)
        if os.geteuid() != 0 or self.emperor.ending:
            raise RequestError("only an Emperor that is root, and not ending, can enter a jail")
        try:
            return {"path": self.emperor.terminals.desk(vassal, self.path)}
        except OSError as error:
            reason = error.strerror or str(error)  # a path that is too long has no number
            raise RequestError(f"cannot open a door of {vassal.name}: {reason}") from error

    def _logs(self, request: JSON) -> JSON:
        count = request.get("lines", LOG_LINES)
        if not isinstance(count, int):
            raise RequestError("lines must be a number")
        return {"lines": self._find(request).log.tail(count)}

    def _capture(self, client: Client, request: JSON) -> Later:
        name = self._find(request).name

        def begin(done: Callable[[JSON], None]) -> None:
            def begun(found: Fd | DonjonError) -> None:
                if isinstance(found, DonjonError):
                    done({"ok": False, "error": str(found), "hint": ""})
                elif client.link.fileno() < 0:
                    found.close()  # it hung up, and its capture has ended with that
                else:
                    client.given = found
                    done({})

            self.emperor.networks.capture(name, client, request, begun)

        return begin

    @staticmethod
    def _give(client: Client) -> int:
        """Send an answer and the descriptor that goes with it."""
        assert client.given is not None
        sent = socket.send_fds(client.link, [client.outbox], [client.given.fileno()])
        client.given.close()
        client.given = None
        return sent

    def _follow(self, client: Client, vassal: Vassal) -> None:
        if client.follows is None:
            client.follows = vassal
            client.follower = lambda line: self._send(client, {"line": line})
            vassal.log.followers.append(client.follower)


def _short(name: str) -> str:
    """``shop`` for ``/etc/vassals/shop.ini``."""
    return name.rpartition("/")[2].rpartition(".")[0]


def _unknown(request: JSON) -> JSON:
    raise RequestError(f"unknown verb {request['verb']}")


def _answers(path: str) -> bool:
    """Whether somebody listens on ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
