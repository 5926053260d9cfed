"""Where the output of an instance goes, and whether its starter waits for it."""

from __future__ import annotations

import os
from typing import NoReturn

from donjon.errors import DonjonError, reason_of
from donjon.origin import Origin

_READY = b"r"


def to_file(path: str, origin: Origin | None) -> None:
    """Append standard output and error to a file from now on. Raises DonjonError."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise DonjonError(
            f"cannot write the log {path}", origin=origin, reason=reason_of(error)
        ) from error
    os.dup2(number, 1)
    os.dup2(number, 2)
    os.close(number)


def to_background(path: str, origin: Origin | None) -> None:
    """Go on as a daemon: no terminal, output in ``path``. The starter ends with 0 at once."""
    number = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    to_file(path, origin)
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.dup2(number, 0)
    os.close(number)


def to_background_when_ready(path: str, origin: Origin | None) -> int:
    """Go on as a daemon whose starter waits, and ends with 0 when the instance is ready.

    Returns the descriptor for ``say_ready``. If the instance ends before, the starter ends with
    its exit status, and the reason is in the log file.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(writer)
        _wait_for(reader, pid)
    os.close(reader)
    os.setsid()
    to_file(path, origin)
    return writer


def _wait_for(reader: int, pid: int) -> NoReturn:
    if os.read(reader, 1) == _READY:
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def say_ready(writer: int) -> None:
    """Let the starter go."""
    os.write(writer, _READY)
    os.close(writer)
