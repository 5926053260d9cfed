"""``--stop``, ``--reload``, ``--pause`` and their kin: a signal for the process of a pid file."""

from __future__ import annotations

import os
import signal

from donjon import log, syscalls
from donjon.errors import ConfigError, reason_of
from donjon.fd import Fd
from donjon.origin import Origin

SIGNALS = {
    "stop": signal.SIGINT,
    "reload": signal.SIGHUP,
    "pause": signal.SIGTSTP,
    "resume": signal.SIGTSTP,
}
"""What each option sends (uwsgi-facts 7.3)."""

NO_PROCESS = 255
"""Exit status of the original where the process is gone."""

_LONGEST = 32  # bytes: a number, and no more of a file that is something else


def tell(option: str, path: str, origin: Origin) -> int:
    """Send the signal of ``option`` to the process named in ``path``; return the exit status.

    Raises ConfigError for a file that cannot be read or holds no pid: the original sends the
    signal to its own process group then.
    """
    pid = _read(option, path, origin)
    try:
        with Fd(syscalls.pidfd_open(pid)) as process:
            syscalls.pidfd_send_signal(process.fileno(), SIGNALS[option])
    except OSError as error:
        log.write(f"donjon: cannot {option} process {pid} of {path}: {reason_of(error)}")
        return NO_PROCESS
    return 0


def _read(option: str, path: str, origin: Origin) -> int:
    what = f"cannot {option} by the pid file {path}"
    try:
        with Fd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
            text = os.read(file.fileno(), _LONGEST).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(what, origin=origin, reason=reason_of(error)) from error
    if not (text.isdecimal() and int(text) > 1):
        raise ConfigError(what, origin=origin, reason="it holds no process id")
    return int(text)
