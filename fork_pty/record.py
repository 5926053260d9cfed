"""Recordings of sessions, as asciicast v2: a header of JSON, then one event a line.

A record is written by who is outside of the jail, to a directory of root's alone. A session goes
on whatever happens to its record: what a full disk does not take is counted, and a marker says so
once there is room again. A file has at most ``FILE_MAX`` bytes, then a next part begins; of all
files of the directory the oldest go when they have more than ``ALL_MAX``.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Sequence
from typing import Protocol

from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd

FILE_MAX = 64 << 20
ALL_MAX = 1 << 30
SUFFIX = ".cast"
HEAD_MAX = 4096
"""Bytes that must be there for a part to be begun."""

PAUSE = 1.0
"""Seconds between two tries to begin a part."""


class Store(Protocol):
    """Where the parts of a record are made."""

    def part(self, name: str, number: int) -> Fd:
        """Make part ``number`` of the record ``name``, empty. Raises OSError."""

    def close(self) -> None:
        """Make no more."""


class Directory:
    """A directory of records that only its owner writes to."""

    def __init__(self, path: str, *, most: int | None = None, patient: bool = False) -> None:
        """Make it if it is not there; of more than ``most`` bytes (``ALL_MAX``) the oldest go.

        A ``patient`` one that cannot be made now, of a full disk, is made with its first part.
        Raises DonjonError for one that others write to, OSError.
        """
        self._path = path
        self._most = ALL_MAX if most is None else most
        self._fd: Fd | None = None
        try:
            self._fd = _open_directory(path)
        except OSError:
            if not patient:
                raise

    def part(self, name: str, number: int) -> Fd:
        """See Store."""
        if self._fd is None:
            try:
                self._fd = _open_directory(self._path)
            except DonjonError as error:
                raise OSError(errno.EPERM, str(error)) from error
        _prune(self._fd, self._most)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        path = f"{name}-{number}{SUFFIX}"
        file = Fd(os.open(path, flags, 0o600, dir_fd=self._fd.fileno()))
        try:
            os.posix_fallocate(file.fileno(), 0, HEAD_MAX)  # each event is another try
            os.ftruncate(file.fileno(), 0)
        except OSError:
            file.close()
            os.unlink(path, dir_fd=self._fd.fileno())
            raise
        return file

    def close(self) -> None:
        """See Store."""
        if self._fd is not None:
            self._fd.close()


class Record:
    """The record of one session."""

    def __init__(
        self, store: Store | str, name: str, rows: int, cols: int, *, with_keys: bool = False,
        patient: bool = False,
    ) -> None:  # fmt: skip
        """Begin the first part, in a directory or elsewhere. Raises DonjonError.

        A ``patient`` record begins when it can, and what was before is a gap.
        """
        self._title = name
        self._size = (rows, cols)
        self._with_keys = with_keys
        self._began = time.monotonic()
        self._part = 0
        self._written = self._lost = 0
        self._again = 0.0  # when another part may be asked for
        self._pause = PAUSE if patient else 0.0
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in "oi"}
        self._name = f"{name}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self._file: Fd | None = None
        try:
            self._store = Directory(store) if isinstance(store, str) else store
            self._file = self._open_part()
        except OSError as error:
            if not patient:
                what = f"cannot record to {store}" if isinstance(store, str) else "cannot record"
                raise DonjonError(what, reason=reason_of(error)) from error

    def _open_part(self) -> Fd:
        if time.monotonic() < self._again:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._again = time.monotonic() + self._pause
        file = self._store.part(self._name, self._part + 1)
        rows, cols = self._size
        head = {"version": 2, "width": cols, "height": rows, "timestamp": int(time.time()),
                "title": self._title}  # fmt: skip
        line = json.dumps(head).encode() + b"\n"
        try:
            _write_whole(file, line)
        except OSError:
            file.close()
            raise
        self._part += 1
        self._again = 0.0
        self._written = len(line)
        return file

    def output(self, data: bytes) -> None:
        """Write what the program wrote."""
        self._event("o", self._decoders["o"].decode(data))

    def keys(self, data: bytes) -> None:
        """Write what was typed, where that was asked for: passwords are typed."""
        if self._with_keys:
            self._event("i", self._decoders["i"].decode(data))

    def resize(self, rows: int, cols: int) -> None:
        """Write that the window has another size."""
        self._size = (rows, cols)
        self._event("r", f"{cols}x{rows}")

    def _event(self, kind: str, text: str) -> None:
        if not text:
            return
        events = [(kind, text)]
        if self._lost:
            events.insert(0, ("m", f"a gap: {self._lost} characters were not written"))
        if self._put(events):
            self._lost = 0
        else:
            self._lost += len(text)

    def _put(self, events: Sequence[tuple[str, str]]) -> bool:
        """Write these lines or none of them; return whether that could be done."""
        seconds = round(time.monotonic() - self._began, 6)
        lines = b"".join(json.dumps([seconds, *one]).encode() + b"\n" for one in events)
        try:
            if self._file is None or self._written + len(lines) > FILE_MAX:
                following = self._open_part()
                if self._file is not None:
                    self._file.close()
                self._file = following
            if os.write(self._file.fileno(), lines) < len(lines):
                os.ftruncate(self._file.fileno(), self._written)
                os.lseek(self._file.fileno(), self._written, os.SEEK_SET)
                return False
        except OSError:
            return False
        self._written += len(lines)
        return True

    def close(self) -> None:
        """End the record."""
        if self._file is not None:
            self._file.close()
        self._store.close()


def _write_whole(file: Fd, line: bytes) -> None:
    if os.write(file.fileno(), line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _open_directory(path: str) -> Fd:
    """Have a directory that nobody else writes to. Raises DonjonError, OSError."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    directory = Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW))
    try:
        _check_owner(directory, path)
    except DonjonError:
        directory.close()
        raise
    return directory


def _check_owner(directory: Fd, path: str) -> None:
    found = os.fstat(directory.fileno())
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise DonjonError(
            f"cannot record to {path}",
            reason="others can write there",
            hint=f"chown root {path}; chmod 700 {path}",
        )


def _prune(directory: Fd, most: int) -> None:
    """Remove the oldest records while there are too many bytes of them."""
    found = []
    for name in os.listdir(directory.fileno()):
        if name.endswith(SUFFIX):
            with contextlib.suppress(FileNotFoundError):  # another recorder prunes as well
                facts = os.stat(name, dir_fd=directory.fileno(), follow_symlinks=False)
                found.append((facts.st_mtime, name, facts.st_size))
    excess = sum(size for _, _, size in found) - most
    for _, name, size in sorted(found):
        if excess <= 0:
            return
        with contextlib.suppress(FileNotFoundError):  # as above
            os.unlink(name, dir_fd=directory.fileno())
        excess -= size
