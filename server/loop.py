"""The loop of a master: one epoll, timers, and signals that only wake it.

A signal handler in C writes the number of the signal into a pipe (signal.set_wakeup_fd);
everything that follows from it happens here, one thing after the other. Nothing ticks unless
somebody asked for a timer, so that an idle instance uses no processor at all.

``fork`` blocks every signal around clone3: without that a signal that meets the child before it
has its own handlers would be written into the parent's pipe and be taken for the parent's.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from donjon import syscalls

Callback = Callable[[], None]

# What signal.py wraps around the C functions turns numbers into enums and back; that alone touches
# 300 kB of the memory a vassal shares with all others.
_raw = vars(signal).get("_signal", signal)
handle: Callable[..., Any] = _raw.signal
"""signal.signal, for numbers that are plain integers."""
_sigmask: Callable[..., Any] = _raw.pthread_sigmask
_EVERY = tuple(int(number) for number in signal.valid_signals())
_BLOCK, _SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_SETMASK)
SIGHUP, SIGINT, SIGQUIT = int(signal.SIGHUP), int(signal.SIGINT), int(signal.SIGQUIT)
SIGTERM, SIGTSTP, SIGUSR1 = int(signal.SIGTERM), int(signal.SIGTSTP), int(signal.SIGUSR1)
SIGPIPE = int(signal.SIGPIPE)
DEFAULT, IGNORED = int(signal.SIG_DFL), int(signal.SIG_IGN)

HANDLED = tuple(
    int(number)
    for number in (
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGTSTP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGURG,
    )
)
"""Signals that a master gives a meaning to, or must not die of."""


class Timer:
    """Something that is due at a moment; ``cancel`` makes it never happen."""

    __slots__ = ("_callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        """Make it; the loop keeps it."""
        self.due = due
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        """Forget it; a second call does nothing."""
        self._callback = None

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled or has happened."""
        return self._callback is None

    def fire(self) -> None:
        """Do it, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """Waits for descriptors, timers and signals, and calls what was registered for them."""

    def __init__(self) -> None:
        """Open epoll and the wake-up pipe. Raises OSError."""
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._kept: set[int] = set()
        self.private: tuple[int, ...] = ()  # more descriptors that children must not have
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: dict[int, Callback] = {}
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous: dict[int, object] = {}
        self.watch(self._wake, self._dispatch_signals)

    def watch(self, fd: int, callback: Callback, *, keep: bool = False) -> None:
        """Call ``callback`` whenever ``fd`` is readable; children lose it, unless ``keep``."""
        self._readers[fd] = callback
        if keep:
            self._kept.add(fd)
        self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        """Stop watching; the owner closes the descriptor afterwards."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._kept.discard(fd)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call ``callback`` once, ``seconds`` from now."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    @staticmethod
    def now() -> float:
        """Return the clock of timers: seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def every(self, seconds: float, callback: Callback) -> None:
        """Call ``callback`` again and again."""

        def again() -> None:
            self.after(seconds, again)
            callback()

        self.after(seconds, again)

    def on_signal(self, number: int, callback: Callback) -> None:
        """Call ``callback`` in the loop when the signal has come; several at once count as one."""
        self._signals[number] = callback

    def raise_signal(self, number: int) -> None:
        """Take a signal that came before this loop did: its callback is due with the next turn."""
        self.after(0.0, lambda: self._signalled(number))

    def _signalled(self, number: int) -> None:
        callback = self._signals.get(number)
        if callback is not None:
            callback()

    def still_private(self) -> None:
        """Forget private descriptors that were closed meanwhile: their numbers may be reused."""
        self.private = tuple(fd for fd in self.private if _is_open(fd))

    def take_signals(self) -> None:
        """Install the handlers; from now on HANDLED signals only wake the loop."""
        for number in HANDLED:
            self._previous[number] = handle(number, _ignore)
        handle(SIGPIPE, IGNORED)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def turn(self, timeout: float = -1) -> None:
        """Wait once, at most ``timeout`` seconds, and call what is due."""
        for fd, _ in self._epoll.poll(self._patience(timeout)):
            callback = self._readers.get(fd)
            if callback is not None:
                callback()
        self._fire_timers()

    def _patience(self, timeout: float) -> float:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if not self._timers:
            return timeout
        left = max(0.0, self._timers[0][0] - time.monotonic())
        return left if timeout < 0 else min(left, timeout)

    def _fire_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].fire()

    def _dispatch_signals(self) -> None:
        try:
            numbers = dict.fromkeys(os.read(self._wake, 512))
        except BlockingIOError:
            return
        for number in numbers:
            self._signalled(number)

    def fork(self) -> tuple[int, int]:
        """Fork a child: (pid, pidfd) in the parent, (0, -1) in the child, with default signals
        there.

        The child holds nothing of the loop; what the loop watched is closed there too.
        """
        held = hold_signals()
        try:
            pid, pidfd = syscalls.clone3(syscalls.CLONE_PIDFD)
            if pid == 0:
                self.abandon()
        finally:
            release_signals(held)
        return pid, pidfd

    def abandon(self) -> None:
        """In a child: give up everything that is the parent's."""
        default_signals()
        for fd in self._readers.keys() - self._kept:
            os.close(fd)
        for fd in self.private:
            with contextlib.suppress(OSError):
                os.close(fd)
        os.close(self._waker)
        self._epoll.close()
        self._readers.clear()
        self._timers.clear()

    def close(self) -> None:
        """Give signals back and release everything the loop owns."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            handle(number, DEFAULT if handler is None else handler)
        self._epoll.close()
        os.close(self._wake)
        os.close(self._waker)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _ignore(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor has told the loop."""


def default_signals() -> None:
    """In a child: the dispositions a program is started with, and no wake-up descriptor."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        handle(number, DEFAULT)
    handle(SIGTSTP, IGNORED)


def hold_signals() -> set[int]:
    """Hold every signal back; returns what ``release_signals`` takes."""
    previous: set[int] = _sigmask(_BLOCK, _EVERY)
    return previous


def release_signals(previous: set[int]) -> None:
    """Let signals come again."""
    _sigmask(_SETMASK, previous)
