"""The Emperor's use of the helper that makes network namespaces: questions out, answers in.

The helper is started at the first question, and again when it died; what it had been asked then
has failed. It is asked a few things at once and the rest waits here: two that write to each other
and do not read would wait for ever.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from donjon import log
from donjon.emperor.reactor import Reactor
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.netns.wanted import Removal, Wanted

if TYPE_CHECKING:
    from donjon.netns.helper import Helper

AT_ONCE = 8
"""Questions that the helper has at a time."""

PAUSE = 2.0
"""Seconds until the end of a helper that never answered is told: who is told asks the next one,
and may be what ended it."""

Made = Callable[[list[Fd] | DonjonError], None]
"""What follows: the descriptors, which are the callee's now, or why there are none."""


class Makers:
    """Asks, and calls back."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.lost: Callable[[], None] = lambda: None
        self._helper: Helper | None = None
        self._numbers = 0
        self._answered = False  # the helper that is there
        self._waiting: deque[tuple[Wanted, Made]] = deque()
        self._removals: deque[Fd] = deque()
        self._open: dict[int, Made] = {}

    @property
    def pid(self) -> int:
        """The helper's pid, -1 while there is none."""
        return self._helper.pid if self._helper else -1

    def make(self, wanted: Wanted, made: Made) -> None:
        """Have it made; ``made`` is called later, in any case."""
        self._waiting.append((wanted, made))
        self._ask()

    def remove(self, device: Fd) -> None:
        """Have a device removed when there is nothing else to do; the kernel takes its time."""
        self._removals.append(device)
        self._ask()

    def _ask(self) -> None:
        while self._waiting and len(self._open) < AT_ONCE:
            wanted, made = self._waiting.popleft()
            try:
                self._send(self._at_work(), wanted, made)
            except OSError as error:
                problem = DonjonError(
                    "cannot ask for a network namespace", reason=reason_of(error)
                )
                self.reactor.after(0.0, functools.partial(made, problem))
        while self._removals and not self._open:
            with self._removals.popleft() as device, contextlib.suppress(OSError):
                if self._helper is not None:  # else it is closed here
                    self._send(self._helper, Removal(), _removed, device.fileno())

    def _send(self, helper: Helper, wanted: Wanted, made: Made, *last: int) -> None:
        from donjon.netns.helper import Request  # noqa: PLC0415  (as Helper below)

        self._numbers += 1
        helper.ask(Request(self._numbers, wanted), *last)
        self._open[self._numbers] = made

    def close(self) -> None:
        """Let the helper clean up, and wait for it."""
        if self._helper is not None:
            self.reactor.forget(self._helper.link.fileno())
            self._helper.close()
            self._helper = None

    def _at_work(self) -> Helper:
        if self._helper is None:
            from donjon.netns.helper import Helper  # noqa: PLC0415  (most Emperors never ask)

            self._helper = Helper()
            self._answered = False
            self.reactor.watch(self._helper.link.fileno(), lambda _events: self._hear())
        return self._helper

    def _hear(self) -> None:
        found = self._helper.answer() if self._helper else None
        if found is None:
            self._lose()
            return
        answer, fds = found
        self._answered = True
        made = self._open.pop(answer.number)
        self._ask()
        made(DonjonError(answer.error) if answer.error else fds)

    def _lose(self) -> None:
        log.write("[emperor] the helper that makes network namespaces died")
        self.close()
        pause = 0.0 if self._answered else PAUSE
        waiting, self._open = list(self._open.values()), {}
        for made in waiting:
            made(DonjonError("the helper that makes network namespaces died"))
        self.reactor.after(pause, self.lost)
        self._ask()


def _removed(_found: list[Fd] | DonjonError) -> None:
    """A helper that died closed it, too."""
