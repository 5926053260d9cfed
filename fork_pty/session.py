"""A session: one program on one terminal, and the clients that look at it.

One client drives: its keys and window count, and what it does not read holds the program up, as a
slow terminal does. The others watch, and hold nothing up: who is too far behind is dropped.
Driving passes on when the driver leaves, to who is there the longest of those that may and want
to. A session without a driver ends, unless it is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from donjon.fork_pty import shell
from donjon.fork_pty.house import Program
from donjon.fork_pty.keys import Keys
from donjon.fork_pty.loop import READ, WRITE, Loop, Timer
from donjon.fork_pty.peer import PIECE, WATCHER_MAX, Peer, Role
from donjon.fork_pty.protocol import Packet, What, Word
from donjon.fork_pty.record import Record

MUCH = 2048
"""Bytes that came at once: there are probably more. A pseudoterminal gives at most 4 KiB."""

PIECES = 16
"""Reads for one packet at most."""


class Session:
    """A terminal and its clients. ``ended`` is called once, when the program is gone."""

    def __init__(
        self,
        loop: Loop,
        number: int,
        name: str,
        program: Program,
        ended: Callable[[Session], None],
    ) -> None:
        """Own a program that runs."""
        self.loop = loop
        self.number = number
        self.name = name  # "": nobody comes back to it
        self.kept = False
        self.program = program
        self.driver: Peer | None = None
        self.peers: list[Peer] = []
        self.began = self.active = time.monotonic()
        self.received = self.sent = 0
        self.scrollback = 0  # bytes that are kept for who comes later
        self.over = False
        self.record: Record | None = None
        self._why = ""
        self._killer = Timer(_nobody)
        self._ended = ended
        self._past = bytearray()
        self._held = False
        self._fd = program.master.fileno()
        self._keys = Keys(self._fd)
        loop.watch(self._fd, READ, self._on_terminal)
        loop.watch(program.pidfd.fileno(), READ, self._on_exit)

    # -- clients

    def join(self, peer: Peer) -> None:
        """Let a client in: it drives if it may and nobody does."""
        peer.takes, peer.gone, peer.drained = self._take, self.leave, self._resume
        self.peers.append(peer)
        role = Role.WATCH
        if self.driver is None and peer.wants_to_drive:
            self._let_drive(peer)
            role = Role.DRIVE
        peer.tell(news="welcome", role=role, session=self.name, number=self.number)
        if self._past:
            peer.show(bytes(self._past))
        self._consider()

    def hand_over(self, peer: Peer) -> None:
        """Let one that watches drive; who drove watches from now on."""
        if peer is self.driver or Role.DRIVE not in peer.allowed:
            return
        before = self.driver
        self._let_drive(peer)
        peer.tell(news="role", role=Role.DRIVE)
        if before is not None:
            before.types = None
            before.settled = _nobody
            before.tell(news="role", role=Role.WATCH)
            before.pause(reading=True)
        self._resume()

    def _let_drive(self, peer: Peer) -> None:
        self.driver, peer.types, peer.settled = peer, self._type, self._consider

    def leave(self, peer: Peer) -> None:
        """Do without a client; the next one drives, or the session ends."""
        if peer in self.peers:
            self.peers.remove(peer)
        if peer is self.driver:
            self._replace_driver()
        self._consider()

    def _replace_driver(self) -> None:
        self.driver = None
        heirs = [one for one in self.peers if one.wants_to_drive]
        if heirs:
            self.hand_over(heirs[0])
        elif not self.kept:
            self.end()
        else:
            self._resume()

    def _take(self, peer: Peer, packets: list[Packet]) -> None:
        if self.over:
            return
        drives = peer is self.driver
        for what, number, body in packets:
            if what is What.INPUT:
                if drives:
                    self._type(body)
            elif what is What.SIGNAL:
                if number in shell.SIGNALS and (drives or Role.SIGNAL in peer.allowed):
                    self.program.signal(number)
            elif what is What.OURS:
                if number == Word.TAKE:
                    self.hand_over(peer)
            elif drives:
                self._resize(what, number)

    def _type(self, keys: bytes) -> None:
        if self.over:
            return  # the terminal is closed, its number may be another's
        if self.record is not None:
            self.record.keys(keys)
        self.active = self.loop.now
        self.received += len(keys)
        if not self._keys.type(keys):
            return
        self._listen()
        if self.driver is not None and self._keys.is_full():
            self.driver.pause(reading=False)

    def _resize(self, what: What, number: int) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            rows, cols = shell.get_size(self._fd)
            if what is What.ROWS:
                rows = number
            else:
                cols = number
            self._set_size(rows, cols)

    def fit(self, rows: int, cols: int) -> None:
        """Have the size of a new driver's window, and let the program draw itself again."""
        with contextlib.suppress(OSError):  # it has just ended
            before = shell.get_size(self._fd)
            self._set_size(rows, cols)
            if before == (rows, cols):
                self.program.signal(signal.SIGWINCH)

    def _set_size(self, rows: int, cols: int) -> None:
        shell.set_size(self._fd, rows, cols)
        if self.record is not None:
            self.record.resize(rows, cols)

    # -- the terminal

    def _listen(self) -> None:
        """Wait for what can be done now. A held terminal tells of its end once, not all the time:
        what it still has is read, and the end found, when the driver has caught up.
        """
        if not self.over:
            events = (select.EPOLLET if self._held else READ) | (WRITE if self._keys else 0)
            self.loop.change(self._fd, events)

    def _consider(self) -> None:
        """Have the loop copy by itself where only one looks on and nothing waits."""
        driver = self.driver
        if self.over or driver is None:
            return
        busy = self.scrollback or self.record or self._keys or self._held
        alone = len(self.peers) == 1 and not busy
        link = driver.pumped() if alone else None
        if link is not None:
            self.loop.pair((self._fd, self._spill), link, framed=driver.framed)
        else:
            self.loop.part(self._fd)

    def _spill(self, data: bytes) -> None:
        """Keep what the driver did not take at once."""
        self._show(data)
        self._consider()

    def sync(self) -> None:
        """Know what the loop copied by itself."""
        if self.over:
            return
        typed, shown = self.loop.counts(self._fd)
        if typed or shown:
            self.active = self.loop.now
            self.received += typed
            self.sent += shown

    def _on_terminal(self, events: int) -> None:
        if events & WRITE:
            self._write_keys()
        if self._held or not events & ~WRITE:
            return
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: no far end is open any more (pty(7))
        if not data:
            self.end()
            return
        if len(data) >= MUCH:
            data = self._read_more(data)
        self._show(data)
        self._consider()

    def _show(self, data: bytes) -> None:
        self.active = self.loop.now
        self.sent += len(data)
        if self.scrollback:
            self._remember(data)
        if self.record is not None:
            self.record.output(data)
        peers = self.peers
        if len(peers) > 1:
            peers = peers.copy()  # who is too slow leaves
        for peer in peers:
            peer.show(data)
            if peer.behind:
                self._slow(peer)

    def _read_more(self, data: bytes) -> bytes:
        """Return what the program wrote so far: one packet instead of many."""
        found = [data]
        with contextlib.suppress(OSError):  # nothing more now, or the end, which is read again
            while len(found) < PIECES:
                found.append(os.read(self._fd, PIECE))
        return b"".join(found)

    def _remember(self, data: bytes) -> None:
        self._past += data
        if len(self._past) > self.scrollback:
            del self._past[: len(self._past) - self.scrollback]

    def _slow(self, peer: Peer) -> None:
        if peer is self.driver:
            self._held = True
            self._listen()
        elif peer.behind > WATCHER_MAX + self.scrollback:  # it began with that much
            self.peers.remove(peer)
            peer.cut_off()

    def _resume(self) -> None:
        if self._held and (self.driver is None or not self.driver.behind):
            self._held = False
            self._listen()
        self._consider()

    def _write_keys(self) -> None:
        if self._keys.flush():
            self._listen()
            if self.driver is not None:
                self.driver.pause(reading=True)
            self._consider()

    # -- the end

    def end(self, why: str = "") -> None:
        """Hang up the terminal, and wait for the program; ``why`` is told to the clients."""
        if self.over:
            return
        self.sync()
        self.over = True
        self.loop.forget(self._fd)
        self.loop.forget(self.program.pidfd.fileno())
        self.program.hang_up()
        self._why = why
        if self.program.has_ended():
            self._finish()
            return
        self._killer = self.loop.after(shell.GRACE, self.program.kill)
        self.loop.watch(self.program.pidfd.fileno(), READ, self._on_death)

    def _on_exit(self, _events: int) -> None:
        """Its terminal tells of that too, when all is read, unless somebody opens it again and
        again: he would be typed to in the program's place.
        """
        self.loop.forget(self.program.pidfd.fileno())
        self.loop.after(shell.GRACE, self._end_if_read)

    def _end_if_read(self) -> None:
        if self._held and not self.over:
            self.loop.after(shell.GRACE, self._end_if_read)
        else:
            self.end()

    def _on_death(self, _events: int) -> None:
        self.loop.forget(self.program.pidfd.fileno())
        self._killer.cancel()
        self._finish()

    def _finish(self) -> None:
        status = self.program.bury()
        if self.record is not None:
            self.record.close()
        for peer in self.peers:
            peer.tell(news="end", status=status, why=self._why or self.program.why)
            peer.gone = _left
            peer.finish()
        self.peers.clear()
        self._ended(self)


def _left(_peer: Peer) -> None:
    """It was the last of the session."""


def _nobody() -> None:
    """Nobody is to be killed yet."""
