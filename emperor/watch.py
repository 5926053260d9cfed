"""inotify(7) as a stream of small events: which watched directory, which name in it, what
happened."""

from __future__ import annotations

import os
import struct

from donjon import syscalls
from donjon.fd import Fd
from donjon.records import dataclass

_HEADER = struct.Struct("iIII")  # struct inotify_event of linux/inotify.h, without the name

WRITTEN = syscalls.IN_CLOSE_WRITE | syscalls.IN_MOVED_TO | syscalls.IN_ATTRIB
"""The file is whole, or was touched: time to look at it."""

BEGUN = syscalls.IN_CREATE | syscalls.IN_MODIFY
"""The file appears or is being written: a link is whole at once, a file is not."""

VANISHED = syscalls.IN_DELETE | syscalls.IN_MOVED_FROM
ENDED = syscalls.IN_DELETE_SELF | syscalls.IN_MOVE_SELF | syscalls.IN_UNMOUNT
MASK = WRITTEN | BEGUN | VANISHED | syscalls.IN_DELETE_SELF | syscalls.IN_MOVE_SELF


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to ``name`` ("" for the directory itself) in ``directory``."""

    directory: str
    name: str
    mask: int


OVERFLOW = Change("", "", syscalls.IN_Q_OVERFLOW)
"""The kernel dropped events: everything must be looked at again."""


class Watch:
    """One inotify instance over directories."""

    def __init__(self) -> None:
        self._fd = Fd(syscalls.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._paths: dict[int, str] = {}
        self._wds: dict[str, int] = {}

    def fileno(self) -> int:
        """Lend the descriptor for epoll."""
        return self._fd.fileno()

    def close(self) -> None:
        """End all watches."""
        self._fd.close()

    def add(self, directory: str) -> bool:
        """Watch ``directory``; False where it does not exist or may not be read."""
        try:
            wd = syscalls.inotify_add_watch(
                self._fd.fileno(), directory, MASK | syscalls.IN_ONLYDIR
            )
        except OSError:
            return False  # the rescan still finds what is in it
        self._paths[wd] = directory
        self._wds[directory] = wd
        return True

    def keep(self, directories: set[str]) -> None:
        """Watch exactly these directories."""
        for directory in set(self._wds) - directories:
            wd = self._wds.pop(directory)
            if self._paths.pop(wd, None) is not None:
                self._remove(wd)
        for directory in directories:
            if directory not in self._wds:
                self.add(directory)

    def read(self) -> list[Change]:
        """Return what happened since the last call, without waiting."""
        changes: list[Change] = []
        while True:
            try:
                data = os.read(self._fd.fileno(), 65536)
            except BlockingIOError:
                return changes
            changes += self._parse(data)

    def _parse(self, data: bytes) -> list[Change]:
        changes = []
        offset = 0
        while offset < len(data):
            wd, mask, _cookie, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length
            if mask & syscalls.IN_Q_OVERFLOW:
                changes.append(OVERFLOW)
            elif mask & syscalls.IN_IGNORED:
                self._wds.pop(self._paths.pop(wd, ""), None)
            elif wd in self._paths:
                changes.append(Change(self._paths[wd], name, mask))
        return changes

    def _remove(self, wd: int) -> None:
        try:
            syscalls.inotify_rm_watch(self._fd.fileno(), wd)
        except OSError:
            return  # the directory is gone, and its watch with it
