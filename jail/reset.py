"""Emptying a directory that a customer filled, without following anything he left there.

Everything is done below one descriptor. What shall go is first renamed into a directory that only
root may enter, so that it is gone at once for whoever looks; then it is taken apart. A tree may be
deeper than any stack and than any number of descriptors: a directory that is not empty is renamed
up beside the others, so that nothing is ever deeper than one. Links are removed, not followed;
where something is mounted nothing is removed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterable, Iterator

from donjon import syscalls
from donjon.fd import Fd

TRASH = "trash"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE = 4096  # entries of a directory that are looked at before it is read again


def empty(keeper: int, names: Iterable[str]) -> None:
    """Remove ``names`` below the directory ``keeper``; what an earlier call left half done too.

    Raises OSError, with what could not be removed.
    """
    syscalls.fault("reset")
    with contextlib.suppress(FileExistsError):  # of an earlier call, or put there: looked at below
        os.mkdir(TRASH, 0o700, dir_fd=keeper)
    with Fd(os.open(TRASH, _DIRECTORY, dir_fd=keeper)) as trash:
        os.fchmod(trash.fileno(), 0o700)
        os.fchown(trash.fileno(), os.geteuid(), os.getegid())
        fresh = _unused(trash.fileno())
        for name in names:
            try:
                os.rename(name, next(fresh), src_dir_fd=keeper, dst_dir_fd=trash.fileno())
            except FileNotFoundError:
                continue
        _sweep(trash.fileno(), fresh)
    os.rmdir(TRASH, dir_fd=keeper)


def _unused(trash: int) -> Iterator[str]:
    """Yield names that are not in the directory."""
    taken = frozenset(os.listdir(trash))
    return (name for name in map(str, itertools.count()) if name not in taken)


def _sweep(trash: int, fresh: Iterator[str]) -> None:
    device = os.fstat(trash).st_dev
    pending = os.listdir(trash)
    while pending:
        name = pending.pop()
        if not stat.S_ISDIR(os.lstat(name, dir_fd=trash).st_mode):
            os.unlink(name, dir_fd=trash)
            continue
        with Fd(os.open(name, _DIRECTORY, dir_fd=trash)) as directory:
            if os.fstat(directory.fileno()).st_dev != device:
                raise OSError(errno.EBUSY, "something is mounted there", name)
            pending += _take_apart(directory.fileno(), trash, fresh)
        os.rmdir(name, dir_fd=trash)


def _take_apart(directory: int, trash: int, fresh: Iterator[str]) -> list[str]:
    """Remove what a directory has; return the new names of directories that are not empty."""
    moved: list[str] = []
    while True:
        with os.scandir(directory) as found:
            entries = [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in itertools.islice(found, _AT_ONCE)
            ]
        if not entries:
            return moved
        for name, is_directory in entries:
            if not is_directory:
                os.unlink(name, dir_fd=directory)
            elif not _remove_empty(directory, name):
                moved.append(next(fresh))
                os.rename(name, moved[-1], src_dir_fd=directory, dst_dir_fd=trash)


def _remove_empty(directory: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
