"""The router process: isolates itself, then passes packets on and does what its supervisor asks.

It is started by ``launch.start`` with a socket to its supervisor and nothing else, and ends with
that socket. All it works with is handed to it in messages (``protocol``).
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from donjon import log
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.netns import tun
from donjon.tuntap import device, isolation, protocol
from donjon.tuntap._plane import Plane, seal
from donjon.tuntap.client import MOST_ADDRESSES, MOST_BYTES
from donjon.tuntap.counters import FIRST_PEER, GATEWAY, Board
from donjon.tuntap.federation.peer import MOST_NETWORKS
from donjon.tuntap.hostaddresses import HostAddresses, packed, unpacked
from donjon.tuntap.launch import CHANNEL
from donjon.tuntap.peers import Peers
from donjon.tuntap.protocol import Do, Message, RouterError
from donjon.tuntap.routes import MOST_ROUTES

Limits = tuple[int, int, int, int]
"""As the fields of ``client.Bandwidth``."""

MOST_CONNECTIONS = 1 << 20
"""That one jail may hold; no table is larger."""

OWN = 0
"""The port of the router's own device."""


class Router:
    """The ports that a supervisor gave to this process."""

    def __init__(
        self, channel: socket.socket, hosts: HostAddresses, board: Board, notes: Fd | None = None
    ) -> None:
        """Begin without ports and rules: nothing passes.

        ``notes`` is a socket on which the plane tells what rules note (notes.h).
        """
        self._channel = channel
        self._hosts = hosts
        self._board = board
        self._plane = Plane(board.memory, secrets.randbits(64))
        self._peers = Peers(self._plane)
        self._devices: dict[int, Fd] = {}
        self._notes = notes
        if notes is not None:
            self._plane.note(notes.fileno())
        self._captured: Fd | None = None
        self._plane.watch(channel.fileno())
        self._acts: dict[Do, Callable[[Message], dict[str, Any] | None]] = {
            Do.DEVICE: self._own_device,
            Do.LISTEN: self._listen,
            Do.GATEWAY: self._gateway,
            Do.ATTACH: self._attach,
            Do.DETACH: self._detach,
            Do.ALLOT: self._allot,
            Do.TRUNK: self._trunk,
            Do.ROUTES: self._routes,
            Do.RULES: self._rules,
            Do.CAPTURE: self._capture,
            Do.END_CAPTURE: self._end_capture,
            Do.PEERS: self._tell_peers,
            Do.RULE_COUNTS: self._tell_rules,
            Do.ALIVE: lambda _message: None,
        }

    def run(self) -> None:
        """Work until the supervisor closes its end."""
        while True:
            for gone, number in self._plane.run():
                if gone:
                    self._remove(number)
                elif number != self._channel.fileno():
                    self._note_own_addresses()
                    self._peers.ready(number)
                elif not self._hear():
                    return

    def _hear(self) -> bool:
        """Answer one message; whether there will be more."""
        try:
            message = protocol.receive(self._channel)
        except RouterError as error:
            protocol.send(self._channel, {"error": str(error)})
            return True
        if message is None:
            return False
        try:
            answer = self._acts[Do(message.text("do"))](message)
        except (DonjonError, OSError, ValueError, KeyError) as error:
            protocol.send(self._channel, {"error": str(error)})
        else:
            self._answer(answer)
        finally:
            message.close()
        return True

    def _answer(self, value: dict[str, Any] | None) -> None:
        if value is None:
            protocol.send(self._channel, {"ok": True})
            return
        with protocol.memory("answer", json.dumps(value).encode()) as answer:
            protocol.send(self._channel, {"ok": True}, [answer.fileno()])

    # -- ports

    def _own_device(self, message: Message) -> None:
        self._check_free(OWN)
        self._add_device(OWN, message, (0, 0, 0, 0))
        self._note_own_addresses()

    def _attach(self, message: Message) -> None:
        number = message.number("port", FIRST_PEER - 1)
        if number in {OWN, GATEWAY}:
            raise RouterError(f"port {number} is the router's own")
        addresses = [
            packed(ipaddress.ip_address(text))
            for text in message.texts("addresses", MOST_ADDRESSES)
        ]
        limits = _limits(message)
        connections = message.number("connections", MOST_CONNECTIONS)
        self._check_free(number)
        self._note_own_addresses()
        with ExitStack() as undo:
            undo.callback(self._plane.disown, number)
            for address in addresses:
                self._own(number, address)
            self._add_device(number, message, limits)
            undo.pop_all()
        self._plane.cap(number, connections)

    def _check_free(self, number: int) -> None:
        if number in self._devices:
            raise RouterError(f"port {number} is attached already")

    def _own(self, number: int, address: bytes) -> None:
        if not self._plane.own(number, address):
            raise RouterError(f"address {unpacked(address)} is another port's")

    def _add_device(self, number: int, message: Message, limits: Limits) -> None:
        descriptor = message.descriptor()
        device.check(descriptor.fileno())
        os.set_blocking(descriptor.fileno(), False)
        tun.set_offloads(descriptor.fileno())
        self._plane.add_tun(number, descriptor.fileno(), limits)
        self._devices[number] = Fd(descriptor.release())

    def _detach(self, message: Message) -> None:
        self._remove(message.number("port", FIRST_PEER - 1))

    def _remove(self, number: int) -> None:
        if self._peers.remove(number):
            return
        self._plane.remove(number)
        descriptor = self._devices.pop(number, None)
        if descriptor is not None:
            descriptor.close()

    def _note_own_addresses(self) -> None:
        """Nobody may claim what is the host's own now."""
        self._plane.disown(OWN)
        for address in self._hosts.read():
            self._plane.own(OWN, address)

    def _listen(self, message: Message) -> None:
        credentials = message.body.get("credentials") is True
        stream = socket.socket(fileno=message.descriptor().release())
        self._peers.listen(stream, credentials=credentials)

    def _gateway(self, message: Message) -> None:
        if GATEWAY in self._devices:
            raise RouterError("the router has a gateway already")
        routes = b"".join(map(bytes.fromhex, message.texts("routes", MOST_ROUTES)))
        descriptor = message.descriptor()
        self._note_own_addresses()
        self._plane.add_gateway(GATEWAY, descriptor.fileno(), routes)
        self._devices[GATEWAY] = Fd(descriptor.release())

    # -- captures

    def _capture(self, message: Message) -> None:
        number = message.number("port", FIRST_PEER - 1)
        bounds = [message.number(key, MOST_BYTES) for key in ("packets", "bytes", "seconds")]
        if self._captured is not None:
            self._end_capture(message)
        stream = message.descriptor()
        self._plane.capture(number, stream.fileno(), *bounds)
        self._captured = Fd(stream.release())

    def _end_capture(self, _message: Message) -> dict[str, Any]:
        captured, lost = self._plane.end_capture()
        if self._captured is not None:
            self._captured.close()
            self._captured = None
        return {"captured": captured, "lost": lost}

    # -- other routers

    def _allot(self, message: Message) -> None:
        number = message.number("port", GATEWAY - 1)
        for text in message.texts("networks", MOST_NETWORKS):
            network = ipaddress.ip_network(text)
            bits = network.prefixlen + (96 if network.version == 4 else 0)
            if not self._plane.allot(number, packed(network.network_address), bits):
                self._plane.disallot(number)
                raise RouterError(f"network {text} is another router's")

    def _trunk(self, message: Message) -> None:
        number = message.number("port", GATEWAY - 1)
        stream = message.descriptor()
        if number in self._devices:
            self._remove(number)
        os.set_blocking(stream.fileno(), False)
        self._plane.add_trunk(number, stream.fileno())
        self._devices[number] = Fd(stream.release())

    def _routes(self, message: Message) -> None:
        number = message.number("port", GATEWAY - 1)
        data = protocol.read_memory(message.descriptor())
        self._note_own_addresses()
        self._plane.disown(number)
        for at in range(0, len(data), 16):
            self._plane.own(number, data[at : at + 16])

    # -- rules and what is told

    def _rules(self, message: Message) -> None:
        if len(message.descriptors) != 2:
            raise RouterError("rules come with what they counted")
        table, counts = (protocol.read_memory(each) for each in message.descriptors)
        self._plane.load(table)
        for identity, packets, size in json.loads(counts):
            self._plane.restore(identity, packets, size)

    def _tell_rules(self, _message: Message) -> dict[str, Any]:
        return {"rules": self._plane.rule_counts(), "totals": self._plane.totals()}

    def _tell_peers(self, _message: Message) -> dict[str, Any]:
        rows = []
        for number, peer in self._peers.all().items():
            counters = self._board.port(number)
            addresses = [unpacked(one) for one in self._plane.addresses(number)]
            rows.append(
                {
                    "port": number,
                    "addresses": addresses,
                    "credentials": peer.credentials,
                    "out_packets": counters.out_packets,
                    "out_bytes": counters.out_bytes,
                    "in_packets": counters.in_packets,
                    "in_bytes": counters.in_bytes,
                    "drops": counters.drops,
                }
            )
        return {"peers": rows}


def _limits(message: Message) -> Limits:
    value = message.body.get("bandwidth")
    if not isinstance(value, list) or len(value) != 4:
        raise RouterError("router message: bandwidth is not four numbers")
    for number in value:
        if not isinstance(number, int) or not 0 <= number <= MOST_BYTES:
            raise RouterError(f"router message: {number} is no bandwidth")
    return value[0], value[1], value[2], value[3]


def isolate() -> HostAddresses:
    """Become a process that has its socket alone, in phases. Raises OSError."""
    isolation.close_all_but(CHANNEL)
    hosts = HostAddresses()
    isolation.leave_namespaces()
    isolation.leave_files()
    isolation.limit_resources()
    isolation.leave_privileges()
    isolation.seal(seal())
    return hosts


def main() -> int:
    """Be a router until its supervisor ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the supervisor
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        hosts = isolate()
    except OSError as error:
        log.write(f"donjon: the tuntap router cannot isolate itself: {error}")
        return 1
    channel = socket.socket(fileno=CHANNEL)
    first = protocol.receive(channel)
    if first is None:
        return 0
    memory, *notes = first.descriptors
    board = Board(memory)
    protocol.send(channel, {"ok": True})
    try:
        Router(channel, hosts, board, *notes[:1]).run()
    except BrokenPipeError:
        return 0  # the supervisor ended while it was answered
    return 0


if __name__ == "__main__":
    sys.exit(main())
