"""One terminal that a process has, and the clients that share it: all type, all see the same.

Nobody drives, and nobody holds it up: what the process writes is read at once, whoever is too far
behind is cut off. Who comes sees what comes from then on, as the original's clients do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from donjon.fd import Fd
from donjon.fork_pty.keys import Keys
from donjon.fork_pty.loop import READ, WRITE, Loop
from donjon.fork_pty.peer import PIECE, Peer
from donjon.fork_pty.protocol import Packet

BEHIND_MAX = 1 << 20
"""Bytes that a client may be behind."""


class Screen:
    """The near end of a terminal. It ends with its process, or with the last far end."""

    def __init__(
        self, loop: Loop, master: Fd, process: Fd, *, logs: bool, ended: Callable[[Screen], None]
    ) -> None:
        """Own a terminal and the pidfd of its process. Raises OSError if they are none."""
        self.peers: list[Peer] = []
        self.heard: Callable[[], None] = _nobody  # keys were taken: more may be typed
        self.over = False
        self._loop = loop
        self._master, self._process = master, process
        self._fd = master.fileno()
        self._logs = logs
        self._keys = Keys(self._fd)
        self._ended = ended
        os.set_blocking(self._fd, False)
        loop.watch(self._fd, READ, self._on_terminal)
        try:
            loop.watch(process.fileno(), READ, self._on_death)
        except OSError:
            loop.forget(self._fd)
            raise

    # -- clients

    def join(self, peer: Peer) -> None:
        """Let a client in."""
        peer.takes, peer.gone = self._take, self._leave
        peer.types, peer.drained, peer.settled = self.type, self._consider, self._consider
        self.peers.append(peer)
        if self.is_full():
            peer.pause(reading=False)
        self._consider()

    def _leave(self, peer: Peer) -> None:
        if peer in self.peers:
            self.peers.remove(peer)
        self._consider()

    def _take(self, _peer: Peer, packets: list[Packet]) -> None:
        for packet in packets:
            self.type(packet.body)

    def is_full(self) -> bool:
        """Whether the process has much to read first."""
        return self._keys.is_full()

    def type(self, keys: bytes) -> None:
        """Hand keys on; what the process does not take now it gets later."""
        if self.over or not self._keys.type(keys):
            return
        self._loop.change(self._fd, READ | WRITE)
        if self.is_full():
            self._let_type(reading=False)

    def _let_type(self, *, reading: bool) -> None:
        for peer in self.peers:
            peer.pause(reading=reading)

    def _consider(self) -> None:
        """Have the loop copy by itself where only one looks on and nothing waits."""
        if self.over:
            return
        alone = len(self.peers) == 1 and not self._keys and not self._logs
        link = self.peers[0].pumped() if alone else None
        if link is not None:
            self._loop.pair((self._fd, self._show), link, framed=False)
        else:
            self._loop.part(self._fd)

    # -- the terminal

    def _on_terminal(self, events: int) -> None:
        if events & WRITE:
            self._write_keys()
        if events & ~WRITE:
            self._read()

    def _read(self) -> bool:
        """Show what is there; whether something was, and more may come."""
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: no far end is open any more (pty(7))
        if not data:
            self.end()
            return False
        self._show(data)
        return True

    def _show(self, data: bytes) -> None:
        if self._logs:
            with contextlib.suppress(OSError):  # no log, no line
                os.write(2, data)
        for peer in tuple(self.peers):
            peer.show(data)
            if peer.behind > BEHIND_MAX:
                self.peers.remove(peer)
                peer.cut_off()
        self._consider()

    def _write_keys(self) -> None:
        if self._keys.flush():
            self._loop.change(self._fd, READ)
            self._let_type(reading=True)
            self.heard()
            self._consider()

    # -- the end

    def _on_death(self, _events: int) -> None:
        """Show what it wrote last; who holds its terminal still is hung up."""
        for _ in range(BEHIND_MAX // PIECE):
            if self.over or not self._read():
                break
        self.end()

    def end(self) -> None:
        """Hang up, on the process and its clients."""
        if self.over:
            return
        self.over = True
        self._loop.forget(self._fd)
        self._loop.forget(self._process.fileno())
        self._master.close()
        self._process.close()
        for peer in self.peers:
            peer.gone = _gone
            peer.finish()
        self.peers.clear()
        self._ended(self)


def _nobody() -> None:
    """Nobody waits."""


def _gone(_peer: Peer) -> None:
    """Its terminal went before it."""
