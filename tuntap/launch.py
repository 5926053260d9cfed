"""Start a router: a fresh interpreter that holds one socket, and nothing of who starts it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack

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

    def kill(self) -> None:
        """Kill it, unless it was reaped: its end is an event."""
        if not self.pidfd.closed:
            syscalls.pidfd_send_signal(self.pidfd.fileno(), signal.SIGKILL)

    def reap(self) -> str:
        """Wait for its end; return how it ended, "" where that is not known."""
        with self.pidfd as pidfd:
            result = os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)
        if result is None:
            return ""
        how = "exit code" if result.si_code == os.CLD_EXITED else "signal"
        return f"{how} {result.si_status}"


def start(module: str = ROUTER) -> Started:
    """Start a router, or another ``module`` that lives in the same way, as a child of
    the caller, which must be root.

    It isolates itself before it reads its first message, and a router is up when the first is
    answered. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, ExitStack() as stack:
        stack.enter_context(ours)
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
        stack.callback(os.waitpid, pid, 0)
        stack.callback(os.kill, pid, signal.SIGKILL)  # before it is waited for
        pidfd = Fd(syscalls.pidfd_open(pid))
        stack.pop_all()
    return Started(pid, pidfd, ours)
