"""Vassals' output: one pipe each, read by the Emperor, written to its own log and to a file per
vassal.

A vassal cannot write terminal escapes into the Emperor's log, and cannot flood it: beyond its
allowance lines are counted and dropped, and the count is told. The last lines are kept for
``donjon logs``.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections import deque
from collections.abc import Callable

from donjon.errors import reason_of
from donjon.fd import Fd

ALLOWANCE = 4 << 20
"""Bytes a vassal may log in WINDOW seconds."""

WINDOW = 10.0
LINE_COST = 64
"""Bytes that a line counts at least: empty ones cost us most."""

LINE_MAX = 16 * 1024
RING_BYTES = 64 * 1024
FILE_MAX = 16 << 20
"""Bytes after which a vassal's log file becomes NAME.1 and a new one begins."""

READ_SIZE = 64 * 1024
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")

Follower = Callable[[str], None]


def printable(line: bytes) -> bytes:
    """Return ``line`` with control characters, but tabs, written as ``\\xNN``."""
    return _CONTROL.sub(lambda match: b"\\x%02x" % match.group()[0], line.replace(b"\r", b""))


class LogFile:
    """A file that is appended to and turned over when it is full."""

    def __init__(self, directory: str, name: str) -> None:
        self._path = f"{directory}/{name.strip('/').replace('/', '_')}.log"
        self._fd: Fd | None = None
        self._size = 0
        self._lost = 0  # bytes since the last that is in the file
        self._torn = False
        self._reason = ""

    def write(self, data: bytes) -> None:
        """Append. A full disk loses lines, never the Emperor; how much is said afterwards."""
        left = len(data)
        try:
            self._open()
            if self._size + left > FILE_MAX:
                self._turn_over()
            if self._lost:
                self._tell_loss()
            left -= self._append(data)
            self._torn = left > 0
        except OSError as error:
            self._reason = reason_of(error)
            self.close()
        self._lost += left

    def _tell_loss(self) -> None:
        """Write what is missing here; raises OSError where there still is no room for that."""
        start = "\n" if self._torn else ""
        note = f"{start}[emperor] {self._lost} bytes are missing here: {self._reason}\n".encode()
        done = self._append(note)
        if done < len(note):
            self._torn = self._torn or done > 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._lost, self._torn = 0, False

    def _append(self, data: bytes) -> int:
        """Write what there is room for; return how much that was."""
        done = os.write(self._fd.fileno(), data) if self._fd is not None else 0
        if done < len(data):
            self._reason = os.strerror(errno.ENOSPC)
        self._size += done
        return done

    def close(self) -> None:
        """Close; the next write opens it again."""
        if self._fd is not None:
            self._fd.close()
            self._fd = None

    def _open(self) -> None:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = Fd(os.open(self._path, flags, 0o640))
            self._size = os.fstat(self._fd.fileno()).st_size

    def _turn_over(self) -> None:
        self.close()
        os.replace(self._path, self._path + ".1")
        self._open()


class VassalLog:
    """The log of one vassal, over all its lives."""

    def __init__(self, name: str, directory: str | None, clock: Callable[[], float]) -> None:
        self.name = name
        self._file = LogFile(directory, name) if directory else None
        self._ring: deque[bytes] = deque()
        self._ring_size = 0
        self._partial = b""
        self._clock = clock
        self._since = 0.0
        self._spent = 0
        self._dropped = 0
        self.followers: list[Follower] = []

    def feed(self, data: bytes) -> None:
        """Take what came out of the pipe; whole lines go on."""
        self._renew()
        if self._spent > ALLOWANCE:
            self._dropped += data.count(b"\n")
            self._partial = b""
            return
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        if len(self._partial) > LINE_MAX:
            lines.append(self._partial)
            self._partial = b""
        self._admit(lines)

    def flush(self) -> None:
        """The pipe is at its end: the last line may lack its newline."""
        if self._partial:
            self._admit([self._partial])
            self._partial = b""

    def say(self, text: str) -> None:
        """Add a line of the Emperor's own about this vassal; it is written by the caller's log."""
        self._keep([printable(text.encode("utf-8", "backslashreplace"))])

    def tail(self, count: int) -> list[str]:
        """Return the last ``count`` lines."""
        lines = list(self._ring)[-count:] if count > 0 else []
        return [line.decode("utf-8", "backslashreplace") for line in lines]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _renew(self) -> None:
        """Begin a new window when the old one is over, and tell what was dropped in that."""
        now = self._clock()
        if now - self._since < WINDOW:
            return
        dropped, self._dropped = self._dropped, 0
        self._since, self._spent = now, 0
        if dropped:
            self._emit(
                [
                    f"[emperor] {dropped} lines of {self.name} were dropped".encode(
                        "utf-8", "backslashreplace"
                    )
                ]
            )

    def _admit(self, lines: list[bytes]) -> None:
        """Let lines through as far as the allowance goes, and count the others."""
        taken = 0
        for line in lines:
            self._spent += max(len(line), LINE_COST)
            if self._spent > ALLOWANCE:
                break
            taken += 1
        self._dropped += len(lines) - taken
        self._emit([printable(line[:LINE_MAX]) for line in lines[:taken]])

    def _emit(self, lines: list[bytes]) -> None:
        """Write lines, all by one call: a call a line would let a flood of them hold us."""
        if lines:
            write_stderr(b"".join([line + b"\n" for line in lines]))
            self._keep(lines)

    def _keep(self, lines: list[bytes]) -> None:
        if self._file is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S ").encode()
            self._file.write(b"".join([stamp + line + b"\n" for line in lines]))
        for line in lines:
            self._ring.append(line)
            self._ring_size += len(line) + 64
        while self._ring_size > RING_BYTES:
            self._ring_size -= len(self._ring.popleft()) + 64
        for follower in tuple(self.followers):
            for line in lines:
                follower(line.decode("utf-8", "backslashreplace"))


def write_stderr(data: bytes) -> None:
    """Write to the Emperor's log. A log that is closed or full stops nothing."""
    try:
        os.write(2, data)
    except OSError:
        return


def usable_directory(wanted: str | None, default: str = "/var/log/donjon") -> str | None:
    """Return where log files go: what was asked for (made if missing), or the default if it is
    there."""
    if wanted is None:
        return default if os.path.isdir(default) and os.access(default, os.W_OK) else None
    try:
        os.makedirs(wanted, mode=0o750, exist_ok=True)
    except OSError as error:
        write_stderr(f"[emperor] no log files: {wanted}: {error.strerror}\n".encode())
        return None
    return wanted if os.access(wanted, os.W_OK) else None
