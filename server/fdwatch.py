"""Descriptors that were handed to an instance and say something: ``alarm-fd``, ``reload-on-fd``.

An eventfd(2) that the kernel writes when a control group is out of memory is what they are for
(spec OOM). Whoever starts the instance registers it, and names its number in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from donjon import log
from donjon.errors import DonjonError
from donjon.server.loop import Loop
from donjon.server.spec import FdWatch

Act = Callable[[FdWatch], None]


class FdWatches:
    """All descriptors that an instance watches for others. They stay open: they are not ours."""

    def __init__(self, loop: Loop, act: Act) -> None:
        """Watch nothing yet."""
        self._loop = loop
        self._act = act
        self._watched: set[int] = set()

    def set(self, watches: Iterable[FdWatch]) -> None:
        """Watch these instead of what was watched before. Raises DonjonError for no descriptor."""
        self.close()
        groups: dict[int, list[FdWatch]] = {}
        for watch in watches:
            groups.setdefault(watch.fd, []).append(watch)
        for fd, all_of_it in groups.items():
            _check(all_of_it[0])
            os.set_inheritable(fd, False)  # noqa: FBT003  (its own signature)
            self._loop.watch(fd, self._on(fd, all_of_it))
            self._watched.add(fd)

    def _on(self, fd: int, watches: list[FdWatch]) -> Callable[[], None]:
        count = max(watch.count for watch in watches)

        def readable() -> None:
            try:
                data = os.read(fd, count)
            except BlockingIOError:
                return  # somebody else took it
            except OSError as error:
                log.write(f"cannot read descriptor {fd}: {error.strerror}")
                data = b""
            if not data:
                self._forget(fd)  # its other end is closed: nothing will come
                return
            for watch in watches:
                if not watch.alarm:
                    log.write(f"descriptor {fd} is ready: {watch.message}")
                self._act(watch)

        return readable

    def _forget(self, fd: int) -> None:
        self._watched.discard(fd)
        self._loop.forget(fd)

    def close(self) -> None:
        """Watch nothing."""
        for fd in list(self._watched):
            self._forget(fd)


def _check(watch: FdWatch) -> None:
    try:
        os.fstat(watch.fd)
    except OSError as error:
        raise DonjonError(
            f"{watch.fd} is no open descriptor",
            origin=watch.origin,
            hint="who starts this instance must hand it over; an Emperor's vassals get none",
        ) from error
