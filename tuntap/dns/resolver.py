"""The resolver process: isolates itself, then answers jails as its supervisor's book has it.

It is started by ``launch.start`` with a socket to its supervisor and nothing else, and ends with
that socket. It stays in the network namespace of who started it, from where upstream is reached;
its listening sockets are made there for it, bound to one device. Everything else it takes off: no
files, no user, no capability, and the system calls of the filter in its first message.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

from donjon import log, syscalls
from donjon.errors import DonjonError
from donjon.tuntap import isolation, protocol
from donjon.tuntap.dns import answers, book
from donjon.tuntap.dns.budget import Budgets
from donjon.tuntap.dns.forwarder import Forwarder, Reply
from donjon.tuntap.dns.launch import FIRST_USER
from donjon.tuntap.dns.loop import READ, Loop
from donjon.tuntap.dns.streams import Streams
from donjon.tuntap.launch import CHANNEL
from donjon.tuntap.protocol import LARGEST, Message

AT_ONCE = 32
"""Datagrams that are taken from a socket before others have their turn."""

COMPLAINTS = 2.0
"""Seconds between two words to the supervisor that nobody upstream answers."""


class Resolver:
    """Listening sockets, and what is asked on them."""

    def __init__(self, channel: socket.socket) -> None:
        """Begin without sockets and names."""
        self._channel = channel
        self._ended = False
        self._loop = Loop(channel)
        self._book = book.Book()
        self._budgets = Budgets()
        self._forwarder = Forwarder(self._loop)
        self._forwarder.lost = self._complain
        self._complained = 0.0
        self._streams = Streams(
            self._loop, lambda wire, host, reply: self._answer(wire, host, reply, is_stream=True)
        )
        self._loop.watch(channel, READ, self._hear)

    def serve(self, listener: socket.socket) -> None:
        """Answer on a socket: of datagrams, or one that listens."""
        listener.settimeout(0)
        if listener.type == socket.SOCK_DGRAM:
            self._loop.watch(listener, READ, lambda: self._take(listener))
        else:
            self._loop.watch(listener, READ, lambda: self._streams.accept(listener, self._whose))

    def run(self) -> None:
        """Work until the supervisor closes its end."""
        while not self._ended:
            dues = (self._forwarder.next_due(), self._streams.next_due())
            due = min((one for one in dues if one is not None), default=None)
            self._loop.turn(None if due is None else max(0.0, due - self._loop.now))
            self._forwarder.expire()
            self._streams.expire()

    def _hear(self) -> None:
        """Take all that was said before anybody is answered: who asks is in the last book."""
        with contextlib.suppress(BlockingIOError):
            while not self._ended:
                self._learn(protocol.receive(self._channel))

    def _learn(self, message: Message | None) -> None:
        if message is None:
            self._ended = True
            return
        try:
            self._book = book.read(protocol.read_memory(message.descriptor()))
        finally:
            message.close()
        self._forwarder.upstreams = self._book.upstreams
        self._budgets.keep({jail.addresses[0] for jail in self._book.jails})

    def _whose(self, host: str) -> object | None:
        """Return by what the jail at an address is known; None is nobody's."""
        jail = self._book.jail_at(host)
        return jail.addresses[0] if jail else None

    def _take(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                wire, address = listener.recvfrom(answers.LARGEST_QUESTION + 1)
            except OSError:
                return
            self._answer(wire, address[0], _sender(listener, address), is_stream=False)

    def _answer(self, wire: bytes, host: str, reply: Reply, *, is_stream: bool) -> None:
        """Answer, now or later; strangers and who asks too much are not answered at all."""
        jail = self._book.jail_at(host)
        if jail is None:
            return
        whose = jail.addresses[0]
        if not self._budgets.take(whose, self._loop.now):
            return
        question = answers.read(wire, is_stream=is_stream)
        if isinstance(question, bytes):
            reply(question)
        if not isinstance(question, answers.Question):
            return
        known = answers.local(question, self._book, jail)
        if known is not None:
            reply(known)
            return

        def charge_and_reply(wire: bytes) -> None:
            self._budgets.charge(whose, len(wire))
            reply(wire)

        self._forwarder.ask(question, whose, charge_and_reply)

    def _complain(self) -> None:
        """Tell the supervisor that nobody upstream answers: it may know others by now."""
        if self._loop.now - self._complained >= COMPLAINTS:
            self._complained = self._loop.now
            with contextlib.suppress(BlockingIOError):  # it has many such words to read
                protocol.send(self._channel, {"lost": True})


def _sender(listener: socket.socket, address: tuple[Any, ...]) -> Reply:
    def send(wire: bytes) -> None:
        with contextlib.suppress(OSError):  # it asks again
            listener.sendto(wire, address)

    return send


def isolate(first: Message) -> None:
    """Become a process that has its socket alone, and the network, with user and filter of the
    first message. Raises OSError, RouterError."""
    user, program = first.number("user", FIRST_USER + 0xFFFF), first.text("seal", LARGEST)
    isolation.leave_namespaces(network=False)
    isolation.leave_files()
    isolation.limit_resources()
    isolation.leave_privileges(user)
    isolation.seal(bytes.fromhex(program))


def main() -> int:
    """Be a resolver until its supervisor ends."""
    syscalls.set_name("donjon dns")
    answers.load()
    isolation.close_all_but(CHANNEL)
    channel = socket.socket(fileno=CHANNEL)
    try:
        first = protocol.receive(channel)
        if first is None:
            return 0
        isolate(first)
    except (OSError, DonjonError) as error:
        log.write(f"donjon: the resolver cannot isolate itself: {error}")
        return 1
    channel.settimeout(0)
    resolver = Resolver(channel)
    for descriptor in first.descriptors:
        resolver.serve(socket.socket(fileno=descriptor.release()))
    with contextlib.suppress(BrokenPipeError):  # the supervisor ended while it was told
        resolver.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
