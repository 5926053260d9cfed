"""A vassal's configuration, opened once by descriptor and read whole, or a reason to wait.

What is opened may be a customer's: a fifo must not block, a device must not be read, a gigabyte
must not be loaded, and what was checked must be what is read. A file that someone has open for
writing is half written; the kernel knows: a read lease (fcntl(2), F_SETLEASE) is refused with
EAGAIN while there is a writer, and while it is held a new writer waits for us. Where leases are
not to be had (another owner's file without CAP_LEASE, some file systems) the events of inotify
alone decide.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from donjon.emperor.scanner import Found
from donjon.errors import ConfigError, reason_of
from donjon.fd import Fd
from donjon.jail.interpreter import closed_to
from donjon.records import dataclass

SIZE_MAX = 4 << 20
"""Bytes that a vassal's configuration may have."""


class NotYetError(Exception):
    """The file is empty or half written: wait until it changes again."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was read, and from what."""

    data: bytes
    uid: int
    gid: int
    mode: int
    links: int
    path: str = ""  # where it really is, links resolved; "" if its owner is the one expected


def read_config(found: Found) -> Content:
    """Read a configuration. Raises NotYetError or ConfigError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        with Fd(os.open(found.path, flags)) as file:
            return _read(file.fileno(), found)
    except FileNotFoundError as error:
        raise NotYetError(f"{found.path} vanished") from error
    except OSError as error:
        raise ConfigError(f"cannot read {found.path}", reason=reason_of(error)) from error


def _read(fd: int, found: Found) -> Content:
    path = found.path
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a regular file")
    if status.st_size > SIZE_MAX:
        raise ConfigError(f"{path} has {status.st_size} bytes, more than {SIZE_MAX}")
    if status.st_size == 0:
        raise NotYetError(f"{path} is empty")
    leased = _lease(fd, path)
    try:
        data = _whole(fd, status.st_size)
        status = os.fstat(fd)
        expected = (status.st_uid, status.st_gid) == (found.uid, found.gid)
        real = "" if expected else os.readlink(f"/proc/self/fd/{fd}")
    finally:
        if leased:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    if not data:
        raise NotYetError(f"{path} is empty")
    if len(data) > SIZE_MAX:
        raise ConfigError(f"{path} has more than {SIZE_MAX} bytes")
    return Content(data, status.st_uid, status.st_gid, status.st_mode, status.st_nlink, real)


def _whole(fd: int, size: int) -> bytes:
    """Read a file that had ``size`` bytes a moment ago, and SIZE_MAX + 1 bytes at most."""
    data = os.pread(fd, size + 1, 0)
    if len(data) > size:  # it grew: no lease kept its writer away
        data = os.pread(fd, SIZE_MAX + 1, 0)
    return data


def _lease(fd: int, path: str) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise NotYetError(f"{path} is being written") from error
        return False  # EACCES, EINVAL: no leases here
    return True


def tyrant_refusal(content: Content) -> str:
    """Return why a tyrant does not run this file, or "". The rules are those of security case
    81."""
    if content.uid == 0 or content.gid == 0:
        return "its owner or its group is root"
    if content.mode & stat.S_IWOTH:
        return "everyone may write it"
    if content.links > 1:
        return "it has more than one hard link"
    return ""


def foreign_refusal(content: Content, found: Found, *, nofollow: bool) -> str:
    """Return why what was read is not for the owner that a scan saw to run, or "".

    Between the scan and the reading a customer may put another file, or a link to another
    customer's, under the name. With ``nofollow`` the owner of a link runs what it leads to, and
    root reads it for him: so he must be able to read it himself.
    """
    if (content.uid, content.gid) == (found.uid, found.gid):
        return ""
    if not nofollow:
        return "it changed hands while it was looked at"
    try:
        closed = closed_to(content.path, found.uid, (found.gid,), lists_count=False)
    except OSError:
        return "it vanished while it was looked at"
    return f"{closed} is closed to uid {found.uid}" if closed else ""
