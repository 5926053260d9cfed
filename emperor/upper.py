"""An Emperor that is itself a vassal: its link to the Emperor above (spec EMP-17)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from donjon import log
from donjon.emperor.protocol import FromVassal, ToVassal

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor


class UpperLink:
    """Speaks as a vassal does. A sub-Emperor is loyal by default."""

    def __init__(self, fd: int, emperor: Emperor) -> None:
        self.fd = fd
        self.emperor = emperor

    def greet(self) -> None:
        """Say that this Emperor is there, accepts and is loyal; listen from now on.

        Beside a master it is the master who listens, and hands on what is said.
        """
        fcntl.fcntl(self.fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        os.set_blocking(self.fd, False)
        for word in (FromVassal.SPAWNED, FromVassal.ACCEPTING, FromVassal.LOYAL):
            with contextlib.suppress(OSError):  # the end of file is seen by the loop
                os.write(self.fd, bytes([word]))
        if not self.emperor.spec.beside_master:
            self.emperor.reactor.watch(self.fd, lambda _events: self._hear())

    def _hear(self) -> None:
        try:
            data = os.read(self.fd, 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            log.write("lost connection with my emperor !!!")
            self.emperor.reactor.forget(self.fd)
            self.emperor.abandon()
            return
        for byte in data:
            if byte in (ToVassal.STOP, ToVassal.GRACEFUL):
                self.emperor.ragnarok()
            elif byte == ToVassal.RELOAD:
                self.emperor.reload_all()
