"""``mountpoint-check``: an instance whose file system is gone ends at once, to be made anew.

A sentinel, a child of the master's, looks at every directory each second and says so on a pipe.
What it finds wrong, and its silence, are the end of the instance: workers are killed, the status
is 1, nothing is waited for (uwsgi-facts 3.8). The sentinel may be beyond SIGKILL while it hangs,
so it is not among the children that an orderly end waits for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from donjon import log, syscalls
from donjon.errors import reason_of
from donjon.fd import Fd
from donjon.jail import descriptors, mountcheck
from donjon.server.loop import Loop, Timer

EVERY = 1.0
_BEAT = b"."


class MountCheck:
    """The sentinel and who listens to it."""

    def __init__(self, loop: Loop, perish: Callable[[str], None]) -> None:
        """``perish`` ends the instance for a reason."""
        self._loop = loop
        self._perish = perish
        self._paths: tuple[str, ...] = ()
        self._pipe: Fd | None = None
        self._child: Fd | None = None
        self._heard = 0.0
        self._timer: Timer | None = None

    def set(self, paths: Sequence[str]) -> None:
        """Look at these directories from now on."""
        if tuple(paths) == self._paths:
            return
        self.close()
        self._paths = tuple(paths)
        if self._paths:
            self._start()

    def _start(self) -> None:
        reader, writer = (Fd(number) for number in os.pipe2(os.O_CLOEXEC))
        pid, pidfd = self._loop.fork()
        if pid == 0:
            reader.close()
            _watch(self._paths, writer)
        writer.close()
        self._pipe, self._child = reader, Fd(pidfd)
        self._heard = self._loop.now()
        self._loop.watch(reader.fileno(), self._hear)
        self._timer = self._loop.after(EVERY, self._listen)

    def _hear(self) -> None:
        assert self._pipe is not None
        said = os.read(self._pipe.fileno(), 4096)
        self._heard = self._loop.now()
        if said.strip(_BEAT):
            self._perish(said.strip(_BEAT).decode("utf-8", "replace"))
        elif not said:
            self._perish("mountpoint-check: its sentinel died")

    def _listen(self) -> None:
        silence = self._loop.now() - self._heard
        if silence > EVERY + mountcheck.PATIENCE:
            paths = " or ".join(self._paths)
            self._perish(f"{paths}: it does not answer within {mountcheck.PATIENCE:g} seconds")
        self._timer = self._loop.after(EVERY, self._listen)

    def close(self) -> None:
        """Stop looking. A sentinel that hangs ends when its file system does."""
        if self._timer is not None:
            self._timer.cancel()
        if self._pipe is not None and self._child is not None:
            self._loop.forget(self._pipe.fileno())
            self._pipe.close()
            syscalls.pidfd_send_signal(self._child.fileno(), signal.SIGKILL)
            self._child.close()
        self._pipe = self._child = self._timer = None
        self._paths = ()


def _watch(paths: Sequence[str], writer: Fd) -> None:
    """Be the sentinel; never returns."""
    try:
        syscalls.set_pdeathsig(signal.SIGKILL)
        descriptors.seal((writer.fileno(),))
        devices: dict[str, int] = {}
        while True:
            for path in paths:
                fault = _fault(path, devices)
                os.write(writer.fileno(), f"{path}: {fault}".encode() if fault else _BEAT)
            time.sleep(EVERY)
    except BaseException as error:
        log.write(f"mountpoint-check: {type(error).__name__}: {error}")
    finally:
        os._exit(1)


def _fault(path: str, devices: dict[str, int]) -> str:
    """Return what is wrong now; the file system that was there at first must be the same."""
    try:
        fault = mountcheck.look(path, devices.get(path))
        devices.setdefault(path, os.stat(path).st_dev)
    except OSError as error:
        return reason_of(error)
    return fault
