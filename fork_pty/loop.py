"""The loop of a router: one epoll, one list of timers, and signals that only wake it."""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from donjon.fork_pty._pump import Pump

Callback = Callable[[int], None]
"""Gets the events of epoll(7)."""

Spilling = tuple[int, Callable[[bytes], None]]

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
EVENTS = 64
CROWD = 1024
"""Timers of which those that are cancelled are looked for, before they are due."""

PAUSE = 0.1
"""Seconds without a look at a listener when descriptors or memory are used up."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Timer:
    """Something that is due once; ``cancel`` makes it never happen."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        """Make it; the loop keeps it."""
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget it."""
        self.callback = None


class Loop:
    """Waits, and calls what was registered for what happened."""

    def __init__(self, events: int = EVENTS) -> None:
        """Take at most ``events`` events of the kernel at once. Raises OSError."""
        self._epoll = select.epoll()
        self._events = max(events, 1)
        self._pump = Pump(self._epoll.fileno())
        self._spills: dict[int, Callable[[bytes], None]] = {}
        self._callbacks: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._crowd = CROWD
        self._order = itertools.count()
        self._signals: dict[int, Callable[[], None]] = {}
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._woken, READ, self._on_signals)
        self._running = False
        self.now = time.monotonic()
        """When what happens now was waited for."""

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Call ``callback`` for ``events`` of ``fd``, and always for its end."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of ``fd``."""
        self._pump.part(fd)
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop; the owner closes the descriptor afterwards."""
        self._pump.part(fd)
        self._spills.pop(fd, None)
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def accept(self, listener: socket.socket) -> tuple[socket.socket, Any] | None:
        """Accept who waits, from a listener that is watched; the connection never blocks.

        None if he was gone before we came or another process was faster. Where the kernel has
        nothing left to give, who waits would wake us all the time.
        """
        try:
            link, address = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                fd = listener.fileno()
                callback = self._callbacks.get(fd)
                self.change(fd, 0)
                self.after(PAUSE, lambda: self._look_again(fd, callback))
            return None
        link.setblocking(False)  # noqa: FBT003  (socket names it so)
        return link, address

    def _look_again(self, fd: int, callback: Callback | None) -> None:
        if self._callbacks.get(fd) is callback:  # not forgotten meanwhile
            self.change(fd, READ)

    def pair(self, terminal: Spilling, link: Spilling, *, framed: bool) -> None:
        """Copy between two descriptors without a word, until something happens to one of them.

        What was read and cannot be handed on whole is given to ``spill`` of where it came from.
        """
        self._spills[terminal[0]] = terminal[1]
        self._spills[link[0]] = link[1]
        self._pump.pair(terminal[0], link[0], framed)

    def part(self, fd: int) -> None:
        """Let every byte from and to it be thought about again."""
        self._pump.part(fd)

    def counts(self, terminal: int) -> tuple[int, int]:
        """Return how many bytes were typed and shown so since that was last asked."""
        return self._pump.counts(terminal)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, ``seconds`` from now."""
        if len(self._timers) > self._crowd:
            self._timers = [one for one in self._timers if one[2].callback is not None]
            heapq.heapify(self._timers)
            self._crowd = max(CROWD, 2 * len(self._timers))
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the loop when the signal has come."""
        self._signals[number] = callback
        signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def _on_signals(self, _events: int) -> None:
        for number in os.read(self._woken, 512):
            callback = self._signals.get(number)
            if callback is not None:
                callback()

    def run(self) -> None:
        """Wait and call until ``stop``."""
        self._running = True
        wait, callbacks = self._pump.wait, self._callbacks
        while self._running:
            happened = wait(self._patience(), self._events)
            self.now = time.monotonic()
            for fd, _, data in happened:  # first: nothing was closed yet, and no number reused
                if data is not None and (spill := self._spills.get(fd)) is not None:
                    spill(data)
            due = [
                (fd, events, callbacks.get(fd)) for fd, events, data in happened if data is None
            ]
            for fd, events, callback in due:
                if callback is not None and callbacks.get(fd) is callback:  # not another's number
                    callback(events)
            self._fire()

    def stop(self) -> None:
        """Leave ``run`` once everything that has happened is done."""
        self._running = False

    def _patience(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1.0
        return max(0.0, self._timers[0][0] - time.monotonic())  # callbacks take their time

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def close(self) -> None:
        """Release everything that the loop owns."""
        if self._signals:
            signal.set_wakeup_fd(-1)
            for number in self._signals:
                signal.signal(number, signal.SIG_DFL)
        self._epoll.close()
        os.close(self._woken)
        os.close(self._waker)
