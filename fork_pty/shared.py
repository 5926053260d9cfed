"""The door to the terminal of worker 1: ``pty-socket``.

Each worker 1 makes a terminal, lives on its far end, and sends the near end here by a line that
all of them share. Who connects gets the newest: an older one, of a worker that finishes its
requests, is shown to its own clients until that worker ends. While there is none, who connects
waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import termios

from donjon.fd import Fd
from donjon.fork_pty import audit, credentials
from donjon.fork_pty.loop import READ, Loop
from donjon.fork_pty.peer import PIECE, Peer
from donjon.fork_pty.screen import Screen
from donjon.fork_pty.spec import SharedSpec
from donjon.fork_pty.terminal import RawTerminal

PEERS_MAX = 32
"""Clients of one terminal."""

SCREENS_MAX = 8
"""Terminals at once: the newest, and those of workers that are about to end."""

TERMINAL = b"t"
"""What comes with a terminal and a pidfd."""


def send_terminal(line: socket.socket, master: int) -> None:
    """Tell the door: this process has the far end of ``master``. Raises OSError."""
    with Fd(os.pidfd_open(os.getpid())) as process:
        socket.send_fds(line, [TERMINAL], [master, process.fileno()])


class Shared:
    """Serves until ``stop``; all of it in one thread."""

    def __init__(self, spec: SharedSpec, door: socket.socket, line: socket.socket) -> None:
        """Listen at ``door`` to clients, and at ``line`` to workers."""
        self.spec = spec
        self._loop = Loop()
        self._door, self._line = door, line
        self._screens: list[Screen] = []  # the newest is the last
        self._accepting = self._typing = self._stopping = False
        self._reads_input = spec.input and _can_be_waited_for(0)

    def run(self) -> None:
        """Serve."""
        self._door.setblocking(False)  # noqa: FBT003  (socket names it so)
        self._loop.watch(self._line.fileno(), READ, self._take)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.on_signal(number, self.stop)
        with contextlib.ExitStack() as stack:
            if self._reads_input:
                self._listen_to_input(stack)
            self._loop.run()
        self._loop.close()

    def stop(self) -> None:
        """Let nobody in any more, and end with the last worker that has a terminal of ours."""
        self._stopping = True
        self._open_door()
        if not self._screens:
            self._loop.stop()

    # -- terminals

    def _take(self, _events: int) -> None:
        data, found, _, _ = socket.recv_fds(
            self._line, len(TERMINAL), 2, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        )
        given = [Fd(number) for number in found]
        if data != TERMINAL or len(given) != 2 or len(self._screens) >= SCREENS_MAX:
            return  # they are closed
        try:
            termios.tcgetattr(given[0].fileno())
            screen = Screen(self._loop, given[0], given[1], logs=self.spec.log, ended=self._ended)
        except (OSError, termios.error):
            return
        screen.heard = self._open_door
        self._screens.append(screen)
        self._open_door()

    def _ended(self, screen: Screen) -> None:
        self._screens.remove(screen)
        self._open_door()
        if self._stopping and not self._screens:
            self._loop.stop()

    # -- clients

    def _open_door(self) -> None:
        """Accept, and read the input, exactly while there is a terminal that takes it."""
        wanted = bool(self._screens) and not self._stopping
        if wanted is not self._accepting:
            self._accepting = wanted
            if wanted:
                self._loop.watch(self._door.fileno(), READ, self._accept)
            else:
                self._loop.forget(self._door.fileno())
        if self._reads_input:
            self._read_input(wanted=wanted and not self._screens[-1].is_full())

    def _accept(self, _events: int) -> None:
        taken = self._loop.accept(self._door)
        if taken is None:
            return
        link, address = taken
        who, known = credentials.ask(link, address, self.spec.uids, self.spec.gids)
        known = known or self.spec.insecure
        screen = self._screens[-1]
        why = "" if known else "uid and gid are not of those that may"
        if known and len(screen.peers) >= PEERS_MAX:
            why = "too many look at it"
        if why:
            audit.write("refuse", who=who, why=why)
            link.close()
            return
        audit.write("share", who=who)
        peer = Peer(self._loop, link, framed=False, who=who)
        peer.listen()
        screen.join(peer)

    # -- the input of the instance

    def _listen_to_input(self, stack: contextlib.ExitStack) -> None:
        """Take every key of our own terminal; in its background there are none."""
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(termios.error):
            stack.enter_context(RawTerminal(0, keep_signals=True))

    def _read_input(self, *, wanted: bool) -> None:
        if wanted is self._typing:
            return
        self._typing = wanted
        if not wanted:
            self._loop.forget(0)
            return
        self._loop.watch(0, READ, self._on_input)

    def _on_input(self, _events: int) -> None:
        try:
            data = os.read(0, PIECE)
        except OSError:
            data = b""
        if not data:
            self._loop.forget(0)  # and never again: it stays ``typing``
            return
        self._screens[-1].type(data)
        self._open_door()


def _can_be_waited_for(fd: int) -> bool:
    """Whether something may come from it: not from a file, /dev/null or nothing (epoll_ctl(2))."""
    with select.epoll() as epoll:
        try:
            epoll.register(fd, READ)
        except OSError:
            return False
    return True
