"""Files that are watched: touch-reload and its kin, hook-touch.

inotify on the directory tells of a change at once and costs nothing while there is none; names
that are replaced by rename are seen too. What counts is the time of last modification in
nanoseconds: a reader of the file changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from donjon import log, syscalls
from donjon.errors import reason_of
from donjon.records import dataclass
from donjon.server.loop import Loop

MASK = (
    syscalls.IN_ATTRIB
    | syscalls.IN_CLOSE_WRITE
    | syscalls.IN_CREATE
    | syscalls.IN_MODIFY
    | syscalls.IN_MOVED_TO
)
POLL = 1.0
"""Seconds between looks at files whose directory cannot be watched."""


@dataclass(slots=True)
class Watched:
    """A file, what to do when it changes, and when it last did."""

    path: str
    action: Callable[[], None]
    stamp: int


class Touches:
    """All watched files of an instance."""

    def __init__(self, loop: Loop) -> None:
        """Watch nothing yet."""
        self._loop = loop
        self._fd = -1
        self._files: list[Watched] = []
        self._polling = False

    def set(self, files: list[tuple[str, Callable[[], None]]]) -> None:
        """Watch these files instead of what was watched before."""
        self.close()
        self._files = [Watched(path, action, stamp(path)) for path, action in files]
        if not self._files:
            return
        self._fd = syscalls.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.watch(self._fd, self._drain)
        folders = {os.path.dirname(path) or "." for path, _ in files}
        unwatched = [folder for folder in sorted(folders) if not self._watch(folder)]
        if unwatched:
            self._poll_from_now_on()

    def _watch(self, folder: str) -> bool:
        try:
            syscalls.inotify_add_watch(self._fd, folder, MASK)
        except OSError as error:
            log.write(f"cannot watch {folder}: {reason_of(error)}; looking once a second instead")
            return False
        return True

    def _poll_from_now_on(self) -> None:
        if not self._polling:
            self._polling = True
            self._loop.every(POLL, self.check)

    def _drain(self) -> None:
        try:
            while os.read(self._fd, 65536):
                continue
        except BlockingIOError:
            self.check()

    def check(self) -> None:
        """Look at every file, and act on those that changed."""
        for watched in list(self._files):
            now = stamp(watched.path)
            if now != watched.stamp:
                watched.stamp = now
                if now:
                    log.write(f"*** {watched.path} has been touched... ***")
                    watched.action()

    def close(self) -> None:
        """Watch nothing."""
        self._files = []
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1


def stamp(path: str) -> int:
    """Return the time of last modification in nanoseconds, 0 for a file that is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
