"""Networks of vassals over several hosts: the Emperor's part of ``network-peer``.

A process of its own (``tuntap.federation``) holds the links. The Emperor starts it, and again when
it ends, hands it certificates, what our vassals are called, and for each peer a stream to the
router. It takes from it what peers announce, checks it, and has rules and router know of it, in
this order: nothing passes before it is asked for.
"""

from __future__ import annotations

import functools
import json
import os
import select
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.config.spec import EmperorSpec
from donjon.emperor.reactor import Reactor
from donjon.emperor.watch import OVERFLOW, WRITTEN, Watch
from donjon.errors import DonjonError, OptionError, reason_of
from donjon.fd import Fd
from donjon.origin import DEFAULT
from donjon.tuntap import endpoint, launch, protocol
from donjon.tuntap.counters import PortCounters
from donjon.tuntap.federation import peer as peers
from donjon.tuntap.federation import wire
from donjon.tuntap.federation.credentials import LARGEST, TEXTS
from donjon.tuntap.federation.peer import Network, Peer
from donjon.tuntap.hostaddresses import packed
from donjon.tuntap.launch import Started
from donjon.tuntap.protocol import Message, RouterError

if TYPE_CHECKING:
    from donjon.emperor.router import Router

MODULE = "donjon.tuntap.federation.process"

PAUSE = 1.0
"""Seconds until the process is started again."""

ROOM = 1 << 20
"""Bytes of messages that may wait for the process (net.core.wmem_max may say less); nobody waits
for it: one that does not read them is replaced."""

REST = 9
"""Times that it took to hear what a peer announces, until more is heard: rules are written for
each, and a peer can announce for ever."""

SETTLE = 0.2
"""Seconds after a change of a certificate, in which its key may follow."""

Address = IPv4Address | IPv6Address
Names = Mapping[str, Sequence[Address]]


Ready = Callable[[DonjonError | None], None]


def _at_once(done: Ready) -> None:
    """There are no rules yet that would have to be written again."""
    done(None)


class Neighbour:
    """A peer, and how we are with it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.up = False
        self.why = ""
        self.expires = 0
        self.refused = 0
        self.routes: dict[str, tuple[Address, ...]] = {}
        self.told: list[tuple[str, str]] | None = None  # what it was told of our vassals

    def hear(self, message: Message) -> dict[str, tuple[Address, ...]]:
        """Take how the link is; return who is there. Raises RouterError for nonsense."""
        why = log.one_line(message.text("why"))
        up, expires = message.body.get("up") is True, message.number("expires", 1 << 62)
        self.refused = message.number("refused", wire.MOST_ROUTES)
        self.up, self.why, self.expires = up, why, expires
        found: dict[str, list[Address]] = {}
        for address, name in _rows(message):
            if not self.peer.holds(address) or not wire.is_name(name):
                raise RouterError(f"{address} cannot be an address of {self.peer.name}")
            found.setdefault(name, []).append(address)
        return {name: tuple(addresses) for name, addresses in found.items()}


class Neighbours:
    """All peers."""

    def __init__(self, spec: EmperorSpec, pool: Iterable[Network], reactor: Reactor) -> None:
        """Check what was asked, and listen. Raises DonjonError."""
        peers.check(spec.network_peers, pool)
        self.spec = spec
        self.reactor = reactor
        self.changed: Callable[[Ready], None] = _at_once  # writes the rules again
        self._all = {one.name: Neighbour(one) for one in spec.network_peers}
        self._paths = [_path(spec, name) for name in TEXTS]
        self._read()
        self._listener: socket.socket | None = None
        if spec.network_peer_listen:
            origin = spec.origins.get("network_peer_listen")
            self._listener = endpoint.listen(spec.network_peer_listen, origin or DEFAULT)
        self._router: Router | None = None
        self._started: Started | None = None
        self._watch: Watch | None = None
        self._due = False
        self._closed = False
        self._vassals: list[tuple[str, Sequence[Address], frozenset[str]]] = []

    # -- what rules are told

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of all peers."""
        return tuple(str(one) for each in self._all.values() for one in each.peer.networks)

    @property
    def peers(self) -> frozenset[str]:
        """The names of peers."""
        return frozenset(self._all)

    def names(self) -> dict[str, tuple[Address | Network, ...]]:
        """Return whom ``VASSAL@PEER`` and ``@PEER`` mean."""
        found: dict[str, tuple[Address | Network, ...]] = {}
        for each in self._all.values():
            found[f"@{each.peer.name}"] = each.peer.networks
            for name, addresses in each.routes.items():
                found[f"{name}@{each.peer.name}"] = addresses
        return found

    # -- beginning and end

    def begin(self, router: Router) -> None:
        """Join a router that is there, and begin to link. Raises DonjonError."""
        try:
            self._watch = Watch()
        except OSError as error:
            reason = reason_of(error)
            raise DonjonError("cannot watch the certificates for peers", reason=reason) from error
        self._router = router
        for each in self._all.values():
            networks = [str(one) for one in each.peer.networks]
            router.allot(each.peer.name, networks, functools.partial(_tell_allotted, each))
        router.resumed = self._router_resumed
        for path in self._paths:
            self._watch.add(os.path.dirname(path))
        self.reactor.watch(self._watch.fileno(), lambda _events: self._look())
        self._start()

    def close(self) -> None:
        """End the process, and wait until it is gone."""
        self._closed = True
        if self._watch is not None:
            self.reactor.forget(self._watch.fileno())
            self._watch.close()
        if self._listener is not None:
            self._listener.close()
        self._end()

    @property
    def pid(self) -> int:
        """The process's pid, -1 while there is none."""
        return self._started.pid if self._started else -1

    def _start(self) -> None:
        if self._closed:
            return
        try:
            self._started = launch.start(MODULE)
        except OSError as error:
            log.write(f"[emperor] cannot start the links to peers: {reason_of(error)}")
            self.reactor.after(PAUSE, self._start)
            return
        channel = self._started.channel
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        channel.settimeout(0)
        self.reactor.watch(channel.fileno(), lambda _events: self._hear())
        for each in self._all.values():
            where = each.peer.where
            self._send(
                "peer",
                peer=each.peer.name,
                where=[str(where[0]), str(where[1])] if where else [],
                networks=[str(one) for one in each.peer.networks],
            )
            each.told = None
            self._connect(each)
        if self._listener is not None:
            self._send("listen", self._listener.fileno())
        self._send_memory("credentials", self._texts)
        self._tell_vassals()

    def _end(self) -> None:
        """Reap the process."""
        started, self._started = self._started, None
        if started is None:
            return
        self.reactor.forget(started.channel.fileno())
        started.channel.close()
        started.kill()
        started.reap()

    def _lose(self, why: str) -> None:
        """The process is no good any more: nobody is behind our links until there is another."""
        if self._started is None:
            return
        log.write(f"[emperor] the links to peers ended ({why}), starting again")
        self._end()
        for each in self._all.values():
            each.up, each.why = False, "the process that holds the links ended"
            self._put(each, {})
        self.reactor.after(PAUSE, self._start)

    def _lose_soon(self, why: str) -> None:
        """Lose it when what is being done is done."""
        self.reactor.after(0.0, functools.partial(self._lose, why))

    # -- certificates

    def _read(self) -> None:
        """Read certificate, key and authority. Raises OptionError."""
        texts = {}
        for name, path in zip(TEXTS, self._paths, strict=True):
            try:
                with open(path, encoding="ascii") as file:
                    texts[name] = file.read(LARGEST + 1)
            except (OSError, UnicodeDecodeError) as error:
                raise OptionError(
                    f"cannot read network-peer-{name} = {path}",
                    origin=self.spec.origins.get(f"network_peer_{name}"),
                    reason=reason_of(error) if isinstance(error, OSError) else "it is no PEM",
                ) from error
        self._texts = texts

    def _look(self) -> None:
        names = {os.path.basename(path) for path in self._paths}
        changes = self._watch.read() if self._watch else []
        touched = any(
            one is OVERFLOW or (one.mask & WRITTEN and one.name in names) for one in changes
        )
        if touched and not self._due:
            self._due = True
            self.reactor.after(SETTLE, self.read_again)

    def read_again(self) -> None:
        """Read the certificates again; links are made anew with those that are new."""
        self._due = False
        before = self._texts
        try:
            self._read()
        except OptionError as error:
            log.write(f"[emperor] the certificates for peers stay as they were: {error}")
            return
        if self._texts != before:
            self._send_memory("credentials", self._texts)

    # -- our vassals

    def tell(self, vassals: Iterable[tuple[str, Sequence[Address], frozenset[str]]]) -> None:
        """Announce each vassal with its addresses to the peers that it is for."""
        self._vassals = list(vassals)
        self._tell_vassals()

    def _tell_vassals(self) -> None:
        if self._started is None:
            return
        for each in self._all.values():
            rows = [
                (str(address), name)
                for name, addresses, whose in self._vassals
                if each.peer.name in whose and wire.is_name(name)
                for address in addresses
            ]
            if rows != each.told:
                each.told = rows
                self._send_memory("routes", rows[: wire.MOST_ROUTES], peer=each.peer.name)

    # -- streams between router and process

    def _connect(self, each: Neighbour) -> None:
        """Join the router and the process; where that cannot be, another process tries."""
        assert self._router is not None
        try:
            near, theirs = socket.socketpair()
        except OSError as error:
            self._lose_soon(reason_of(error))
            return
        far = Fd(theirs.detach())

        def joined(problem: DonjonError | None) -> None:
            with far:
                if problem is None:
                    self._send("stream", far.fileno(), peer=each.peer.name)
                else:
                    log.write(f"[emperor] the router has no link to {each.peer.name}: {problem}")

        with near:
            try:
                self._router.trunk(each.peer.name, near.fileno(), joined)
            except DonjonError as error:
                far.close()
                self._lose_soon(str(error))
        self._put_routes(each, each.routes)

    def _router_resumed(self) -> None:
        if self._started is not None:
            for each in self._all.values():
                self._connect(each)

    # -- what the process says

    def _hear(self) -> None:
        assert self._started is not None
        began = self.reactor.clock()
        try:
            message = protocol.receive(self._started.channel)
        except BlockingIOError:
            return
        except (OSError, RouterError) as error:
            self._lose(str(error))
            return
        if message is None:
            self._lose("it is gone")
            return
        try:
            each = self._all[message.text("peer")]
            self._put(each, each.hear(message))
        except (OSError, ValueError, KeyError, RecursionError, RouterError) as error:
            self._lose(f"it said nonsense: {log.one_line(str(error))}")
        finally:
            message.close()
        self._rest(REST * (self.reactor.clock() - began))

    def _rest(self, seconds: float) -> None:
        """Hear the process later; what it has to say meanwhile it says at once then."""
        started = self._started
        if started is None:
            return

        def listen() -> None:
            if self._started is started:
                self.reactor.listen_for(started.channel.fileno(), select.EPOLLIN)

        self.reactor.listen_for(started.channel.fileno(), 0)
        self.reactor.after(seconds, listen)

    def _put(self, each: Neighbour, routes: dict[str, tuple[Address, ...]]) -> None:
        """Have rules and router know who is there now."""
        if routes == each.routes:
            return
        each.routes = routes

        def put(problem: DonjonError | None) -> None:
            found = routes
            if problem is not None:
                log.write(f"[emperor] {each.peer.name} has no vassals for us: {problem}")
                found = {}
                if each.routes is routes:  # and there are no others meanwhile
                    each.routes = found
            self._put_routes(each, found)

        self.changed(put)

    def _put_routes(self, each: Neighbour, routes: Mapping[str, Sequence[Address]]) -> None:
        if self._router is not None:
            addresses = [packed(one) for some in routes.values() for one in some]
            self._router.routes(each.peer.name, addresses)

    # -- messages

    def _send(self, do: str, *descriptors: int, **more: Any) -> None:
        if self._started is None:
            return
        try:
            protocol.send(self._started.channel, {"do": do, **more}, descriptors)
        except OSError as error:
            self._lose_soon(reason_of(error))

    def _send_memory(self, do: str, value: Any, **more: Any) -> None:
        try:
            with protocol.memory(do, json.dumps(value).encode()) as memory:
                self._send(do, memory.fileno(), **more)
        except OSError as error:
            self._lose_soon(reason_of(error))

    # -- what is shown

    def overview(self) -> list[dict[str, Any]]:
        """Return a row for each peer, for ``donjon net``."""
        return [self._row(each) for each in self._all.values()]

    def _row(self, each: Neighbour) -> dict[str, Any]:
        counters = self._counters(each)
        where = each.peer.where
        row: dict[str, Any] = {
            "peer": each.peer.name,
            "address": f"{where[0]}:{where[1]}" if where else "",
            "networks": [str(one) for one in each.peer.networks],
            "up": each.up,
            "why": each.why,
            "expires": each.expires,
            "refused": each.refused,
            "vassals": {name: list(map(str, some)) for name, some in sorted(each.routes.items())},
            "counters": None,
        }
        if counters is not None:
            row["counters"] = {
                "from": {"packets": counters.out_packets, "bytes": counters.out_bytes},
                "to": {"packets": counters.in_packets, "bytes": counters.in_bytes},
                "drops": {cause: count for cause, count in counters.drops.items() if count},
            }
        return row

    def _counters(self, each: Neighbour) -> PortCounters | None:
        try:
            return self._router.trunk_counters(each.peer.name) if self._router else None
        except KeyError:  # it has no networks
            return None


def _tell_allotted(each: Neighbour, problem: DonjonError | None) -> None:
    if problem is not None:
        each.why = str(problem)
        log.write(f"[emperor] {each.peer.name} has no networks: {problem}")


def _rows(message: Message) -> list[tuple[Address, str]]:
    rows = json.loads(protocol.read_memory(message.descriptor()))
    if not isinstance(rows, list) or len(rows) > wire.MOST_ROUTES:
        raise RouterError(f"not a list of at most {wire.MOST_ROUTES} addresses")
    found = []
    for row in rows:
        if not (isinstance(row, list) and len(row) == 2 and all(isinstance(s, str) for s in row)):
            raise RouterError("not an address and a name")
        found.append((ip_address(row[0]), row[1]))
    return found


def _path(spec: EmperorSpec, name: str) -> str:
    """Return one of the three files. Raises OptionError."""
    path = getattr(spec, f"network_peer_{name}")
    if path is None:
        raise OptionError(
            f"network-peer {spec.network_peers[0].name} needs network-peer-{name}",
            origin=spec.network_peers[0].origin,
            hint="cert, key and ca: peers know each other by certificates",
        )
    return str(path)
