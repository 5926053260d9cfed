"""``uwsgi-pty-connect``: this terminal on a session of a forkpty router.

Without options of ours it speaks what the original's router understands. With one it says hello
first, and then knows its role, how the program ended, and why it was refused.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from getpass import getpass
from typing import TYPE_CHECKING

from donjon import log
from donjon.errors import DonjonError, reason_of
from donjon.fork_pty import news, protocol, shell
from donjon.fork_pty.answerback import Filter
from donjon.fork_pty.protocol import Answers, ProtocolError, Word
from donjon.fork_pty.terminal import RawTerminal
from donjon.fork_pty.wakening import ENDING, Wakening
from donjon.records import dataclass

if TYPE_CHECKING:
    from donjon.fork_pty.tls import Link

PIECE = 65536
END_OF_INPUT = b"\x04"
"""Ctrl-D: what a terminal has for it."""

DETACH = b"\x1c"
"""Ctrl-\\: leaves a session that is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a session is looked at. ``hello`` is what is said first, None for nothing."""

    framed: bool = True
    keep_signals: bool = False  # Ctrl-C ends the client
    filtered: bool = False
    tls: bool = False
    ca: str | None = None  # whom to trust; None: whom the system trusts
    cert: str | None = None  # our own, with its key
    hello: dict[str, object] | None = None

    @property
    def watches(self) -> bool:
        """Whether nothing is typed; Ctrl-C ends the client then."""
        return bool(self.hello and self.hello.get("watch"))

    @property
    def keeps(self) -> bool:
        """Whether the session goes on without us."""
        return bool(self.hello and self.hello.get("keep"))


def main(argv: Sequence[str] | None = None) -> int:
    """Be the command; return its exit status."""
    chosen = _parser().parse_args(argv)
    try:
        return connect(chosen.address, _wish(chosen))
    except DonjonError as error:
        log.write(f"uwsgi-pty-connect: {error}")
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uwsgi-pty-connect",
        description="This terminal on a shell of a forkpty router. Exit status: the program's, "
        "where the router tells it.",
    )
    parser.add_argument("address", metavar="SOCKET", help="/path, @abstract or host:port")
    parser.add_argument("--raw", action="store_true", help="the router is a forkpty-router")
    parser.add_argument("--session", metavar="NAME", default="", help="join it, or begin it")
    parser.add_argument(
        "--keep", action="store_true", help="it outlives this client; Ctrl-\\ leaves it"
    )
    parser.add_argument(
        "--watch", action="store_true", help="look on, type nothing; Ctrl-C ends it"
    )
    parser.add_argument("--take", action="store_true", help="drive it, whoever drives now")
    parser.add_argument("--ticket", metavar="FILE", help="the file of a ticket, - for input")
    parser.add_argument("--user", metavar="NAME", default="", help="log in; asks for a password")
    parser.add_argument("--tls", action="store_true", help="encrypted, to HOST:PORT")
    parser.add_argument("--ca", metavar="FILE", help="trust who has these certificates")
    parser.add_argument("--cert", metavar="FILE", help="our own certificate and its key")
    parser.add_argument("--no-answers", action="store_true",
                        help="take questions to this terminal out of the output")  # fmt: skip
    return parser


def _wish(chosen: argparse.Namespace) -> Wish:
    asked = (
        chosen.session, chosen.keep, chosen.watch, chosen.take, chosen.ticket, chosen.user,
    )  # fmt: skip
    tls = {"tls": chosen.tls, "ca": chosen.ca, "cert": chosen.cert}
    if (chosen.ca or chosen.cert) and not chosen.tls:
        raise DonjonError("--ca and --cert are for TLS", hint="--tls")
    if not any(asked):
        return Wish(framed=not chosen.raw, filtered=chosen.no_answers, **tls)
    if chosen.raw and not (chosen.ticket or chosen.user):
        raise DonjonError("a raw session has no name and no roles", hint="leave --raw out")
    if chosen.keep and not chosen.session:
        raise DonjonError("--keep needs a name to come back to", hint="--session NAME")
    hello: dict[str, object] = {
        "session": chosen.session, "keep": chosen.keep, "watch": chosen.watch,
        "take": chosen.take, "term": os.environ.get("TERM", "")[:64],
    }  # fmt: skip
    if chosen.ticket:
        hello["ticket"] = _read_ticket(chosen.ticket)
    if chosen.user:
        hello["user"], hello["password"] = chosen.user, getpass()
    return Wish(filtered=chosen.no_answers, hello=hello, **tls)


def _read_ticket(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.readline().strip()
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(PIECE).strip()
    except OSError as error:
        raise DonjonError(f"cannot read the ticket {path}", reason=reason_of(error)) from error


def connect(address: str, wish: Wish) -> int:
    """Show a session until it ends; return the program's status, 0 where nobody tells it."""
    if wish.tls:
        with _dial_tls(address, wish) as link:
            return _Screen(link, wish).run()
    with dial(address) as link:
        return _Screen(link, wish).run()


def _dial_tls(address: str, wish: Wish) -> Link:
    host = address.rpartition(":")[0].strip("[]")
    if not host or address.startswith(("/", "@")):
        raise DonjonError(f"no TLS on {address}", hint="it is for HOST:PORT")
    from donjon.fork_pty import tls  # noqa: PLC0415  (few clients need OpenSSL)

    return tls.dial(dial(address), host, wish.ca, wish.cert)


def dial(address: str) -> socket.socket:
    """Connect to a router. Raises DonjonError."""
    family: socket.AddressFamily = socket.AF_UNIX
    target: str | bytes | tuple[str, int] = address
    if address.startswith("@"):
        target = b"\0" + address[1:].encode() + b"\0"  # as the original binds it
    elif ":" in address:
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        target = (host.strip("[]") or "127.0.0.1", int(port) if port.isdecimal() else -1)
    link = socket.socket(family, socket.SOCK_STREAM)
    try:
        link.connect(target)
    except (OSError, OverflowError) as error:
        link.close()
        reason = reason_of(error) if isinstance(error, OSError) else "no such port"
        raise DonjonError(f"cannot connect to {address}", reason=reason) from error
    return link


class _Screen:
    """A connection on this terminal."""

    def __init__(self, link: socket.socket | Link, wish: Wish) -> None:
        self._link = link
        self._wish = wish
        self._answers = Answers() if wish.hello is not None else None
        self._filter = Filter() if wish.filtered else None
        self._out = bytearray()  # what the router has not taken yet; nothing is read from 0 then
        self._status: int | None = None  # nobody told it yet
        self._refused = ""

    def run(self) -> int:
        """Show it. Raises DonjonError where the router refuses."""
        wanted = (*ENDING, signal.SIGWINCH)
        with Wakening(wanted) as woken:
            if self._wish.hello is not None:
                self._greet(self._wish.hello)
            with RawTerminal(0, keep_signals=self._wish.keep_signals or self._wish.watches):
                self._say_size()
                status = self._serve(woken)
        if self._refused:
            raise DonjonError("the router refuses", reason=self._refused)
        return status

    def _greet(self, hello: dict[str, object]) -> None:
        rows, cols = _own_size() or (0, 0)
        try:
            self._link.sendall(protocol.said(Word.HELLO, **{**hello, "rows": rows, "cols": cols}))
        except OSError as error:
            wants = self._wish.tls and not self._wish.cert
            raise DonjonError(
                "the router has hung up before it was told what for",
                hint="it may want a certificate: --cert FILE" if wants else "",
            ) from error

    def _say_size(self) -> None:
        size = _own_size()
        if self._wish.framed and size is not None:
            self._send(protocol.window(*size))

    def _serve(self, woken: Wakening) -> int:
        waits = [self._link.fileno(), woken.fileno()]
        keys_come = True
        while True:
            reads = [*waits, 0] if keys_come and not self._out else waits
            ready, writable, _ = select.select(reads, waits[:1] if self._out else [], [])
            if writable:
                self._flush()
            if woken.fileno() in ready:
                for number in woken.read():
                    if number in ENDING:
                        return 0 if self._wish.watches else 128 + number
                    self._say_size()
            if self._link.fileno() in ready:
                data = self._receive()
                if data == b"":
                    return self._end()
                self._show(data or b"")
            if 0 in ready:
                keys = self._read_keys()
                if DETACH in keys and self._wish.keeps:
                    return 0
                self._type(keys)
                keys_come = bool(keys)

    def _end(self) -> int:
        """Return what was told of the end. Raises DonjonError where that is missing."""
        if self._status is None and self._answers is not None:
            raise DonjonError(
                "the router has hung up and does not say how the program ended",
                reason="it was ended, or we were too far behind",
            )
        return self._status or 0

    def _receive(self) -> bytes | None:
        """Return what came, "" at the end, None for what is TLS's own."""
        try:
            return self._link.recv(PIECE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    @staticmethod
    def _read_keys() -> bytes:
        try:
            return os.read(0, PIECE)
        except OSError:
            return b""

    def _type(self, keys: bytes) -> None:
        if not self._wish.watches:
            sent = keys or END_OF_INPUT
            self._send(protocol.stdin(sent) if self._wish.framed else sent)

    def _send(self, data: bytes) -> None:
        """Hand on, and never wait for a router that waits until we read."""
        self._out += data
        self._flush()

    def _flush(self) -> None:
        try:
            del self._out[: self._link.send(self._out, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()  # its end is read from the other side

    def _show(self, data: bytes) -> None:
        if self._answers is None:
            self._write(data)
            return
        try:
            packets = self._answers.feed(data)
        except ProtocolError as error:
            raise DonjonError(str(error), hint="leave options of donjon's out") from error
        for word, body in packets:
            if word == Word.OUTPUT:
                self._write(body)
            elif word == Word.NEWS:
                self._hear(news.read(body))

    def _hear(self, told: news.News) -> None:
        if told.kind == "end":
            self._status = told.status
        elif told.kind == "refused":
            self._refused, self._status = told.why, 1
        elif told.kind == "role" or told.role == "watch":
            self._write(f"\r\n[donjon: you {told.role}]\r\n".encode())

    def _write(self, data: bytes) -> None:
        if self._filter is not None:
            data = self._filter.feed(data)
        while data:
            data = data[os.write(1, data) :]


def _own_size() -> tuple[int, int] | None:
    """Return rows and columns of this terminal, None where there is none."""
    for fd in (0, 1, 2):
        try:
            return shell.get_size(fd)
        except OSError:
            continue
    return None
