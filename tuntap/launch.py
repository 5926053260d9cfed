"""Start a router: a fresh interpreter that holds one socket, and nothing of who starts it."""

from __future__ import annotations

import os
import socket
import sys

from donjon import syscalls
from donjon.fd import Fd
from donjon.records import dataclass

CHANNEL = 3
"""The descriptor on which a router finds its supervisor."""

ROUTER = "donjon.tuntap.router"


@dataclass(frozen=True, slots=True)
class Started:
    """A router that was started; its parent reaps ``pid`` when ``pidfd`` becomes readable.

    ``channel`` is for ``RouterClient``. When that end is closed, the router ends.
    """

    pid: int
    pidfd: Fd
    channel: socket.socket


def start(module: str = "donjon.tuntap.router") -> Started:
    """Start a router, or another ``module`` that lives in the same way, as a child of
    the caller, which must be root. Raises OSError.

    It isolates itself before it reads its first message, and a router is up when the first is
    answered. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", module],
            {"LC_ALL": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL),
            ],
            setsigmask=(),
        )
    return Started(pid, Fd(syscalls.pidfd_open(pid)), ours)
