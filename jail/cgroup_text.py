"""Reading and writing control files: a number, ``max``, or lines of NAME NUMBER."""

from __future__ import annotations

import os

from donjon.fd import Fd


def read(path: str) -> str:
    """Return a file's text, "" where there is no such file (or group any more)."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    """Write in one piece, as control files want it. Raises OSError with the path."""
    with Fd(os.open(path, os.O_WRONLY | os.O_CLOEXEC)) as file:
        try:
            os.write(file.fileno(), text.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error


def hierarchy_of(path: str) -> str:
    """Return the root of the hierarchy in which ``path`` is or would be."""
    while path != "/" and (
        not os.path.isdir(path) or os.path.exists(f"{os.path.dirname(path)}/cgroup.procs")
    ):
        path = os.path.dirname(path)
    return path


def number(path: str) -> int | None:
    """Return a number; None for ``max``, for no file, and for anything else."""
    text = read(path).strip()
    return int(text) if text.isdecimal() else None


def table(path: str) -> dict[str, int]:
    """Return the numbers of ``NAME NUMBER`` lines."""
    found = {}
    for line in read(path).splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdecimal():
            found[name] = int(value)
    return found
