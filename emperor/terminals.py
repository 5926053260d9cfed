"""Terminals in vassals' jails, served from outside: the doors, and the process that holds them.

A door is a socket that is made here, ``DIR/NAME.socket`` for who may have terminals of a vassal,
and one beside the control socket for operators (``donjon attach --keep``). It is lent to the
porter, which is started with the first one, and started again when it dies; the door stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import stat
import sys
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from donjon import log, syscalls
from donjon.emperor import doorway, mercy, orders
from donjon.emperor.roster import Vassal
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.fork_pty.spec import PEER, Auth
from donjon.records import dataclass, replace

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor
    from donjon.emperor.outside import Service
    from donjon.emperor.reactor import Timer

CHANNEL = 3  # porter.CHANNEL
PAUSE = 1.0
"""Seconds between two porters."""

MERCY = 6.0
"""Seconds that a porter has to end."""

PATIENCE = 30.0
"""Seconds without reading after which a porter is none. One that begins has much to read: a socket
holds the words of some hundred doors."""

BACKLOG = 64
DOOR, DESK = "door", "desk"
"""Kinds: of customers, and of operators."""


@dataclass(slots=True)
class Open:
    """A door that is open."""

    service: Service
    path: str
    listener: socket.socket


class Terminals:
    """The doors of one Emperor."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self.spec = emperor.spec
        self._open: dict[str, Open] = {}
        self._channel: socket.socket | None = None
        self._porter: Fd | None = None
        self._pid = -1
        self._unsent: deque[tuple[tuple[Any, ...], socket.socket | None]] = deque()
        self._patience: Timer | None = None  # runs while the porter takes nothing
        self._closed = False

    def begin(self) -> None:
        """Have the directories that were asked for. Raises DonjonError."""
        spec = self.spec
        if spec.terminals is not None:
            if os.geteuid() != 0:
                reason = "who else could enter a jail"
                raise DonjonError("emperor-terminals needs root", reason=reason)
            _own_directory(spec.terminals, 0o755, "emperor-terminals")
        if spec.terminals_record is not None and os.geteuid() == 0:
            _own_directory(spec.terminals_record, 0o700, "emperor-terminals-record")

    def owns(self, pid: int) -> bool:
        """Whether it is the porter's."""
        return pid == self._pid

    def born(self, vassal: Vassal) -> None:
        """Open the door of a vassal, where doors are wanted; another one for another owner."""
        if self.spec.terminals is None or vassal.is_zerg:
            return
        service = self._service(vassal, DOOR)
        known = self._open.get(service.key)
        if known is not None:
            if known.service == service:
                return
            self._shut(known)
        path = f"{self.spec.terminals}/{_short(vassal.name)}.socket"
        try:
            self._make(service, path, 0o666)
        except OSError as error:
            reason = f"{path}: {error.strerror or error}"
        else:
            return
        log.write(f"[emperor] no terminals of {vassal.name}: {reason}")

    def desk(self, vassal: Vassal, control: str) -> str:
        """Return the path of the operators' door of a vassal, open it first. Raises OSError."""
        key = f"{DESK} {vassal.name}"
        if key not in self._open:
            number = zlib.crc32(vassal.name.encode())
            path = f"{os.path.abspath(control)}.{_short(vassal.name)[:32]}-{number:08x}"
            self._make(self._service(vassal, DESK), path, 0o600)
        return self._open[key].path

    def forget(self, vassal: Vassal) -> None:
        """Close the doors of a vassal that is no more."""
        for kind in (DOOR, DESK):
            one = self._open.get(f"{kind} {vassal.name}")
            if one is not None:
                self._shut(one)

    def _shut(self, one: Open) -> None:
        del self._open[one.service.key]
        self._unmake(one)
        self._tell(("drop", one.service.key))

    def close(self) -> None:
        """Close all doors, and wait for the porter."""
        self._closed = True
        for one in self._open.values():
            self._unmake(one)
        self._open.clear()
        if self._channel is not None:
            self.emperor.reactor.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None
        if self._porter is not None:
            poller = select.poll()  # select(2) knows no descriptor from 1024 on
            poller.register(self._porter, select.POLLIN)
            if not poller.poll(MERCY * 1000):
                syscalls.pidfd_send_signal(self._porter.fileno(), signal.SIGKILL)
            self._reap()

    # -- doors

    def _service(self, vassal: Vassal, kind: str) -> Service:
        from donjon.emperor.outside import Service  # noqa: PLC0415  (few Emperors have a porter)

        spec, name = self.spec, _short(vassal.name)
        router = replace(spec.terminal_router, tls_cert=None, tls_key=None, tls_ca=None)
        if kind == DESK:
            router = replace(
                router, auth=Auth(PEER), uids=(), gids=(), insecure=False, command="", timeout=0,
                longest=0, instance=name,
            )  # fmt: skip
        else:
            owner = (vassal.found.uid,) if spec.tyrant else ()
            router = replace(router, uids=(0, *router.uids, *owner), instance=name)
        return Service(
            key=f"{kind} {vassal.name}",
            vassal=vassal.name,
            name=name,
            spec=router,
            operators=kind == DESK,
            owned=spec.tyrant,
            record=os.path.abspath(spec.terminals_record) if spec.terminals_record else None,
            with_keys=spec.terminals_record_keys,
        )

    def _make(self, service: Service, path: str, mode: int) -> None:
        taken = next((one for one in self._open.values() if one.path == path), None)
        if taken is not None:  # whoever called there would be in the other's jail
            reason = f"it is the door of {taken.service.vassal}"
            raise FileExistsError(errno.EEXIST, reason, path)
        one = Open(service, path, _bind(path, mode))
        self.emperor.conduct.note_file(path)
        self._open[service.key] = one
        if self._channel is not None:
            self._serve(one)
            return
        try:
            self._start()
        except OSError:  # a door that nobody holds would keep who calls there waiting
            self._shut(one)
            raise

    def _unmake(self, one: Open) -> None:
        one.listener.close()
        with contextlib.suppress(OSError):  # somebody else removed it
            os.unlink(one.path)
        self.emperor.conduct.unnote_file(one.path)

    # -- the porter

    def _start(self) -> None:
        """Start a porter and lend it the doors. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-m", "donjon.emperor.porter", mercy.earlier()],
                    {"LC_ALL": "C.UTF-8"},
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                        (os.POSIX_SPAWN_DUP2, 0, 1),
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL),
                    ],
                    setsigmask=(),
                )
                self._porter = Fd(syscalls.pidfd_open(self._pid))
            except OSError:
                ours.close()  # a porter that has begun ends with it
                self._pid = -1
                raise
        ours.setblocking(False)  # noqa: FBT003  (socket names it so)
        self._channel = ours
        self.emperor.reactor.watch(ours.fileno(), self._on_channel)
        self.emperor.reactor.watch(self._porter.fileno(), lambda _events: self._died())
        for one in tuple(self._open.values()):
            self._serve(one)

    def _serve(self, one: Open) -> None:
        self._tell(("serve", one.service), one.listener)

    def _tell(self, words: tuple[Any, ...], listener: socket.socket | None = None) -> None:
        """Tell the porter, as soon as it listens, and lend it a door."""
        if self._channel is None:
            return
        self._unsent.append((words, listener))
        if self._patience is None:
            self._send()

    def _send(self) -> None:
        """Send what is not sent yet. A porter that does not listen for long is no porter."""
        assert self._channel is not None
        waited = self._patience is not None
        self._rest()
        while self._unsent:
            words, listener = self._unsent[0]
            try:
                if listener is None:
                    orders.send(self._channel, words)
                elif listener.fileno() >= 0:  # not closed meanwhile
                    orders.send(self._channel, words, (listener.fileno(),))
            except BlockingIOError:
                self._patience = self.emperor.reactor.after(PATIENCE, self._kill)
                break
            except OSError:
                self._kill()
                break
            self._unsent.popleft()
        waits = self._patience is not None
        if waits is not waited:
            events = select.EPOLLIN | (select.EPOLLOUT if waits else 0)
            self.emperor.reactor.listen_for(self._channel.fileno(), events)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _kill(self) -> None:
        if self._porter is not None:
            syscalls.pidfd_send_signal(self._porter.fileno(), signal.SIGKILL)

    def _on_channel(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send()
        if events & ~select.EPOLLOUT:
            self._hear()

    def _hear(self) -> None:
        assert self._channel is not None
        try:
            found = orders.receive(self._channel)
        except BlockingIOError:
            return
        if found is None:
            self.emperor.reactor.forget(self._channel.fileno())  # its end is told by its pidfd
            return
        _, number, name = found[0]
        self._tell(("door", number, self._door(name)))

    def _door(self, name: str) -> dict[str, Any]:
        """Return the way into a vassal's jail, or why there is none."""
        vassal = self.emperor.court.vassals.get(name)
        if vassal is None:
            return {"error": f"there is no {name} any more"}
        groups = self.emperor.nursery.groups
        try:
            found = doorway.describe(vassal, lambda: groups.shells(name))
        except DonjonError as error:
            return {"error": str(error)}
        self.emperor.resources.frost.thaw(vassal)
        return found

    def _died(self) -> None:
        how = self._reap()
        log.write(f"[emperor] the porter of terminals ended with {how}: starting another")
        self.emperor.reactor.after(PAUSE, self._again)

    def _again(self) -> None:
        if self._closed or self._channel is not None:
            return
        try:
            self._start()
        except OSError as error:
            log.write(f"[emperor] no porter of terminals: {reason_of(error)}")
            self.emperor.reactor.after(PAUSE, self._again)

    def _reap(self) -> str:
        assert self._porter is not None
        self.emperor.reactor.forget(self._porter.fileno())
        result = os.waitid(os.P_PIDFD, self._porter.fileno(), os.WEXITED)
        self._porter.close()
        self._porter, self._pid = None, -1
        self._rest()
        self._unsent.clear()
        if self._channel is not None:
            self.emperor.reactor.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None
        assert result is not None
        how = "exit code" if result.si_code == os.CLD_EXITED else "signal"
        return f"{how} {result.si_status}"


def _bind(path: str, mode: int) -> socket.socket:
    """Listen on a path, in the place of what an earlier Emperor left. Raises OSError."""
    temporary = f"{path}.{os.getpid()}"  # nobody finds it before it listens
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(17, "no socket is there", path)
        listener.bind(temporary)
        os.chmod(temporary, mode)
        listener.listen(BACKLOG)
        os.rename(temporary, path)
    except OSError:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return listener


def _own_directory(path: str, mode: int, option: str) -> None:
    """Have a directory that only root writes to. Raises DonjonError."""
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
        found = os.stat(path)
    except OSError as error:
        raise DonjonError(f"cannot use {option} = {path}", reason=reason_of(error)) from error
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o022:
        raise DonjonError(
            f"cannot use {option} = {path}",
            reason="others can write there",
            hint=f"chown root {path}; chmod {mode:o} {path}",
        )


def _short(name: str) -> str:
    """``shop`` for ``shop.ini``; for a path, which others may end alike, all of it in the way of
    systemd-escape(1): ``srv-anna-shop`` for ``/srv/anna/shop.ini``."""
    above, _, base = name.strip("/").rpartition("/")
    short = base.rpartition(".")[0]
    short = base if short in {"", ".", ".."} else short  # it names a directory of records
    if not above:
        return short
    parts = (*above.split("/"), short)
    return "-".join(one.replace("\\", "\\x5c").replace("-", "\\x2d") for one in parts)
