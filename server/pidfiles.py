"""Pid files: ``pidfile`` before privileges are dropped, ``pidfile2`` after, ``safe-pidfile`` once
it runs.

A pid file is written beside its place and renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

import os

from donjon.errors import DonjonError, reason_of
from donjon.server.spec import ServerSpec


def write_early(spec: ServerSpec) -> None:
    """Write ``pidfile``, as the user that started the program. Raises DonjonError."""
    _write(spec, "pidfile", spec.pidfile)


def write_late(spec: ServerSpec) -> None:
    """Write ``pidfile2``, as the user that serves. Raises DonjonError."""
    _write(spec, "pidfile2", spec.pidfile2)


def write_safe(spec: ServerSpec) -> None:
    """Write ``safe-pidfile`` and ``safe-pidfile2``: workers exist. Raises DonjonError."""
    _write(spec, "safe_pidfile", spec.safe_pidfile)
    _write(spec, "safe_pidfile2", spec.safe_pidfile2)


def rewrite(spec: ServerSpec) -> None:
    """Write all of them again (master FIFO command P)."""
    write_early(spec)
    write_late(spec)
    write_safe(spec)


def remove(spec: ServerSpec) -> None:
    """Remove, at exit with ``vacuum``, those that still hold this process's pid."""
    for path in (spec.pidfile, spec.pidfile2, spec.safe_pidfile, spec.safe_pidfile2):
        if path is None:
            continue
        try:
            with open(path, encoding="ascii") as file:
                ours = file.read().strip() == str(os.getpid())
            if ours:
                os.unlink(path)
        except (OSError, UnicodeDecodeError):
            continue  # gone, not ours to read, or not ours to remove


def _write(spec: ServerSpec, option: str, path: str | None) -> None:
    if path is None:
        return
    try:
        _replace(path, f"{os.getpid()}\n")
    except OSError as error:
        raise DonjonError(
            f"cannot write pid file {path}",
            origin=spec.origins.get(option),
            reason=reason_of(error),
            hint=f"may uid {os.geteuid()} write to its directory?",
        ) from error


def _replace(path: str, text: str) -> None:
    """Write a new file of that name; a link is never followed into somebody else's file."""
    temporary = f"{path}.{os.getpid()}.new"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
    )
    try:
        os.write(fd, text.encode())
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
