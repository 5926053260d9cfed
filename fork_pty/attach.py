"""This terminal on the near end of one that is in a jail, without a router in between.

Bytes are copied and the window's size is handed on; nothing else of this terminal is the jail's.
When we are told to end, or our terminal is gone, the far one is hung up, and its program has
``GRACE`` seconds.
"""

from __future__ import annotations

import os
import select
import signal
import time

from donjon.fd import Fd
from donjon.fork_pty import shell
from donjon.fork_pty.answerback import Filter
from donjon.fork_pty.keys import Keys
from donjon.fork_pty.record import Record
from donjon.fork_pty.shell import GRACE, Leader
from donjon.fork_pty.terminal import RawTerminal
from donjon.fork_pty.wakening import ENDING, Wakening

PIECE = 65536
LAST_PIECES = 64
"""Reads after the program's end: a terminal keeps 64 KiB, and who opens it again could go on."""


def show(
    master: Fd, process: int, leader: Leader, *, screen: Filter | None, record: Record | None
) -> bool:
    """Copy until the program ends; ``process`` is readable then. Return whether it did.

    False where a signal told us to end, or our terminal is gone, and the program did not. Nobody
    of its session is left, also where we are killed.
    """

    def clean() -> None:
        time.sleep(GRACE)
        leader.kill_session()

    os.set_blocking(master.fileno(), False)
    with (
        Wakening((*ENDING, signal.SIGWINCH)) as woken,
        RawTerminal(0, keep_signals=False, abandoned=clean),
    ):
        try:
            shell.set_size(master.fileno(), *shell.get_size(0))
            return _Copy(master, process, woken, screen, record).run()
        finally:
            master.close()
            leader.kill_session()


class _Copy:
    def __init__(
        self, master: Fd, process: int, woken: Wakening, screen: Filter | None,
        record: Record | None,
    ) -> None:  # fmt: skip
        self._master = master
        self._process = process
        self._woken = woken
        self._screen = screen
        self._record = record
        self._keys = Keys(master.fileno())

    def run(self) -> bool:
        try:
            ended = self._copy()
        except OSError:  # our own terminal is gone: of the other one all errors are caught
            ended = False
        if not ended:
            self._master.close()
        return ended or _has_ended(self._process)

    def _copy(self) -> bool:
        """Copy until the program has ended, or it is to be hung up on; return which."""
        waits = [self._master.fileno(), self._process, self._woken.fileno()]
        while True:
            reads = waits if self._keys else [*waits, 0]
            ready, writable, _ = select.select(reads, waits[:1] if self._keys else [], [])
            if self._woken.fileno() in ready and self._take_signals():
                return False
            if self._process in ready:
                self._show_last()
                return True
            if self._master.fileno() in ready:
                data = self._read()
                if data is None:
                    return False
                self._show(data)
            if 0 in ready and not self._read_keys():
                return False
            if writable:
                self._keys.flush()

    def _take_signals(self) -> bool:
        """Whether one of them says that it is over."""
        numbers = self._woken.read()
        if any(number in ENDING for number in numbers):
            return True
        if signal.SIGWINCH in numbers:
            rows, cols = shell.get_size(0)
            shell.set_size(self._master.fileno(), rows, cols)
            if self._record is not None:
                self._record.resize(rows, cols)
        return False

    def _read(self) -> bytes | None:
        """Return output, nothing where it was flushed meanwhile, None at the far end's end."""
        try:
            return os.read(self._master.fileno(), PIECE)
        except BlockingIOError:
            return b""
        except OSError:
            return None  # EIO: no far end is open any more (pty(7))

    def _show_last(self) -> None:
        for _ in range(LAST_PIECES):
            data = self._read()
            if not data:
                return
            self._show(data)

    def _show(self, data: bytes) -> None:
        if self._record is not None:
            self._record.output(data)
        if self._screen is not None:
            data = self._screen.feed(data)
        while data:
            data = data[os.write(1, data) :]

    def _read_keys(self) -> bool:
        """Whether our terminal is still there."""
        keys = os.read(0, PIECE)
        if self._record is not None:
            self._record.keys(keys)
        self._keys.type(keys)
        return bool(keys)


def _has_ended(process: int) -> bool:
    end = time.monotonic() + GRACE
    while (left := end - time.monotonic()) > 0:
        if select.select([process], [], [], left)[0]:
            return True
    return False
