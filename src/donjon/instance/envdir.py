"""``envdir``: a directory whose files are environment variables (envdir(8) of daemontools).

The first line of a file, without blanks at its end, is the value; a NUL in it stands for a
newline. An empty file removes the variable. The directory may be a customer's, so nothing but
small regular files is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from donjon.errors import DonjonError, reason_of
from donjon.origin import Origin

LIMIT = 128 * 1024
"""Bytes of one value: what execve(2) takes in one string (MAX_ARG_STRLEN)."""


def apply(directories: Iterable[str], origin: Origin | None) -> None:
    """Set the variables of each directory. Raises DonjonError that names the file."""
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise _failure(directory, origin, reason_of(error)) from error
        for name in names:
            if not name.startswith(".") and "=" not in name:
                _set(name, os.path.join(directory, name), origin)


def _set(name: str, path: str, origin: Origin | None) -> None:
    try:
        data = _read(path)
    except OSError as error:
        raise _failure(path, origin, reason_of(error)) from error
    if data is None:
        raise _failure(path, origin, f"not a regular file of at most {LIMIT} bytes")
    if data:
        line = data.split(b"\n", 1)[0].rstrip(b" \t")
        os.environb[os.fsencode(name)] = line.replace(b"\0", b"\n")
    else:
        os.environ.pop(name, None)


def _read(path: str) -> bytes | None:
    """Read a whole small regular file; a fifo or a device does not hold us up."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return None
        data = b""
        while len(data) <= LIMIT and (more := os.read(number, LIMIT + 1 - len(data))):
            data += more
        return data if len(data) <= LIMIT else None
    finally:
        os.close(number)


def _failure(path: str, origin: Origin | None, reason: str) -> DonjonError:
    return DonjonError(f"cannot read the environment in {path}", origin=origin, reason=reason)
