"""The master FIFO: a named pipe through which single letters govern the instance (uwsgi-facts
7.2).

Up to ten names may be given; one of them exists at a time, and a digit chooses which comes next.
The pipe is made anew when its last writer closes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence

from donjon import log
from donjon.errors import reason_of
from donjon.server.loop import Loop


class Fifo:
    """The pipe, and what each letter does; unknown letters are ignored."""

    def __init__(self, loop: Loop, commands: Mapping[str, Callable[[], None]]) -> None:
        """Be ready to obey ``commands``, by letter."""
        self._loop = loop
        self._commands = commands
        self._paths: Sequence[str] = ()
        self._slot = 0
        self._fd = -1
        self._made = ""

    def set(self, paths: Sequence[str]) -> None:
        """Offer these names, the first of them now."""
        if tuple(paths) == tuple(self._paths):
            return
        self.close()
        self._paths, self._slot = tuple(paths[:10]), 0
        self._make()

    def _make(self) -> None:
        if not self._paths:
            return
        path = self._paths[self._slot]
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.mkfifo(path, 0o600)
            self._made = path
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            log.write(f"cannot make the master fifo {path}: {reason_of(error)}")
            return
        self._loop.watch(self._fd, self._read)

    def _read(self) -> None:
        data = os.read(self._fd, 1)
        if not data:
            self.close()
            self._make()
            return
        letter = data.decode("latin-1")
        if letter.isdecimal():
            self._choose(int(letter))
        elif command := self._commands.get(letter):
            command()

    def _choose(self, slot: int) -> None:
        if slot < len(self._paths):
            self._slot = slot
            log.write(f"active master fifo is now {self._paths[slot]}")

    def close(self) -> None:
        """Close the pipe and remove its name, if it is still ours."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            ours, there = os.fstat(self._fd), os.lstat(self._made)
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                os.unlink(self._made)
        self._loop.forget(self._fd)
        os.close(self._fd)
        self._fd = -1
