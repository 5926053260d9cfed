"""Sockets that a service manager bound before it started us: sd_listen_fds(3)."""

from __future__ import annotations

import os

FIRST = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def numbers() -> range:
    """Return the descriptors that were handed to this process, once: the variables go with it.

    They are closed in programs that this process executes.
    """
    pid, count, _names = (os.environ.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return range(0)
    found = range(FIRST, FIRST + int(count))
    for number in found:
        os.set_inheritable(number, False)  # noqa: FBT003  (os names it so)
    return found
