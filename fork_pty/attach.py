"""This terminal on the near end of one that is in a jail, without a router in between.

Bytes are copied and the window's size is handed on; nothing else of this terminal is the jail's.
When we are told to end, the far terminal is hung up, and its program has ``GRACE`` seconds.
"""

from __future__ import annotations

import os
import select
import signal
import time

from donjon.fd import Fd
from donjon.fork_pty import shell
from donjon.fork_pty.answerback import Filter
from donjon.fork_pty.record import Record
from donjon.fork_pty.shell import GRACE
from donjon.fork_pty.terminal import RawTerminal
from donjon.fork_pty.wakening import ENDING, Wakening

PIECE = 65536


def show(master: Fd, process: int, *, screen: Filter | None, record: Record | None) -> bool:
    """Copy until the program ends; ``process`` is readable then. Return whether it did.

    False where a signal told us to end and the program did not.
    """
    os.set_blocking(master.fileno(), False)
    with Wakening((*ENDING, signal.SIGWINCH)) as woken, RawTerminal(0, keep_signals=False):
        size = shell.get_size(0)
        shell.set_size(master.fileno(), *size)
        return _Copy(master, process, woken, screen, record).run()


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
        self._keys = bytearray()

    def run(self) -> bool:
        waits = {self._master.fileno(), self._process, self._woken.fileno(), 0}
        while True:
            if self._keys:
                waits.discard(0)
            writes = [self._master] if self._keys else []
            ready, writable, _ = select.select(waits, writes, [])
            if self._woken.fileno() in ready and self._take_signals():
                self._master.close()
                return _has_ended(self._process)
            if self._master.fileno() in ready and not self._copy_output():
                return _has_ended(self._process)
            if self._process in ready:
                while self._copy_output():
                    continue
                return True
            if 0 in ready and not self._read_keys():
                waits.discard(0)
            elif not self._keys:
                waits.add(0)
            if writable:
                self._write_keys()

    def _take_signals(self) -> bool:
        """Whether one of them says that it is over."""
        numbers = self._woken.read()
        if signal.SIGWINCH in numbers:
            rows, cols = shell.get_size(0)
            shell.set_size(self._master.fileno(), rows, cols)
            if self._record is not None:
                self._record.resize(rows, cols)
        return any(number in ENDING for number in numbers)

    def _copy_output(self) -> bool:
        """Whether there was some."""
        try:
            data = os.read(self._master.fileno(), PIECE)
        except BlockingIOError:
            return False
        except OSError:
            return False  # EIO: no far end is open any more (pty(7))
        if self._record is not None:
            self._record.output(data)
        if self._screen is not None:
            data = self._screen.feed(data)
        while data:
            data = data[os.write(1, data) :]
        return True

    def _read_keys(self) -> bool:
        keys = os.read(0, PIECE)
        if self._record is not None:
            self._record.keys(keys)
        self._keys += keys or b"\x04"
        self._write_keys()
        return bool(keys)

    def _write_keys(self) -> None:
        try:
            del self._keys[: os.write(self._master.fileno(), self._keys)]
        except BlockingIOError:
            return
        except OSError:
            self._keys.clear()  # its end is read from the other side


def _has_ended(process: int) -> bool:
    end = time.monotonic() + GRACE
    while (left := end - time.monotonic()) > 0:
        if select.select([process], [], [], left)[0]:
            return True
    return False
