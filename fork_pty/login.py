"""Logins through PAM, by a process of their own: a module of PAM may take its time.

The child gets what it is to check by being forked, answers with its exit status, and is killed
after ``PATIENCE`` seconds.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from donjon import syscalls
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.fork_pty.loop import READ, Loop

PATIENCE = 20.0
GOOD, BAD = 0, 1


def load() -> None:
    """Import python-pam, which is there only where it is wanted. Raises DonjonError."""
    try:
        importlib.import_module("pam")
    except ImportError as error:
        raise DonjonError(
            "forkpty-auth = pam needs python-pam", reason=str(error), hint="pip install python-pam"
        ) from error


def check(
    loop: Loop, service: str, user: str, password: str, done: Callable[[bool], None]
) -> None:
    """Ask PAM whether ``user`` has this password; ``done`` gets the answer later."""
    pid, pidfd = syscalls.clone3(syscalls.CLONE_PIDFD)
    if pid == 0:
        _ask(service, user, password)
    process = Fd(pidfd)

    def kill() -> None:
        if not process.closed:
            syscalls.pidfd_send_signal(process.fileno(), signal.SIGKILL)

    timer = loop.after(PATIENCE, kill)

    def ended(_events: int) -> None:
        found = os.waitid(os.P_PIDFD, process.fileno(), os.WEXITED)
        loop.forget(process.fileno())
        process.close()
        timer.cancel()
        assert found is not None
        done(found.si_code == os.CLD_EXITED and found.si_status == GOOD)

    loop.watch(process.fileno(), READ, ended)


def _ask(service: str, user: str, password: str) -> NoReturn:
    try:
        syscalls.set_pdeathsig(signal.SIGKILL)
        syscalls.close_range(3, 0xFFFFFFFF)
        pam = importlib.import_module("pam")
        good = bool(user) and pam.pam().authenticate(user, password, service=service)
    except BaseException:  # whatever it is, it is no login
        os._exit(BAD)
    os._exit(GOOD if good else BAD)
