"""The process that holds the links of a host: outside the router, and with no rights either.

It is in the host's network and has nothing else of the host: no file, no user, no capability.
Its supervisor hands it peers, certificates, a listening socket, what our jails are called, and for
each peer a stream to the router; it tells the supervisor what peers announce and how links are.
All that the supervisor is told may be a stranger's: it checks again what a peer may have.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import selectors
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from donjon import log
from donjon.errors import DonjonError
from donjon.tuntap import isolation, protocol
from donjon.tuntap._plane import seal
from donjon.tuntap.federation import credentials, wire
from donjon.tuntap.federation.credentials import Credentials
from donjon.tuntap.federation.link import Link, LinkError, State
from donjon.tuntap.federation.peer import MOST_NETWORKS, Peer
from donjon.tuntap.federation.peering import PATIENCE, Peering
from donjon.tuntap.launch import CHANNEL
from donjon.tuntap.protocol import Message

WHO = isolation.NOBODY + 1
"""The uid and gid of these processes: not that of routers, which nobody may signal."""

MOST_STRANGERS = 64
"""Links of which it is not known yet whose they are; for one more the oldest is given up."""

REPORT = 0.25
"""Seconds between two reports of a peer, and as many more for each ``MANY`` of its vassals: the
supervisor writes its rules anew for each."""

MANY = 256

QUIET = 1.0
"""Seconds between two lines about strangers."""


class Process:
    """All peers, and who connects."""

    def __init__(self, channel: socket.socket) -> None:
        """Begin without peers and certificates."""
        self._channel = channel
        self._identity = secrets.randbits(64)
        self._credentials: Credentials | None = None
        self._peerings: dict[str, Peering] = {}
        self._strangers: dict[Link, None] = {}
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._armed: dict[Any, int] = {}
        self._quiet_until = 0.0
        self._tick_at = 0.0
        self._acts: dict[str, Callable[[Message], None]] = {
            "peer": self._add_peer,
            "credentials": self._take_credentials,
            "listen": self._listen,
            "stream": self._take_stream,
            "routes": self._take_routes,
        }

    def run(self) -> None:
        """Work until the supervisor closes its end."""
        while True:
            self._arm()
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is self._channel:
                    if not self._hear():
                        return
                else:
                    self._serve(key.fileobj)
            now = time.monotonic()
            self._read_on(now)
            if now >= self._tick_at:
                self._tick(now)
            self._report(now)

    def _patience(self) -> float:
        if any(one.more for one in self._peerings.values()):
            return 0
        reports = [one.report_at for one in self._peerings.values() if one.changed]
        return max(0.0, min([self._tick_at, *reports]) - time.monotonic())

    # -- what is waited for

    def _arm(self) -> None:
        """Wait for what each socket waits for now."""
        wanted: dict[Any, int] = {one: one.events(listen=True) for one in self._strangers}
        if self._listener is not None:
            wanted[self._listener] = selectors.EVENT_READ
        for peering in self._peerings.values():
            wanted.update(peering.sockets())
        for one in self._armed.keys() - wanted.keys():
            if self._armed.pop(one):
                self._forget(one)
        for one, events in wanted.items():
            self._wait_for(one, events)

    def _wait_for(self, one: Any, events: int) -> None:
        before = self._armed.get(one, 0)
        if events == before:
            return
        if not before:
            self._selector.register(one, events)
        elif events:
            self._selector.modify(one, events)
        else:
            self._selector.unregister(one)
        self._armed[one] = events

    def _forget(self, one: Any) -> None:
        """Take out what is closed: the selector finds it by itself alone."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(one)

    def _serve(self, one: Any) -> None:
        now = time.monotonic()
        if one is self._listener:
            self._accept(now)
        elif one in self._strangers:
            self._advance_stranger(one, now)
        elif isinstance(one, Link):
            if one.fileno() >= 0 and one.peer is not None:
                self._peerings[one.peer.name].advance(one, now)
        else:
            for peering in self._peerings.values():
                if peering.stream is one:
                    peering.flush()
                    peering.hear_router(now)

    def _read_on(self, now: float) -> None:
        """Read what is in the memory of TLS, of which the kernel knows nothing."""
        for peering in self._peerings.values():
            if peering.more:
                for link in peering.links():
                    if link.more:
                        peering.advance(link, now)

    def _tick(self, now: float) -> None:
        self._tick_at = now + 1
        for link in list(self._strangers):
            if now - link.begun >= PATIENCE:
                self._refuse(link, "it did not shake hands", now)
        for peering in self._peerings.values():
            self._tick_at = min(self._tick_at, peering.tick(now))

    # -- who connects

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return  # it is gone already, or there are no descriptors left
        if self._credentials is None:
            stream.close()
            return
        try:
            link = Link(stream, self._credentials.server, None, now)
        except LinkError:
            stream.close()
            return
        self._strangers[link] = None
        if len(self._strangers) > MOST_STRANGERS:
            self._refuse(next(iter(self._strangers)), "too many connect", now)

    def _advance_stranger(self, link: Link, now: float) -> None:
        try:
            found = link.advance(now, listen=True)
        except LinkError as error:
            self._refuse(link, str(error), now)
            return
        if link.state is not State.GREETING:
            return
        names = link.names() & self._peerings.keys()
        if len(names) != 1:
            self._refuse(link, "its certificate is of no peer, or of several", now)
            return
        del self._strangers[link]
        self._peerings[names.pop()].welcome(link, found, now)

    def _refuse(self, link: Link, why: str, now: float) -> None:
        del self._strangers[link]
        link.close()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.write(f"[federation] who connected is refused: {why}")

    # -- the supervisor

    def _hear(self) -> bool:
        """Do what one message says; whether there will be more."""
        message = protocol.receive(self._channel)
        if message is None:
            return False
        try:
            self._acts[message.text("do")](message)
        except (DonjonError, OSError, ValueError, KeyError) as error:
            log.write(f"[federation] {error}")
        finally:
            message.close()
        return True

    def _peering(self, message: Message) -> Peering:
        return self._peerings[message.text("peer")]

    def _add_peer(self, message: Message) -> None:
        where = message.texts("where", 2)
        peer = Peer(
            message.text("peer"),
            (ip_address(where[0]), int(where[1])) if where else None,
            tuple(ip_network(one) for one in message.texts("networks", MOST_NETWORKS)),
        )
        self._peerings[peer.name] = Peering(peer, self._identity, self._contexts)
        self._tick_at = 0.0

    def _contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
        found = self._credentials
        return (found.client, found.server) if found else None

    def _take_credentials(self, message: Message) -> None:
        texts = json.loads(protocol.read_memory(message.descriptor()))
        again = self._credentials is not None
        self._credentials = credentials.make(texts, "/")
        if again:
            log.write("[federation] the certificates are new: links are made again")
        for peering in self._peerings.values():
            peering.renew(time.monotonic())
        self._tick_at = 0.0

    def _listen(self, message: Message) -> None:
        self._listener = socket.socket(fileno=message.descriptor().release())
        self._listener.settimeout(0)

    def _take_stream(self, message: Message) -> None:
        stream = socket.socket(fileno=message.descriptor().release())
        self._peering(message).use_stream(stream)

    def _take_routes(self, message: Message) -> None:
        rows = json.loads(protocol.read_memory(message.descriptor()))
        routes = [(ip_address(address), name) for address, name in rows]
        self._peering(message).announce(routes[: wire.MOST_ROUTES], time.monotonic())
        self._tick_at = 0.0

    def _report(self, now: float) -> None:
        """Tell the supervisor of each peer what changed."""
        for peering in self._peerings.values():
            if not peering.changed or now < peering.report_at:
                continue
            peering.report_at = now + REPORT * (1 + len(peering.routes) // MANY)
            peering.changed = not self._tell(peering)

    def _tell(self, peering: Peering) -> bool:
        """Send what is known of a peer; whether there was room."""
        link = peering.link
        rows = [[str(address), name] for address, name in peering.routes]
        body = {
            "peer": peering.peer.name,
            "up": peering.is_up,
            "why": peering.why,
            "refused": peering.refused,
            "expires": int(link.expires) if link else 0,
        }
        with protocol.memory("routes", json.dumps(rows).encode()) as memory:
            try:
                protocol.send(self._channel, body, [memory.fileno()])
            except BlockingIOError:
                return False
        return True


def isolate() -> None:
    """Become a process that has its socket and the network alone, in phases. Raises OSError."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # has OpenSSL read its configuration
    ssl.cert_time_to_seconds("Jan  1 00:00:00 2030 GMT")  # as each link will: it imports things
    "peer".encode("idna")
    isolation.close_all_but(CHANNEL)
    isolation.leave_namespaces(network=False)
    isolation.leave_files(f"size=4m,mode=700,uid={WHO},gid={WHO}")
    isolation.limit_resources()
    isolation.leave_privileges(WHO)
    isolation.seal(seal(True))  # noqa: FBT003  (for who holds links)


def main() -> int:
    """Hold the links until the supervisor ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the supervisor
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        isolate()
    except OSError as error:
        log.write(f"donjon: the process for links to other hosts cannot isolate itself: {error}")
        return 1
    channel = socket.socket(fileno=CHANNEL)
    channel.settimeout(0)
    try:
        Process(channel).run()
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the supervisor ended while it was told something
    return 0


if __name__ == "__main__":
    sys.exit(main())
