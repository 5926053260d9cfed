"""The process that holds the doors of terminals outside of jails (``python -m
donjon.emperor.porter``).

A fresh interpreter with one socket, to its Emperor, who makes the doors and says whose they are.
Where somebody comes it starts a router and its ``clerk``, who take over the door until
nobody has come for a while. The clerk asks here for the way into the jail, and the Emperor, who
knows it, is asked from here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from typing import Any

from donjon import log, syscalls
from donjon.emperor import clerk, mercy, orders, outside
from donjon.emperor.outside import Service
from donjon.errors import reason_of
from donjon.fd import Fd
from donjon.fork_pty.loop import READ, Loop
from donjon.records import dataclass

CHANNEL = 3
"""The descriptor on which a porter finds its Emperor."""

PAUSE = 1.0
"""Seconds until a door is looked at again whose clerk ended at once."""

LAST = 5.0
"""Seconds for clerks to end."""


@dataclass(slots=True, eq=False)
class Door:
    """A door, and the clerk that has it now."""

    service: Service
    listener: socket.socket
    slot: int
    link: socket.socket | None = None
    process: Fd | None = None
    since: float = 0.0
    closed: bool = False


@dataclass(slots=True)
class Asked:
    """A clerk's question, under the number that the Emperor knows it by."""

    door: Door
    number: int


class Porter:
    """See the module."""

    def __init__(self, channel: socket.socket) -> None:
        self._loop = Loop()
        self._channel = channel
        self._doors: dict[str, Door] = {}
        self._closing: set[Door] = set()
        self._asked: dict[int, Asked] = {}
        self._count = 0
        self._ending = False

    def run(self) -> None:
        """Serve until the Emperor ends."""
        self._loop.watch(self._channel.fileno(), READ, lambda _events: self._hear())
        self._loop.run()

    def _hear(self) -> None:
        found = orders.receive(self._channel)
        if found is None:
            self._end()
            return
        (word, *rest), fds = found
        if word == "serve":
            self._serve(rest[0], socket.socket(fileno=fds[0]))
        elif word == "drop":
            door = self._doors.pop(rest[0], None)
            if door is not None:
                self._close(door)
        elif word == "door":
            self._answer(rest[0], rest[1])

    def _serve(self, service: Service, listener: socket.socket) -> None:
        taken = {one.slot for one in (*self._doors.values(), *self._closing)}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        door = Door(service, listener, slot)
        self._doors[service.key] = door
        self._wait(door)

    def _wait(self, door: Door) -> None:
        """Wait for somebody to come."""
        if not door.closed and not self._ending:
            self._loop.watch(door.listener.fileno(), READ, lambda _events: self._start(door))

    def _start(self, door: Door) -> None:
        self._loop.forget(door.listener.fileno())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid, pidfd = syscalls.clone3(syscalls.CLONE_PIDFD)
            except OSError as error:
                ours.close()
                log.write(f"[terminal] no clerk for {door.service.name}: {reason_of(error)}")
                self._loop.after(PAUSE, lambda: self._wait(door))
                return
            if pid == 0:
                clerk.live(door.service, door.listener, theirs, outside.USERS + door.slot)
        ours.setblocking(False)  # noqa: FBT003  (socket names it so)
        door.link, door.process, door.since = ours, Fd(pidfd), time.monotonic()
        self._loop.watch(pidfd, READ, lambda _events: self._ended(door))
        self._loop.watch(ours.fileno(), READ, lambda _events: self._ask(door))

    def _ask(self, door: Door) -> None:
        """Hand a clerk's question on."""
        assert door.link is not None
        try:
            found = orders.receive(door.link)
        except BlockingIOError:
            return
        if found is None:
            self._loop.forget(door.link.fileno())
            return
        self._count += 1
        self._asked[self._count] = Asked(door, found[0][1])
        orders.send(self._channel, ("enter", self._count, door.service.vassal))

    def _answer(self, count: int, answer: dict[str, Any]) -> None:
        asked = self._asked.pop(count, None)  # None: its clerk has died meanwhile
        if asked is not None and asked.door.link is not None:
            self._tell(asked.door, ("door", asked.number, answer))

    def _tell(self, door: Door, words: tuple[Any, ...]) -> None:
        """Tell a clerk; one that does not listen must not hold up the others."""
        try:
            if door.link is not None:
                orders.send(door.link, words)
        except OSError:
            self._kill(door)

    @staticmethod
    def _kill(door: Door) -> None:
        if door.process is not None:
            with contextlib.suppress(ProcessLookupError):  # its pidfd tells of that
                syscalls.pidfd_send_signal(door.process.fileno(), signal.SIGKILL)

    def _ended(self, door: Door) -> None:
        assert door.link is not None
        assert door.process is not None
        os.waitid(os.P_PIDFD, door.process.fileno(), os.WEXITED)
        self._loop.forget(door.process.fileno())
        self._loop.forget(door.link.fileno())
        door.process.close()
        door.link.close()
        door.process = door.link = None
        self._asked = {n: one for n, one in self._asked.items() if one.door is not door}
        if door.closed or self._ending:
            self._closing.discard(door)
            self._maybe_stop()
        elif time.monotonic() - door.since < PAUSE:
            self._loop.after(PAUSE, lambda: self._wait(door))
        else:
            self._wait(door)

    def _close(self, door: Door) -> None:
        door.closed = True
        self._loop.forget(door.listener.fileno())
        door.listener.close()
        if door.process is not None:
            self._closing.add(door)
            self._tell(door, ("end",))
            self._loop.after(LAST, lambda: self._kill(door))

    def _end(self) -> None:
        self._ending = True
        self._loop.forget(self._channel.fileno())
        for door in self._doors.values():
            self._close(door)
        self._loop.after(LAST, self._loop.stop)
        self._maybe_stop()

    def _maybe_stop(self) -> None:
        if self._ending and not self._closing:
            self._loop.stop()


def main() -> int:
    """Be a porter until the Emperor ends; whoever is left then is killed."""
    os.setsid()  # a terminal's Ctrl-C is for the Emperor
    parent = os.getppid()
    syscalls.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:  # an Emperor that ended before is known by the channel's end
        return 1
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    mercy.take(sys.argv[1])  # of what strangers make routers hold nothing is to be spared
    outside.wall()  # once for all that are forked from here
    Porter(socket.socket(fileno=CHANNEL)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
