"""The supervisor's side of a router: what it gives to it, and what it keeps for the next one.

The client holds duplicates of all descriptors that it gave away, the addresses, the rules, the
memory of the counters, and the socket on which routers tell what rules note. So devices live on
when a router ends, and ``resume`` puts a new one in the place of the old: jails notice nothing but
a short silence. Until a new router has rules, a jail that it is given has no network: rules are
sent before ports.

What is asked of a router is written as steps: a generator that yields requests and is sent the
answers. ``RouterClient`` walks them at once and waits for each answer; who must not wait walks
them otherwise (``emperor.letters``).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from donjon.errors import reason_of
from donjon.fd import Fd
from donjon.records import dataclass, replace
from donjon.tuntap import notes, protocol
from donjon.tuntap.counters import GATEWAY, Board, PortCounters
from donjon.tuntap.protocol import Do, Message, RouterError, RouterGoneError

PATIENCE = 5.0
"""Seconds that an answer may take."""

MOST_ADDRESSES = 64
"""Addresses of one port."""

MOST_BYTES = (1 << 40) - 1
"""The greatest bandwidth, bytes per second."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the router; its descriptors are lent until it is answered."""

    do: Do
    descriptors: tuple[int, ...]
    more: Mapping[str, Any]


Steps = Generator[Request, Message, T]
"""What is asked, one request after the other. An error is thrown in where the answer would be."""


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
    connections: int = 0


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
    with contextlib.ExitStack() as refused:
        refused.enter_context(descriptor)
        try:
            yield
        except RouterGoneError:
            refused.pop_all()
            keep()
            raise
        refused.pop_all()
        keep()


def _duplicate(descriptor: int) -> Fd:
    """Return another of it. Raises RouterError."""
    try:
        return Fd(os.dup(descriptor))
    except OSError as error:
        raise RouterError("cannot give the router anything", reason=reason_of(error)) from error


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
        self.notes, self._noting = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.notes.settimeout(0)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.notes)
            stack.enter_context(self._noting)
            self._open()
            stack.pop_all()

    def _open(self) -> None:
        """Have the first words with the router."""
        self._run(self._beginning())

    def fileno(self) -> int:
        """Return the socket's number: it becomes readable (end of file) when the router ends."""
        return self._channel.fileno()

    # -- the router's own

    def device(self, descriptor: int) -> None:
        """Give it its own tun device: port 0, where packets for no jail go (``device.open_tun``).

        The descriptor stays the caller's, as in all calls: the client duplicates it.
        """
        self._run(self.lending(Do.DEVICE, descriptor))

    def listen(self, descriptor: int, *, credentials: bool = False) -> None:
        """Accept framed peers on a listening stream socket, AF_UNIX or TCP.

        With ``credentials`` a peer must first say who it is (uwsgi-facts 5.7), over AF_UNIX.
        """
        self._run(self.lending(Do.LISTEN, descriptor, credentials=credentials))

    def alive(self) -> None:
        """Ask for nothing but an answer."""
        self._run(self.living())

    def living(self) -> Steps[None]:
        """As ``alive``, in steps."""
        yield from self._asking(Do.ALIVE)

    def gateway(self, descriptor: int, routes: Sequence[bytes]) -> None:
        """Give it a socket of UDP that is its gateway, and what goes there (``Route.packed``)."""
        texts = [one.hex() for one in routes]
        self._run(self.lending(Do.GATEWAY, descriptor, routes=texts))

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
        connections: int = 0,
    ) -> int:
        """Attach a jail's tun device; return the number of its port, for rules and counters.

        ``device_fd`` was opened in the jail's network namespace by ``device.open_tun``. Packets
        from it are believed only with a source among ``addresses``. The name must not be attached.
        ``connections`` are those that it may hold at once, where rules remember any: beyond that
        its new ones are refused. 0 is what all may hold; then it forgets its own oldest.
        Raises RouterError, among others for an address that is another port's.
        """
        return self._run(
            self.attaching(
                name, device_fd, addresses, bandwidth=bandwidth, connections=connections
            )
        )

    def attaching(
        self,
        name: str,
        device_fd: int,
        addresses: Sequence[Address | str],
        *,
        bandwidth: Bandwidth = UNLIMITED,
        connections: int = 0,
    ) -> Steps[int]:
        """As ``attach``, in steps; the device is duplicated now."""
        texts = tuple(str(ipaddress.ip_address(address)) for address in addresses)
        if len(texts) > MOST_ADDRESSES:
            raise RouterError(f"{name} has {len(texts)} addresses", reason="at most 64")
        device = _duplicate(device_fd)
        return self._admitting(name, _Port(0, device, texts, bandwidth, connections))

    def _admitting(self, name: str, asked: _Port) -> Steps[int]:
        with asked.device:
            if name in self._ports:
                raise RouterError(f"{name} is attached to the router already")
            number = self._free_number()
            port = replace(asked, number=number, device=Fd(asked.device.release()))
        self._board.clear(number)
        with _kept(port.device, lambda: self._ports.update({name: port})):
            yield from self._attaching(name, port)
        return number

    def detach(self, name: str) -> None:
        """Forget a jail and close its device; nothing if it is not attached."""
        self._run(self.detaching(name))

    def detaching(self, name: str) -> Steps[None]:
        """As ``detach``, in steps."""
        port = self._ports.pop(name, None)
        if port is None:
            return
        port.device.close()
        yield from self._asking(Do.DETACH, port=port.number)

    def port(self, name: str) -> int:
        """Return the number of an attached jail. Raises KeyError."""
        return self._ports[name].number

    # -- captures

    def capture(self, name: str, stream: int, *, packets: int, size: int, seconds: int) -> None:
        """Give packets of a jail, both ways, to a SEQPACKET socket: one message is one record of
        a pcap file (link type RAW, nanoseconds).

        It is shut down at a bound, ``size`` are bytes of records, and where the jail is detached;
        one at a time. What the socket does not take at once is lost. Raises KeyError.
        """
        self._run(self.capturing(name, stream, packets=packets, size=size, seconds=seconds))

    def capturing(
        self, name: str, stream: int, *, packets: int, size: int, seconds: int
    ) -> Steps[None]:
        """As ``capture``, in steps; the socket is duplicated now."""
        bounds = {"packets": packets, "bytes": size, "seconds": seconds}
        number = self._ports[name].number
        return self._capturing(number, _duplicate(stream), bounds)

    def _capturing(self, number: int, stream: Fd, bounds: Mapping[str, int]) -> Steps[None]:
        with stream:
            yield from self._asking(Do.CAPTURE, stream.fileno(), port=number, **bounds)

    def end_capture(self) -> tuple[int, int]:
        """End it; return how many packets were captured, and how many lost."""
        return self._run(self.ending_capture())

    def ending_capture(self) -> Steps[tuple[int, int]]:
        """As ``end_capture``, in steps."""
        return (yield from self._asking_memory(Do.END_CAPTURE, _captured))

    # -- other routers

    def allot(self, name: str, networks: Sequence[str]) -> int:
        """Let nobody but the other router ``name`` have addresses of these networks; return its
        port. Where it has none of an address now, that is nobody's. Raises RouterError."""
        return self._run(self.allotting(name, networks))

    def allotting(self, name: str, networks: Sequence[str]) -> Steps[int]:
        """As ``allot``, in steps; the port is its from now on."""
        trunk = _Trunk(self._free_number(), tuple(networks))
        self._board.clear(trunk.number)
        self._trunks[name] = trunk
        return self._admitting_trunk(name, trunk)

    def _admitting_trunk(self, name: str, trunk: _Trunk) -> Steps[int]:
        try:
            yield from self._allotting(trunk)
        except RouterGoneError:
            raise  # the next router is told
        except RouterError:
            del self._trunks[name]
            raise
        return trunk.number

    def trunk(self, name: str, stream: int) -> None:
        """Give the router a stream of frames to another one, in the place of the last; it has to
        be told again where routes lead, and the next router to be given another stream."""
        self._run(self.trunking(name, stream))

    def trunking(self, name: str, stream: int) -> Steps[None]:
        """As ``trunk``, in steps; the stream is duplicated now."""
        return self._trunking(name, _duplicate(stream))

    def _trunking(self, name: str, stream: Fd) -> Steps[None]:
        with stream:
            yield from self._asking(Do.TRUNK, stream.fileno(), port=self._trunk_of(name))

    def _trunk_of(self, name: str) -> int:
        trunk = self._trunks.get(name)
        if trunk is None:
            raise RouterError(f"no networks are allotted to {name}")
        return trunk.number

    def routes(self, name: str, addresses: Sequence[bytes]) -> None:
        """Say which addresses are behind another router now, as ``hostaddresses.packed``.

        Those outside of its networks, and the host's, are not believed.
        """
        self._run(self.routing(name, addresses))

    def routing(self, name: str, addresses: Sequence[bytes]) -> Steps[None]:
        """As ``routes``, in steps."""
        with protocol.memory("routes", b"".join(addresses)) as found:
            yield from self._asking(Do.ROUTES, found.fileno(), port=self._trunk_of(name))

    def trunk_counters(self, name: str) -> PortCounters:
        """Return what passed; ``out`` is from the other router to us. Raises KeyError."""
        return self._board.port(self._trunks[name].number)

    # -- rules and counters

    def rules(self, table: bytes) -> None:
        """Put a compiled table in force, whole and at once; a bad one leaves the old in force."""
        self._run(self.ruling(table))

    def ruling(self, table: bytes) -> Steps[None]:
        """As ``rules``, in steps."""
        try:
            yield from self._sending_rules(table, {})
        except RouterGoneError:
            self._table = table  # the next router gets it
            raise
        self._table = table

    def counters(self) -> Counters:
        """Return all counters. What survives a router is told even when there is none."""
        return self._run(self.counting())

    def counting(self) -> Steps[Counters]:
        """As ``counters``, in steps."""
        jails = {name: self._board.port(port.number) for name, port in self._ports.items()}
        peers = yield from self._asking_memory(Do.PEERS, _peers)
        self._rules, totals = yield from self._asking_memory(Do.RULE_COUNTS, _counted)
        return Counters(jails, self._board.port(0), peers, dict(self._rules), totals)

    def port_counters(self, name: str) -> PortCounters:
        """Return the counters of one jail, without asking the router. Raises KeyError."""
        return self._board.port(self._ports[name].number)

    def noted(self) -> list[notes.Note]:
        """Return what rules noted since; of a flood, some. ``notes`` is readable when there is.

        Raises RouterError when a router has shut it down: it stays readable, and says nothing.
        """
        found: list[notes.Note] = []
        for _ in range(notes.MESSAGES):
            try:
                message = self.notes.recv(notes.LARGEST)
            except BlockingIOError:
                break
            if not message:
                raise RouterError("the router shut down the socket of what rules note")
            found += notes.read(message)
        return found

    def names(self) -> dict[int, str]:
        """Return the jails by the numbers of their ports."""
        return {port.number: name for name, port in self._ports.items()}

    # -- another router

    def resume(self, channel: socket.socket) -> dict[str, RouterError]:
        """Go on with a new router: it is given all that the last one had. Raises RouterError.

        Returns the jails that it refused, and why: their device was deleted, or an address is the
        host's by now. They have no network, and the next router is asked again.
        """
        self._channel.close()
        self._channel = channel
        return self._run(self.resuming())

    def resuming(self) -> Steps[dict[str, RouterError]]:
        """As ``resume``, in steps, once there is another channel."""
        yield from self._beginning()
        if self._table is not None:
            yield from self._sending_rules(self._table, self._rules)
        for trunk in self._trunks.values():
            yield from self._allotting(trunk)
        for lent in self._lent:
            yield from self._asking(lent.do, lent.descriptor.fileno(), **lent.more)
        refused = {}
        for name, port in self._ports.items():
            try:
                yield from self._attaching(name, port)
            except RouterGoneError:
                raise
            except RouterError as error:
                refused[name] = error
        return refused

    def close(self) -> None:
        """End the conversation, and with it the router; close all duplicates."""
        self._channel.close()
        self.notes.close()
        self._noting.close()
        for descriptor in (
            *(port.device for port in self._ports.values()),
            *(lent.descriptor for lent in self._lent),
        ):
            descriptor.close()
        self._ports.clear()
        self._lent.clear()
        self._board.close()

    # -- messages

    def _beginning(self) -> Steps[None]:
        memory = self._board.descriptor.fileno()
        yield from self._asking(Do.BEGIN, memory, self._noting.fileno())

    def lending(self, do: Do, descriptor: int, **more: Any) -> Steps[None]:
        """As ``device`` and ``listen``, in steps; the descriptor is duplicated now."""
        return self._lending(_Lent(do, _duplicate(descriptor), more))

    def _lending(self, lent: _Lent) -> Steps[None]:
        with _kept(lent.descriptor, lambda: self._lent.append(lent)):
            yield from self._asking(lent.do, lent.descriptor.fileno(), **lent.more)

    def _attaching(self, name: str, port: _Port) -> Steps[None]:
        yield from self._asking(
            Do.ATTACH,
            port.device.fileno(),
            name=name,
            port=port.number,
            addresses=port.addresses,
            bandwidth=port.bandwidth.fields(),
            connections=port.connections,
        )

    def _allotting(self, trunk: _Trunk) -> Steps[None]:
        yield from self._asking(Do.ALLOT, port=trunk.number, networks=trunk.networks)

    def _sending_rules(self, table: bytes, counted: Mapping[int, tuple[int, int]]) -> Steps[None]:
        counts = json.dumps([[key, *value] for key, value in counted.items()]).encode()
        with protocol.memory("rules", table) as rules, protocol.memory("counts", counts) as kept:
            yield from self._asking(Do.RULES, rules.fileno(), kept.fileno())

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

    def _asking_memory(self, do: Do, read: Callable[[Any], T]) -> Steps[T]:
        """Ask for JSON; return what ``read`` makes of it. Raises RouterError for nonsense, as who
        has taken a router over may answer."""
        answer = yield Request(do, (), {})
        try:
            return read(json.loads(protocol.read_memory(answer.descriptor())))
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise RouterError(f"the router's answer to {do.value}", reason=reason) from error
        finally:
            answer.close()

    def _asking(self, do: Do, *descriptors: int, **more: Any) -> Steps[None]:
        (yield Request(do, descriptors, more)).close()

    def _run(self, steps: Steps[T]) -> T:
        """Walk steps to their end, and wait for each answer."""
        self._channel.settimeout(PATIENCE)
        try:
            request = next(steps)
            while True:
                try:
                    answer = self._exchange(request)
                except RouterError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _exchange(self, request: Request) -> Message:
        try:
            self._send(request)
            answer = protocol.receive(self._channel)
        except OSError as error:
            raise self._lost(request, error.strerror or str(error)) from error
        return self._accepted(request, answer)

    def _send(self, request: Request) -> None:
        body = {"do": request.do.value, **request.more}
        protocol.send(self._channel, body, request.descriptors)

    def _lost(self, request: Request, reason: str) -> RouterGoneError:
        """Hear nothing more of a router that does not answer. Returns the error of ``request``."""
        with contextlib.suppress(OSError):  # it may have ended
            self._channel.shutdown(socket.SHUT_RDWR)
        return RouterGoneError(f"the router does not answer to {request.do.value}", reason=reason)

    def _accepted(self, request: Request, answer: Message | None) -> Message:
        """Return an answer that grants the request. Raises RouterError for another one."""
        if answer is None:
            raise RouterGoneError(f"the router ended before it answered to {request.do.value}")
        if answer.body.get("ok") is not True:
            answer.close()
            raise RouterError(str(answer.body.get("error", "the router refused")))
        return answer


def _captured(found: Any) -> tuple[int, int]:
    return int(found["captured"]), int(found["lost"])


def _peers(found: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(dict(row) for row in found["peers"])


def _counted(found: Any) -> tuple[dict[int, tuple[int, int]], dict[str, int]]:
    rules = {int(number): (int(packets), int(size)) for number, packets, size in found["rules"]}
    totals = found["totals"]
    return rules, {str(key): int(totals[key]) for key in totals}
