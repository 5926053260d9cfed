"""Trying something in a child, so that what it does to the process is gone with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from donjon import syscalls
from donjon.errors import reason_of
from donjon.fd import Fd

LIMIT = 500  # bytes of a reason


def failure(attempt: Callable[[], object], *, flags: int = 0, cgroup: int = -1) -> str | None:
    """Run ``attempt`` in a child made by clone3; return why it failed, None if it did not."""
    reader, writer = (Fd(number) for number in os.pipe())
    with reader, writer:
        try:
            pid, number = syscalls.clone3(flags, cgroup=cgroup)
        except OSError as error:
            return reason_of(error)
        if pid == 0:
            _answer(writer.fileno(), attempt)
        with Fd(number) as pidfd:
            writer.close()
            said = os.read(reader.fileno(), LIMIT).decode("utf-8", "replace")
            ended = os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)
    if ended is not None and ended.si_code != os.CLD_EXITED:
        return said or f"killed by {signal.Signals(ended.si_status).name}"
    return said or None


def _answer(writer: int, attempt: Callable[[], object]) -> None:
    """In the child: try, and say what went wrong; never returns."""
    try:
        attempt()
    except OSError as error:
        os.write(writer, reason_of(error).encode()[:LIMIT])
    except Exception as error:
        os.write(writer, f"{type(error).__name__}: {error}".encode()[:LIMIT])
    finally:
        os._exit(0)


def nothing() -> None:
    """Do nothing: being born was the trial."""
