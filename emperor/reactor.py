"""The loop under the Emperor: epoll, a heap of timers, and signals that only wake it.

Nothing here polls: with no event and no timer due the process sleeps in epoll_wait(2). A callback
may forget any descriptor, its own included; an event already fetched for a forgotten descriptor is
dropped, even when the number was taken by a new file meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import math
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from types import FrameType

OnReady = Callable[[int], None]
"""Called with the epoll events that are set."""

SLICE = 0.002
"""Seconds of timers' work after which descriptors are looked at again."""

OnSignal = Callable[[int], None]


class Timer:
    """A call in the future. ``cancel()`` makes it never happen."""

    __slots__ = ("callback", "cancelled", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the call; a second time does nothing."""
        self.cancelled = True


class Reactor:
    """One epoll instance and what waits on it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._epoll = select.epoll()
        self._ready: dict[int, OnReady] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._running = False
        self._wake: tuple[socket.socket, socket.socket] | None = None

    def watch(self, fd: int, callback: OnReady, events: int = select.EPOLLIN) -> None:
        """Call ``callback`` whenever one of ``events`` is set on ``fd``."""
        self._epoll.register(fd, events)
        self._ready[fd] = callback

    def listen_for(self, fd: int, events: int) -> None:
        """Change what is waited for on ``fd``; hang-ups and errors are always reported."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``. Must come before it is closed."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, in ``seconds``."""
        timer = Timer(self.clock() + max(seconds, 0.0), callback)
        heapq.heappush(self._timers, (timer.when, next(self._count), timer))
        return timer

    def on_signals(self, numbers: Iterable[int], callback: OnSignal) -> None:
        """Deliver these signals through the loop: the handler itself does nothing (signal(7))."""
        near, far = socket.socketpair()
        near.settimeout(0)
        far.settimeout(0)
        self._wake = (near, far)
        for number in numbers:
            signal.signal(number, _only_wake)
        signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        self.watch(near.fileno(), lambda _events: self._drain(near, callback))

    def run(self) -> None:
        """Serve events until ``stop()``."""
        self._running = True
        while self._running:
            self.turn(self._patience())

    def stop(self) -> None:
        """Leave ``run()`` after the current event."""
        self._running = False

    def turn(self, timeout: float | None) -> None:
        """Wait at most ``timeout`` seconds (None: for ever) and serve what came."""
        wait = -1.0 if timeout is None else math.ceil(timeout * 1000) / 1000
        batch = [(fd, events, self._ready.get(fd)) for fd, events in self._epoll.poll(wait)]
        for fd, events, callback in batch:
            if callback is not None and self._ready.get(fd) is callback:
                callback(events)
        self._call_due()

    def close(self) -> None:
        """Give everything back, signal handling included."""
        if self._wake is not None:
            signal.set_wakeup_fd(-1)
            for end in self._wake:
                self.forget(end.fileno())
                end.close()
            self._wake = None
        self._epoll.close()
        self._ready.clear()
        self._timers.clear()

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return max(self._timers[0][0] - self.clock(), 0.0) if self._timers else None

    def _call_due(self) -> None:
        """Call what is due, and after SLICE let descriptors have their turn; the rest is next."""
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.cancelled = True
                timer.callback()
                if self.clock() - now > SLICE:
                    return

    @staticmethod
    def _drain(near: socket.socket, callback: OnSignal) -> None:
        try:
            numbers = near.recv(4096)
        except BlockingIOError:
            return
        for number in dict.fromkeys(numbers):
            callback(number)


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """A Python handler must exist for the wake-up descriptor to be written."""
