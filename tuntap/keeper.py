"""The process that keeps the router of ``tuntap-router``: starts it, again when it ends.

It holds the device, the listening socket and the rules, and answers whoever asks for statistics.
When it is told so it reads the rules again, as root and from where they were read at the start;
whoever tells it may have dropped root, and tells nothing else.

Nobody who dropped root can start another keeper. So each has a deputy, a process that holds the
same descriptors and only waits: when the keeper dies, the deputy is the keeper, with a router and
a deputy of its own, and when the deputy dies, the keeper makes another one.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from donjon import log, syscalls
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.records import dataclass
from donjon.tuntap import device, endpoint, gateway, launch
from donjon.tuntap.client import RouterClient
from donjon.tuntap.counters import Board
from donjon.tuntap.protocol import RouterError, RouterGoneError
from donjon.tuntap.routes import Route
from donjon.tuntap.settings import RouterSetting

QUICK = 1.0
"""Seconds; who ends sooner is not started again at once."""

CHECK = 5.0
"""Seconds of silence after which the router is asked whether it is there."""

VERSION = "donjon"


Rules = Callable[[], bytes]
"""Reads the rules again and returns their table. Raises DonjonError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What keeper and deputy hold; the first of them that lives works with it."""

    parent: int  # a pidfd: they end when it is readable
    tun: int
    listener: socket.socket
    board: Board
    credentials: bool = False
    stats: socket.socket | None = None
    asked: int = -1  # readable when the rules are to be read again
    rules: Rules | None = None
    udp: socket.socket | None = None  # of the gateway
    routes: Sequence[Route] = ()

    def descriptors(self) -> set[int]:
        """Return the numbers of all of them."""
        stats = self.stats.fileno() if self.stats is not None else -1
        board = self.board.descriptor.fileno()
        udp = self.udp.fileno() if self.udp is not None else -1
        return {self.parent, self.tun, self.listener.fileno(), board, stats, self.asked, udp}


def begin(
    setting: RouterSetting,
    table: bytes,
    *,
    credentials: bool,
    rules: Rules | None = None,
    asked: int = -1,
    routes: Sequence[Route] = (),
) -> int:
    """Make device and socket, and leave them to a child, whose pid is returned.

    When ``asked`` is readable, ``rules`` says what is in force from then on. Raises RouterError
    and DeviceError while the caller can still be told.
    """
    with ExitStack() as stack:
        tun = stack.enter_context(device.open_tun(setting.device))
        listener = stack.enter_context(endpoint.listen(setting.address, setting.origin))
        if credentials and listener.family != socket.AF_UNIX:
            raise RouterError(
                f"the tuntap router {setting.address} cannot use credentials",
                origin=setting.origin,
                reason="they come over UNIX sockets alone",
                hint="give it a path, or leave tuntap-use-credentials out",
            )
        stats = None
        if setting.stats:
            stats = stack.enter_context(endpoint.listen(setting.stats, setting.origin))
        udp = None
        if setting.gateway:
            udp = gateway.open_gateway(setting.gateway, routes, setting.origin)
            stack.enter_context(udp)

        board = Board()
        stack.callback(board.close)

        def main(parent: int) -> None:
            keep(
                Kept(
                    parent=parent,
                    tun=tun.fileno(),
                    listener=listener,
                    board=board,
                    credentials=credentials,
                    stats=stats,
                    asked=asked,
                    rules=rules,
                    udp=udp,
                    routes=routes,
                ),
                table,
            )

        others = {one.fileno() for one in (stats, udp) if one is not None}
        board_fd = board.descriptor.fileno()
        return fork(main, {tun.fileno(), listener.fileno(), board_fd, asked, *others})


def keep(kept: Kept, table: bytes) -> None:
    """Be the keeper until the parent ends."""
    keeper = Keeper(kept.parent, kept.stats, kept, table)
    keeper.begin(kept.tun, kept.listener, table, credentials=kept.credentials)
    if kept.udp is not None:
        keeper.open_gateway(kept.udp, kept.routes)
    keeper.run()


def stand_by(keeper: int, kept: Kept, table: bytes) -> None:
    """Be the deputy of a keeper, of which this is a pidfd; when it dies, the keeper."""
    born = time.monotonic()
    sys.setrecursionlimit(sys.getrecursionlimit() + 50)  # it is called within the last keeper
    if kept.parent in select.select([keeper, kept.parent], [], [])[0]:
        return
    log.write("the keeper of the tuntap router died, its deputy goes on")
    pause = QUICK if time.monotonic() - born < QUICK else 0
    if not select.select([kept.parent], [], [], pause)[0]:
        keep(kept, table)


def fork(main: Callable[[int], None], kept: set[int]) -> int:
    """Run ``main`` in a child with no descriptor but ``kept`` and 0 to 2.

    It is given our pidfd and has to end with us: PR_SET_PDEATHSIG is for who keeps its user, as
    the signal of a parent that dropped root does not reach a child of root's (kill(2)).
    """
    parent = Fd(syscalls.pidfd_open(os.getpid()))
    kept.add(parent.fileno())
    pid = os.fork()
    if pid:
        parent.close()
        return pid
    status = 1
    try:
        for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        edges = [2, *sorted(number for number in kept if number > 2), 1 << 32]
        for before, after in itertools.pairwise(edges):
            if after - before > 1:
                syscalls.close_range(before + 1, after - 1)
        main(parent.fileno())
        status = 0
    except DonjonError as error:
        log.write(f"donjon: {error}")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


@dataclass(frozen=True, slots=True)
class Deputy:
    """Who is the keeper when this one dies."""

    pid: int
    pidfd: Fd
    born: float


class Keeper:
    """A router that is always there, and its statistics."""

    def __init__(
        self,
        parent: int,
        stats: socket.socket | None,
        kept: Kept | None = None,
        table: bytes = b"",
    ) -> None:
        """Start a router; it has nothing yet. With ``kept`` there is a deputy too."""
        self._kept = kept
        self._table = table
        self._deputy: Deputy | None = None
        self._parent = parent
        self._stats = stats
        self._selector = selectors.DefaultSelector()
        self._selector.register(parent, selectors.EVENT_READ)
        if stats is not None:
            stats.settimeout(1)
            self._selector.register(stats, selectors.EVENT_READ)
        self._router = launch.start()
        self._born = time.monotonic()
        self._client = RouterClient(self._router.channel, kept.board if kept else None)
        self._selector.register(self._router.pidfd, selectors.EVENT_READ)
        if kept is not None:
            self._appoint()
            if kept.asked >= 0 and kept.rules is not None:
                self._selector.register(kept.asked, selectors.EVENT_READ)

    def begin(self, tun: int, listener: socket.socket, table: bytes, *, credentials: bool) -> None:
        """Give the router what it works with."""
        self._client.rules(table)
        self._client.device(tun)
        self._client.listen(listener.fileno(), credentials=credentials)

    def open_gateway(self, udp: socket.socket, routes: Sequence[Route]) -> None:
        """Give the router a gateway."""
        self._client.gateway(udp.fileno(), [one.packed() for one in routes])

    def run(self) -> None:
        """Work until the parent ends; the router ends with us."""
        while True:
            events = self._selector.select(CHECK)
            if not events:
                self._look()
            for key, _ in events:
                if key.fileobj == self._parent:
                    return
                self._serve(key.fileobj)

    def _serve(self, file: object) -> None:
        if self._stats is not None and file is self._stats:
            self._answer(self._stats)
        elif self._deputy is not None and file is self._deputy.pidfd:
            self._appoint_another()
        elif file is self._router.pidfd:
            self._renew()
        else:
            self._read_rules()

    # -- rules

    def _read_rules(self) -> None:
        """Have other rules in force, whole and at once; a mistake in them changes nothing."""
        kept = self._kept
        assert kept is not None
        assert kept.rules is not None
        if not os.read(kept.asked, 4096):
            self._selector.unregister(kept.asked)  # nobody is there to ask
            return
        try:
            table = kept.rules()
            self._client.rules(table)
        except RouterGoneError:
            self._kill()  # the next one gets them
        except DonjonError as error:
            log.write(f"donjon: the rules of the tuntap router stay as they were: {error}")
            return
        log.write("the rules of the tuntap router are read again")
        self._table = table
        self._appoint_another()

    # -- the deputy

    def _appoint(self) -> None:
        kept, table = self._kept, self._table
        assert kept is not None
        pid = fork(lambda keeper: stand_by(keeper, kept, table), kept.descriptors())
        self._deputy = Deputy(pid, Fd(syscalls.pidfd_open(pid)), time.monotonic())
        self._selector.register(self._deputy.pidfd, selectors.EVENT_READ)

    def _appoint_another(self) -> None:
        """Make a deputy that knows what we know, in the place of one that does not or is dead."""
        old = self._deputy
        if old is None:
            return
        self._selector.unregister(old.pidfd)
        syscalls.pidfd_send_signal(old.pidfd.fileno(), signal.SIGKILL)
        os.waitpid(old.pid, 0)
        old.pidfd.close()
        self._deputy = None
        pause = QUICK if time.monotonic() - old.born < QUICK else 0
        if not select.select([self._parent], [], [], pause)[0]:
            self._appoint()

    # -- the router

    def _look(self) -> None:
        """Ask a router that was left alone for a while whether it is there."""
        try:
            self._client.alive()
        except RouterError as error:
            log.write(f"donjon: {error}")
            self._kill()

    def _renew(self) -> None:
        """Put another router in the place of one that ended, unless the parent ends first."""
        self._selector.unregister(self._router.pidfd)
        _, status = os.waitpid(self._router.pid, 0)
        self._router.pidfd.close()
        log.write(f"the tuntap router ended (status {status}), starting another one")
        pause = QUICK if time.monotonic() - self._born < QUICK else 0
        while not select.select([self._parent], [], [], pause)[0]:
            pause = QUICK
            try:
                self._router = launch.start()
            except OSError as error:
                log.write(f"donjon: cannot start the tuntap router: {reason_of(error)}")
                continue
            self._resume()
            return

    def _resume(self) -> None:
        self._born = time.monotonic()
        self._selector.register(self._router.pidfd, selectors.EVENT_READ)
        try:
            self._client.resume(self._router.channel)
        except RouterError as error:
            log.write(f"donjon: {error}")
            self._kill()

    def _kill(self) -> None:
        """Whoever does not answer is gone soon; its end is then an event."""
        self._router.kill()

    def _answer(self, stats: socket.socket) -> None:
        try:
            stream, _ = stats.accept()
            with stream:
                stream.settimeout(1)
                stream.sendall(json.dumps(self.document(), indent="\t").encode() + b"\n")
        except (OSError, RouterError) as error:
            log.write(f"donjon: no statistics of the tuntap router: {error}")
            if isinstance(error, RouterGoneError):
                self._kill()

    def document(self) -> dict[str, Any]:
        """Return the statistics: those of the original first (uwsgi-facts 5.8)."""
        counters = self._client.counters()
        udp = self._client.gateway_counters()
        return {
            "version": VERSION,
            "pid": self._router.pid,
            "uid": os.getuid(),
            "gid": os.getgid(),
            "cwd": os.getcwd(),
            "peers": [_peer(row) for row in counters.peers],
            "device": _port(counters.device),
            **({"gateway": _port(udp)} if udp else {}),
            "rules": [
                {"identity": identity, "packets": packets, "bytes": size}
                for identity, (packets, size) in counters.rules.items()
            ],
            "firewall": dict(counters.totals),
        }


def _port(counters: Any) -> dict[str, Any]:
    return {
        "out_packets": counters.out_packets,
        "out_bytes": counters.out_bytes,
        "in_packets": counters.in_packets,
        "in_bytes": counters.in_bytes,
        "drops": {cause: count for cause, count in counters.drops.items() if count},
    }


def _peer(row: Any) -> dict[str, Any]:
    """Return a row as the original has it (tx and rx count the headers too), and ours after it."""
    addresses = list(row["addresses"])
    four = next((one for one in addresses if ":" not in one), "0.0.0.0")
    pid, uid, gid = row["credentials"] or (0, 0, 0)
    return {
        "addr": four,
        "addr_32": int.from_bytes(socket.inet_aton(four), "little"),
        "uid": uid,
        "gid": gid,
        "pid": pid,
        "tx": row["in_bytes"] + 4 * row["in_packets"],
        "rx": row["out_bytes"] + 4 * row["out_packets"],
        "dropped": sum(row["drops"].values()),
        "addresses": addresses,
        "out_packets": row["out_packets"],
        "in_packets": row["in_packets"],
        "drops": {cause: count for cause, count in row["drops"].items() if count},
    }
