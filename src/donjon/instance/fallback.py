"""``fallback-config``: what an instance becomes when it ends with status 1 (uwsgi-facts 6.10).

The process is replaced, so pid and parent stay. Path and control socket are remembered at the
start: the working directory may change, and the socket is closed by the time it is needed.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import NoReturn

from donjon import log

EMPEROR_FD = "UWSGI_EMPEROR_FD"
"""Names the descriptor of the control socket in the environment of a vassal."""

FALLBACK_STATUS = 1


class Fallback:
    """A configuration kept in reserve."""

    def __init__(self, path: str) -> None:
        """Remember what ``take_over`` needs."""
        self._path = os.path.abspath(path)
        number = os.environ.get(EMPEROR_FD, "")
        self._number = int(number) if number.isdecimal() else -1
        self.kept_fd = _duplicate(self._number) if self._number >= 0 else -1

    def take_over(self) -> NoReturn:
        """Become an instance of the configuration. Raises OSError if nothing can be executed."""
        log.write(f"!!! {self._path} (fallback config) takes over !!!")
        if self.kept_fd >= 0:
            os.dup2(self.kept_fd, self._number)  # inheritable
        os.execv(sys.executable, [sys.executable, "-P", "-m", "donjon", self._path])


def _duplicate(number: int) -> int:
    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:
        return -1  # the environment lies; the start says so
