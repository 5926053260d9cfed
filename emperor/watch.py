"""inotify(7) as a stream of small events: which watched path, which name in it, what happened."""

from __future__ import annotations

import contextlib
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
IN_DIRECTORIES = (
    syscalls.IN_ONLYDIR
    | WRITTEN
    | BEGUN
    | VANISHED
    | syscalls.IN_DELETE_SELF
    | syscalls.IN_MOVE_SELF
)


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to ``name`` ("" for itself) in ``path``."""

    path: str
    name: str
    mask: int


OVERFLOW = Change("", "", syscalls.IN_Q_OVERFLOW)
"""The kernel dropped events: everything must be looked at again."""


class Watch:
    """One inotify instance; ``mask`` is what it is told of.

    Two paths may be one file, by a link that anybody made: the kernel has one watch for both
    (inotify_add_watch(2)), and what happens is told of each.
    """

    def __init__(self, mask: int = IN_DIRECTORIES) -> None:
        self._mask = mask
        self._fd = Fd(syscalls.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._paths: dict[int, set[str]] = {}
        self._wds: dict[str, int] = {}

    def fileno(self) -> int:
        """Lend the descriptor for epoll."""
        return self._fd.fileno()

    def close(self) -> None:
        """End all watches."""
        self._fd.close()

    def add(self, path: str) -> bool:
        """Watch ``path``; False where it does not exist or may not be read."""
        try:
            wd = syscalls.inotify_add_watch(self._fd.fileno(), path, self._mask)
        except OSError:
            return False
        if self._wds.get(path, wd) != wd:
            self.remove(path)  # another file has the name now
        self._paths.setdefault(wd, set()).add(path)
        self._wds[path] = wd
        return True

    def remove(self, path: str) -> None:
        """Watch it no more. Does nothing for what is not watched."""
        wd = self._wds.pop(path, None)
        if wd is None:
            return
        self._paths[wd].remove(path)
        if self._paths[wd]:
            return
        del self._paths[wd]
        with contextlib.suppress(OSError):  # it is gone, and its watch with it
            syscalls.inotify_rm_watch(self._fd.fileno(), wd)

    def keep(self, paths: set[str]) -> None:
        """Watch exactly these. What cannot be watched now is tried again at the next call."""
        for path in set(self._wds) - paths:
            self.remove(path)
        for path in paths - set(self._wds):
            self.add(path)

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
                for path in self._paths.pop(wd, ()):
                    del self._wds[path]
            else:
                changes += [Change(path, name, mask) for path in sorted(self._paths.get(wd, ()))]
        return changes
