"""Sockets that a service manager bound before it started us: sd_listen_fds(3)."""

from __future__ import annotations

import os

from donjon.errors import DonjonError, reason_of

FIRST = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def numbers() -> range:
    """Return the descriptors that were handed to this process, once: the variables go with it.

    They are closed in programs that this process executes. Raises DonjonError.
    """
    pid, count, _names = (os.environ.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return range(0)
    found = range(FIRST, FIRST + int(count))
    for number in found:
        try:
            os.set_inheritable(number, False)  # noqa: FBT003  (os names it so)
        except OSError as error:
            raise unusable(number, error) from error
    return found


def unusable(number: int, error: OSError) -> DonjonError:
    """Say that what was handed to us is nothing that can serve."""
    return DonjonError(
        f"LISTEN_FDS: descriptor {number} is not a socket that listens",
        reason=reason_of(error),
        hint="a .socket unit for donjon has ListenStream=",
    )
