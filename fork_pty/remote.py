"""The router outside: programs, logins and parts of records come from its clerk.

The router reads what strangers send, so it has no rights; the clerk has them, and reads only this:
one JSON object a packet, on a socket pair of the two (SOCK_SEQPACKET)::

    {"open": N, "command": [...], "rows": R, "cols": C, "term": T}
                            answered by {"opened": N} with two descriptors: the terminal's near
                            end, and a pipe that tells ``STATUS REASON`` at the program's end;
                            or by {"failed": N, "why": TEXT}
    {"kill": N}             the whole session
    {"signal": N, "number": S, "group": G}
    {"login": N, "user": U, "password": P}      answered by {"login": N, "good": true}
    {"end": 1}              from the clerk: no more of it

Parts of records are asked for on a second pair, and waited for: {"part": [N, K]} is answered by
{"errno": 0} with the open file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
from collections.abc import Callable
from typing import Any

from donjon.fd import Fd
from donjon.fork_pty import shell
from donjon.fork_pty.house import Begun, Wanted
from donjon.fork_pty.loop import READ, Loop
from donjon.fork_pty.record import Record
from donjon.fork_pty.spec import RouterSpec

PACKET_MAX = 64 << 10
PATIENCE = 5.0
"""Seconds that the clerk has for a part of a record; then this part is a gap."""

SIGNALS = shell.SIGNALS - shell.FROM_TERMINAL
"""What a clerk sends for a router; the others are the terminal's own to send."""

LOST = 129
"""The status of a program whose clerk is gone: as of one that was hung up."""


def send(link: socket.socket, fds: tuple[int, ...] = (), **words: Any) -> None:
    """Send a packet. Raises OSError."""
    data = json.dumps(words).encode()
    if len(data) > PACKET_MAX:
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    socket.send_fds(link, [data], fds)


def receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return a packet and its descriptors; None at the end. Raises OSError, ValueError."""
    data, fds, _, _ = socket.recv_fds(link, PACKET_MAX + 1, 2, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    words = json.loads(data)
    if not isinstance(words, dict):
        raise ValueError("not an object")  # noqa: TRY004  (what came is text)
    return words, fds


class Remote:
    """A program that the clerk began. Its descriptor of the end is a pipe."""

    def __init__(self, clerk: Clerk, number: int, master: Fd, pipe: Fd) -> None:
        """Own both."""
        self._clerk = clerk
        self._number = number
        self.master = master
        self.pidfd = pipe
        self.pid = 0  # whom the host calls what is not ours to know
        self.status: int | None = None
        self.why = ""
        os.set_blocking(master.fileno(), False)

    def signal(self, number: int) -> None:
        """See Program. The terminal knows its jobs; the clerk knows whose they are."""
        if self.master.closed:
            return
        with contextlib.suppress(OSError):  # it has just ended
            if number in shell.FROM_TERMINAL:
                shell.signal_terminal(self.master.fileno(), number)
                return
            group = os.tcgetpgrp(self.master.fileno())
            if group > 0:
                self._clerk.tell(signal=self._number, number=number, group=group)

    def has_ended(self) -> bool:
        """See Program."""
        poller = select.poll()  # select(2) knows no descriptor from 1024 on
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def bury(self) -> int:
        """See Program; the clerk has killed who was left."""
        told = os.read(self.pidfd.fileno(), 4096).decode("utf-8", "replace")
        status, _, self.why = told.partition(" ")
        self.pidfd.close()
        self.status = int(status) if status.isdecimal() else LOST
        return self.status

    def hang_up(self) -> None:
        """See Program."""
        self.master.close()

    def kill(self) -> None:
        """See Program."""
        self._clerk.tell(kill=self._number)


class Clerk:
    """The router's end of its clerk: a House."""

    def __init__(self, loop: Loop, link: socket.socket, store: Store | None) -> None:
        """Own the link. ``store`` is where records are, None for no records."""
        self._link = link
        self._store = store
        self._opening: dict[int, Begun] = {}
        self._logins: dict[int, Callable[[bool], None]] = {}
        self._count = 0
        self.ended: Callable[[], None] = lambda: None
        link.setblocking(False)  # noqa: FBT003  (socket names it so)
        self._loop = loop
        loop.watch(link.fileno(), READ, self._hear)

    def prepare(self, spec: RouterSpec) -> None:
        """See House: the clerk has what is needed."""

    def open(self, wanted: Wanted, done: Begun) -> None:
        """See House. Of the environment only the terminal's name is the client's."""
        self._opening[wanted.number] = done
        self.tell(
            open=wanted.number, command=list(wanted.command), rows=wanted.rows, cols=wanted.cols,
            term=wanted.environment.get("TERM", ""),
        )  # fmt: skip

    def login(self, service: str, user: str, password: str, done: Callable[[bool], None]) -> None:  # noqa: ARG002
        """See House; the clerk knows the service."""
        self._count += 1
        self._logins[self._count] = done
        send(self._link, login=self._count, user=user, password=password)

    def record(self, number: int, rows: int, cols: int) -> Record | None:
        """See House."""
        if self._store is None:
            return None
        store = self._store.of(number)
        return Record(
            store, str(number), rows, cols, with_keys=self._store.with_keys, patient=True
        )

    def tell(self, **words: Any) -> None:
        """Say what needs no answer. A clerk that takes nothing more is gone, or as good as.

        What a client makes us say without end is lost where the clerk does not keep up with it.
        """
        try:
            send(self._link, **words)
        except BlockingIOError:
            if "signal" not in words:
                self._insist(words)
        except OSError:
            self._end()

    def _insist(self, words: dict[str, Any]) -> None:
        """Say it when there is room again."""
        try:
            if not select.select([], [self._link], [], PATIENCE)[1]:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            send(self._link, **words)
        except OSError:
            self._end()

    def _hear(self, _events: int) -> None:
        try:
            found = receive(self._link)
        except BlockingIOError:
            return
        except OSError:
            found = None
        if found is None or "end" in found[0]:
            self._end()
            return
        words, fds = found
        if "opened" in words:
            program = Remote(self, words["opened"], Fd(fds[0]), Fd(fds[1]))
            self._opening.pop(words["opened"])(program)
        elif "failed" in words:
            self._opening.pop(words["failed"])(str(words["why"]))
        elif "login" in words:
            self._logins.pop(words["login"])(bool(words["good"]))

    def _end(self) -> None:
        self._loop.forget(self._link.fileno())
        self.ended()
        opening, self._opening = self._opening, {}
        for done in opening.values():
            done("the router ends")


class Store:
    """Where parts of records come from."""

    def __init__(self, link: socket.socket, *, with_keys: bool) -> None:
        """Own the link."""
        self._link = link
        self.with_keys = with_keys
        link.settimeout(PATIENCE)

    def of(self, number: int) -> Parts:
        """Return the parts of a session's record."""
        return Parts(self, number)

    def part(self, number: int, part: int) -> Fd:
        """Return a new part. Raises OSError."""
        send(self._link, part=[number, part])
        while (found := receive(self._link)) is not None:
            words, fds = found
            if words.get("part") == [number, part]:
                if words["errno"]:
                    raise OSError(words["errno"], os.strerror(words["errno"]))
                return Fd(fds[0])
            for fd in fds:  # the answer to a question that was given up
                os.close(fd)
        raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))


class Parts:
    """The parts of one record."""

    def __init__(self, store: Store, number: int) -> None:
        """Have none yet."""
        self._store = store
        self._number = number

    def part(self, _name: str, number: int) -> Fd:
        """Return a new part. Raises OSError."""
        return self._store.part(self._number, number)

    def close(self) -> None:
        """Nothing is held."""
