"""A rehearsal of the start of an instance, in the zygote, before its heap is frozen.

CPython 3.11 rewrites the byte code of a function that ran a few times into forms that know the
types they meet (PEP 659). Until then every look-up of an attribute counts references up and down
on objects all over the heap, and each page so touched becomes a vassal's own. A zygote therefore
plays an instance through, without forking, without a trace outside, and with its output closed:
vassals find the code warm.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from donjon.jail.phase import Phase
from donjon.server import environment, hello, loader, uwsgi_module
from donjon.server.channel import Message, Word
from donjon.server.children import Child, Children, OnExit
from donjon.server.link import EmperorLink, ToEmperor
from donjon.server.loop import HANDLED
from donjon.server.master import Master
from donjon.server.order import Order
from donjon.server.phases import DropPoint, Reloaded
from donjon.server.sockets import Sockets
from donjon.server.spec import Application, Listener, ServerSpec, TouchHook
from donjon.server.worker import server_of

ROUNDS = 20
"""More than the interpreter needs to warm to a function, and to specialise what is in it."""

REQUEST = b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"


class Silence:
    """Phases in which nothing happens."""

    def run(self, phase: Phase) -> None:
        """Do nothing."""

    def drop(self, point: DropPoint) -> None:
        """Do nothing."""

    def touch(self, hook: TouchHook) -> None:
        """Do nothing."""

    def alarm(self, name: str, message: str) -> None:
        """Do nothing."""


class Barren(Children):
    """Children of which none is ever born."""

    def fork(self, main: Callable[[], NoReturn], on_exit: OnExit) -> Child:  # noqa: ARG002
        """Pretend."""
        return Child(0, -1)


def rehearse(rounds: int = ROUNDS) -> None:
    """Play the start of an instance through. To be called in a process of one thread."""
    saved = os.dup(1), os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    handlers = {number: signal.getsignal(number) for number in (*HANDLED, signal.SIGPIPE)}
    arguments, path = list(sys.argv), list(sys.path)
    try:
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        for _ in range(rounds):
            _play()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        sys.argv[:], sys.path[:] = arguments, path
        for name in [name for name in sys.modules if name == "uwsgi" or "_server_hello" in name]:
            del sys.modules[name]
        uwsgi_module.prepare()
        for target, fd in enumerate(saved, 1):
            os.dup2(fd, target)
            os.close(fd)
        os.close(silence)


def _play() -> None:
    address = f"@donjon-rehearsal-{os.urandom(16).hex()}"  # nobody can take it before us
    spec = ServerSpec(
        listeners=(Listener(address, "http"),),
        listen=1,
        applications=(Application("wsgi-file", str(hello.__file__)),),
        master=True,
    )
    wanted = Reloaded(spec, Silence())
    sockets = Sockets()
    served = sockets.open(spec)
    throne, vassal = socket.socketpair()
    emperor = EmperorLink(vassal.detach())
    master = Master(
        wanted, lambda: wanted, (sockets, served),
        emperor=emperor, companions=(), on_ready=_nothing, private=(),
    )  # fmt: skip
    try:
        _lead(master)
        order = Order(
            number=1, spec=spec, phases=wanted.phases, sockets=sockets, served=served,
            board=master.current.board, channel=master.channel, master=os.getpid(), slots=(1,),
            emperor_fd=emperor.fileno(),
        )  # fmt: skip
        _work(order, address)
    finally:
        master.channel.close()
        master.loop.close()
        sockets.close(vacuum=True)
        emperor.close()
        throne.close()


def _nothing() -> None:
    """Be told."""


def _lead(master: Master) -> None:
    """Be the master up to the point at which all workers accept."""
    barren = Barren(master.loop)
    master.children = barren
    object.__setattr__(master.owner, "children", barren)
    master.take_signals()
    master.loop.watch(master.channel.fileno(), master.hear)
    assert master.emperor is not None
    master.loop.watch(master.emperor.fileno(), master.hear_emperor, keep=True)
    master.current.start()
    for word in (Word.LOADED, Word.ONCE, Word.ACCEPTING):
        master.channel.send(Message(word, 1, 1, 0))
        master.loop.turn(0)


def _work(order: Order, address: str) -> None:
    """Be worker 1 up to its first answer."""
    before = environment.snapshot()
    order.tell_emperor(ToEmperor.SPAWNED)
    life = uwsgi_module.Life(order.spec, order.master, order.board, order.channel)
    life.slot, life.bank = 1, 0
    module = uwsgi_module.install(life)
    loader.prepare(order.spec)
    applications = loader.load(order.spec, module, must=True)
    order.say(Word.LOADED, payload=environment.difference(before))
    server = server_of(order, life, applications)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(b"\0" + address[1:].encode() + b"\0")
        client.sendall(REQUEST)
        server.play()
        _check(client.recv(4096))


def _check(answer: bytes) -> None:
    """A rehearsal that was not answered would warm the wrong code."""
    if not answer.startswith(b"HTTP/1.0 200"):
        raise RuntimeError(f"the rehearsed request was answered {answer!r}")
