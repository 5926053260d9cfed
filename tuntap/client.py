"""The supervisor's side of a router: what it gives to it, and what it keeps for the next one.

The client holds duplicates of all descriptors that it gave away, the addresses, the rules and the
memory of the counters. So devices live on when a router ends, and ``resume`` puts a new one in the
place of the old: jails notice nothing but a short silence. Until a new router has rules, a jail
that it is given has no network: rules are sent before ports.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from donjon.fd import Fd
from donjon.records import dataclass
from donjon.tuntap import protocol
from donjon.tuntap.counters import GATEWAY, Board, PortCounters
from donjon.tuntap.protocol import Do, Message, RouterError, RouterGoneError

PATIENCE = 5.0
"""Seconds that an answer may take."""

MOST_ADDRESSES = 64
"""Addresses of one port."""

MOST_BYTES = (1 << 40) - 1
"""The greatest bandwidth, bytes per second."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Bytes per second and the burst in bytes for each direction; 0 is no limit.

    ``out`` is from the jail, ``into`` towards it. A burst of 0 is 20 ms of its rate.
    """

    out: int = 0
    out_burst: int = 0
    into: int = 0
    into_burst: int = 0

    def fields(self) -> tuple[int, int, int, int]:
        """Return the four numbers in the order of the message."""
        return self.out, self.out_burst, self.into, self.into_burst


UNLIMITED = Bandwidth()


@dataclass(frozen=True, slots=True)
class Counters:
    """All that is counted: jails by name, the router's own device, framed peers, rules.

    ``peers`` are rows of the statistics (uwsgi-facts 5.8); ``rules`` maps the identity of a rule
    to (packets, bytes); ``totals`` are those of the firewall by their names.
    """

    jails: Mapping[str, PortCounters]
    device: PortCounters
    peers: tuple[Mapping[str, Any], ...]
    rules: Mapping[int, tuple[int, int]]
    totals: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Port:
    """A jail that is attached, with a duplicate of its device."""

    number: int
    device: Fd
    addresses: tuple[str, ...]
    bandwidth: Bandwidth


@dataclass(frozen=True, slots=True)
class _Trunk:
    """Another router and its networks."""

    number: int
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Lent:
    """Something of the router's own that it was given: its device, a listener."""

    do: Do
    descriptor: Fd
    more: Mapping[str, Any]


@contextlib.contextmanager
def _kept(descriptor: Fd, keep: Callable[[], None]) -> Iterator[None]:
    """Give a router something: it is kept for the next one too, but closed if it is refused."""
    try:
        yield
    except RouterGoneError:
        keep()
        raise
    except BaseException:
        descriptor.close()
        raise
    keep()


class RouterClient:
    """A router, as its supervisor sees it.

    Each call waits for the answer, ``PATIENCE`` at most. It raises RouterError with the router's
    reason, or RouterGoneError when there is no router any more; then nothing is lost: what was
    asked before stays noted, and ``resume`` goes on with another router.
    """

    def __init__(self, channel: socket.socket, board: Board | None = None) -> None:
        """Begin the conversation on ``channel``, which the client owns from now on."""
        self._channel = channel
        self._board = board or Board()
        self._ports: dict[str, _Port] = {}
        self._trunks: dict[str, _Trunk] = {}
        self._lent: list[_Lent] = []
        self._table: bytes | None = None
        self._rules: dict[int, tuple[int, int]] = {}
        self._next = 1
        self._begin()

    def fileno(self) -> int:
        """Return the socket's number: it becomes readable (end of file) when the router ends."""
        return self._channel.fileno()

    # -- the router's own

    def device(self, descriptor: int) -> None:
        """Give it its own tun device: port 0, where packets for no jail go (``device.open_tun``).

        The descriptor stays the caller's, as in all calls: the client duplicates it.
        """
        self._lend(Do.DEVICE, descriptor)

    def listen(self, descriptor: int, *, credentials: bool = False) -> None:
        """Accept framed peers on a listening stream socket, AF_UNIX or TCP.

        With ``credentials`` a peer must first say who it is (uwsgi-facts 5.7), over AF_UNIX.
        """
        self._lend(Do.LISTEN, descriptor, credentials=credentials)

    def gateway(self, descriptor: int, routes: Sequence[bytes]) -> None:
        """Give it a socket of UDP that is its gateway, and what goes there (``Route.packed``)."""
        texts = [one.hex() for one in routes]
        self._lend(Do.GATEWAY, descriptor, routes=texts)

    def gateway_counters(self) -> PortCounters | None:
        """Return the counters of the gateway, None without one."""
        lent = any(one.do is Do.GATEWAY for one in self._lent)
        return self._board.port(GATEWAY) if lent else None

    # -- jails

    def attach(
        self,
        name: str,
        device_fd: int,
        addresses: Sequence[Address | str],
        *,
        bandwidth: Bandwidth = UNLIMITED,
    ) -> int:
        """Attach a jail's tun device; return the number of its port, for rules and counters.

        ``device_fd`` was opened in the jail's network namespace by ``device.open_tun``. Packets
        from it are believed only with a source among ``addresses``. The name must not be attached.
        Raises RouterError, among others for an address that is another port's.
        """
        if name in self._ports:
            raise RouterError(f"{name} is attached to the router already")
        number = self._free_number()
        texts = tuple(str(ipaddress.ip_address(address)) for address in addresses)
        if len(texts) > MOST_ADDRESSES:
            raise RouterError(f"{name} has {len(texts)} addresses", reason="at most 64")
        self._board.clear(number)
        port = _Port(number, Fd(os.dup(device_fd)), texts, bandwidth)
        with _kept(port.device, lambda: self._ports.update({name: port})):
            self._attach(name, port)
        return number

    def detach(self, name: str) -> None:
        """Forget a jail and close its device; nothing if it is not attached."""
        port = self._ports.pop(name, None)
        if port is None:
            return
        port.device.close()
        self._ask(Do.DETACH, port=port.number)

    def port(self, name: str) -> int:
        """Return the number of an attached jail. Raises KeyError."""
        return self._ports[name].number

    # -- other routers

    def allot(self, name: str, networks: Sequence[str]) -> int:
        """Let nobody but the other router ``name`` have addresses of these networks; return its
        port. Where it has none of an address now, that is nobody's. Raises RouterError."""
        trunk = _Trunk(self._free_number(), tuple(networks))
        self._board.clear(trunk.number)
        try:
            self._allot(trunk)
        except RouterGoneError:
            self._trunks[name] = trunk  # the next router is told
            raise
        self._trunks[name] = trunk
        return trunk.number

    def trunk(self, name: str, stream: int) -> None:
        """Give the router a stream of frames to another one, in the place of the last; it has to
        be told again where routes lead, and the next router to be given another stream."""
        self._ask(Do.TRUNK, stream, port=self._trunks[name].number)

    def routes(self, name: str, addresses: Sequence[bytes]) -> None:
        """Say which addresses are behind another router now, as ``hostaddresses.packed``.

        Those outside of its networks, and the host's, are not believed.
        """
        trunk = self._trunks[name]
        with protocol.memory("routes", b"".join(addresses)) as found:
            self._ask(Do.ROUTES, found.fileno(), port=trunk.number)

    def trunk_counters(self, name: str) -> PortCounters:
        """Return what passed; ``out`` is from the other router to us. Raises KeyError."""
        return self._board.port(self._trunks[name].number)

    # -- rules and counters

    def rules(self, table: bytes) -> None:
        """Put a compiled table in force, whole and at once; a bad one leaves the old in force."""
        try:
            self._send_rules(table, {})
        except RouterGoneError:
            self._table = table  # the next router gets it
            raise
        self._table = table

    def counters(self) -> Counters:
        """Return all counters. What survives a router is told even when there is none."""
        jails = {name: self._board.port(port.number) for name, port in self._ports.items()}
        peers = self._ask_memory(Do.PEERS).get("peers", [])
        counted = self._ask_memory(Do.RULE_COUNTS)
        self._rules = {int(row[0]): (int(row[1]), int(row[2])) for row in counted.get("rules", [])}
        totals = {str(key): int(value) for key, value in counted.get("totals", {}).items()}
        return Counters(jails, self._board.port(0), tuple(peers), dict(self._rules), totals)

    def port_counters(self, name: str) -> PortCounters:
        """Return the counters of one jail, without asking the router. Raises KeyError."""
        return self._board.port(self._ports[name].number)

    # -- another router

    def resume(self, channel: socket.socket) -> dict[str, RouterError]:
        """Go on with a new router: it is given all that the last one had. Raises RouterError.

        Returns the jails that it refused, and why: their device was deleted, or an address is the
        host's by now. They have no network, and the next router is asked again.
        """
        self._channel.close()
        self._channel = channel
        self._begin()
        if self._table is not None:
            self._send_rules(self._table, self._rules)
        for trunk in self._trunks.values():
            self._allot(trunk)
        for lent in self._lent:
            self._ask(lent.do, lent.descriptor.fileno(), **lent.more)
        refused = {}
        for name, port in self._ports.items():
            try:
                self._attach(name, port)
            except RouterGoneError:
                raise
            except RouterError as error:
                refused[name] = error
        return refused

    def close(self) -> None:
        """End the conversation, and with it the router; close all duplicates."""
        self._channel.close()
        for descriptor in (
            *(port.device for port in self._ports.values()),
            *(lent.descriptor for lent in self._lent),
        ):
            descriptor.close()
        self._ports.clear()
        self._lent.clear()
        self._board.close()

    # -- messages

    def _begin(self) -> None:
        self._channel.settimeout(PATIENCE)
        self._ask(Do.BEGIN, self._board.descriptor.fileno())

    def _lend(self, do: Do, descriptor: int, **more: Any) -> None:
        lent = _Lent(do, Fd(os.dup(descriptor)), more)
        with _kept(lent.descriptor, lambda: self._lent.append(lent)):
            self._ask(do, lent.descriptor.fileno(), **more)

    def _attach(self, name: str, port: _Port) -> None:
        self._ask(
            Do.ATTACH,
            port.device.fileno(),
            name=name,
            port=port.number,
            addresses=port.addresses,
            bandwidth=port.bandwidth.fields(),
        )

    def _allot(self, trunk: _Trunk) -> None:
        self._ask(Do.ALLOT, port=trunk.number, networks=trunk.networks)

    def _send_rules(self, table: bytes, counted: Mapping[int, tuple[int, int]]) -> None:
        counts = json.dumps([[key, *value] for key, value in counted.items()]).encode()
        with protocol.memory("rules", table) as rules, protocol.memory("counts", counts) as kept:
            self._ask(Do.RULES, rules.fileno(), kept.fileno())

    def _free_number(self) -> int:
        taken = {port.number for port in self._ports.values()}
        taken |= {trunk.number for trunk in self._trunks.values()}
        if len(taken) >= GATEWAY - 1:
            raise RouterError(f"the router has {len(taken)} jails", reason="no more port numbers")
        while self._next in taken:
            self._next = self._next % (GATEWAY - 1) + 1
        number = self._next
        self._next = number % (GATEWAY - 1) + 1
        return number

    def _ask_memory(self, do: Do) -> dict[str, Any]:
        answer = self._exchange(do, (), {})
        try:
            value = json.loads(protocol.read_memory(answer.descriptor()))
        except ValueError as error:
            raise RouterError(f"the router's answer to {do.value} is no JSON") from error
        finally:
            answer.close()
        if not isinstance(value, dict):
            raise RouterError(f"the router's answer to {do.value} is no object")
        return value

    def _ask(self, do: Do, *descriptors: int, **more: Any) -> None:
        self._exchange(do, descriptors, more).close()

    def _exchange(self, do: Do, descriptors: Sequence[int], more: Mapping[str, Any]) -> Message:
        try:
            protocol.send(self._channel, {"do": do.value, **more}, descriptors)
            answer = protocol.receive(self._channel)
        except OSError as error:
            with contextlib.suppress(OSError):  # it may have ended
                self._channel.shutdown(socket.SHUT_RDWR)  # late answers end here
            raise RouterGoneError(
                f"the router does not answer to {do.value}", reason=error.strerror or str(error)
            ) from error
        if answer is None:
            raise RouterGoneError(f"the router ended before it answered to {do.value}")
        if answer.body.get("ok") is not True:
            answer.close()
            raise RouterError(str(answer.body.get("error", "the router refused")))
        return answer
