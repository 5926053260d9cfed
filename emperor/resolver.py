"""The resolver of vassals with ``network = tap``: its sockets, its filter, and its replacement.

One process, ``donjon.tuntap.dns``. Its sockets are made here, by root, and outlive it: what is
asked while there is none waits in them for the next one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import socket
import termios
from collections.abc import Callable, Sequence

from donjon import log, syscalls
from donjon.emperor import names
from donjon.emperor.reactor import Reactor, Timer
from donjon.errors import DonjonError, reason_of
from donjon.jail import libseccomp
from donjon.jail.seccomp_groups import Compare, Test
from donjon.tuntap import protocol
from donjon.tuntap.dns import launch
from donjon.tuntap.launch import Started

LIFE = 2.0
"""Seconds that a resolver must live for the next one to be started at once."""

PAUSE = 0.5

COMPLAINTS = 1.0
"""Seconds in which one complaint is heard; a resolver of ours has one in two."""

_CALLS = (
    *("epoll_create1", "epoll_wait", "epoll_pwait", "epoll_ctl", "clock_gettime"),  # its loop
    *("accept4", "connect", "recvfrom", "sendto", "recvmsg", "sendmsg", "getsockname"),
    *("getpeername", "getsockopt", "setsockopt", "fcntl", "close", "shutdown", "read", "write"),
    *("pread64", "fstat", "newfstatat", "lseek", "poll", "ppoll"),  # the supervisor's memory
    *("munmap", "mremap", "brk", "madvise", "futex", "getrandom", "rt_sigaction"),
    *("rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "getpid", "gettid"),
    *("exit", "exit_group", "sched_yield"),  # the interpreter
)
"""The system calls of a resolver: nothing that opens, binds, executes, forks or signals."""

_KINDS = 0xF  # of a socket's type, without SOCK_CLOEXEC and SOCK_NONBLOCK: linux/net.h


@functools.cache
def seal() -> bytes:
    """Return the filter: the calls above, sockets of UDP and TCP, no executable memory.

    Raises DonjonError where libseccomp is missing.
    """
    allow = syscalls.SECCOMP_RET_ALLOW
    rules: list[tuple[str, tuple[Test, ...]]] = [(name, ()) for name in _CALLS]
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            tests = (
                Test(0, Compare.EQ, family),
                Test(1, Compare.MASKED_EQ, _KINDS, kind),
                Test(2, Compare.EQ, 0),
            )
            rules.append(("socket", tests))
    for name in ("mmap", "mprotect"):
        rules.append((name, (Test(2, Compare.MASKED_EQ, mmap.PROT_EXEC, 0),)))
    rules.append(("ioctl", (Test(1, Compare.EQ, termios.FIONBIO),)))
    numbered = [(libseccomp.number_of(name), tests) for name, tests in rules]
    return libseccomp.compile_rules(
        syscalls.SECCOMP_RET_ERRNO | errno.EPERM,
        [
            libseccomp.Rule(number, allow, tests)
            for number, tests in numbered
            if number is not None
        ],
    )


class Resolver:
    """A resolver that is there, but for moments."""

    def __init__(self, reactor: Reactor, device: str, addresses: Sequence[str]) -> None:
        """Start it, on addresses of the router's device. Raises DonjonError."""
        self.reactor = reactor
        self.restarts = 0
        self._user = names.user_of(device)
        self._again: Timer | None = None
        self._book = b""
        self._complained = 0.0
        self.complained: Callable[[], None] = lambda: None
        """Called when the resolver says that nobody upstream answers."""
        self._listeners = launch.listeners(device, addresses)
        try:
            self._started = self._start()
        except DonjonError:
            self._close_listeners()
            raise

    @property
    def pid(self) -> int:
        """Its pid, of the one that died too until there is another."""
        return self._started.pid

    def tell(self, data: bytes) -> None:
        """Have it know another book. Without a resolver now, the next one does."""
        if data != self._book:
            self._book = data
            self._send_book()

    def close(self) -> None:
        """End it, and wait until it is gone."""
        if self._again is not None:
            self._again.cancel()
        self._started.kill()
        self._reap()
        self._close_listeners()

    def _close_listeners(self) -> None:
        for one in self._listeners:
            one.close()

    def _start(self) -> Started:
        self._since = self.reactor.clock()
        program = seal()
        try:
            started = launch.start()
        except OSError as error:
            raise DonjonError("cannot start the resolver", reason=reason_of(error)) from error
        started.channel.settimeout(0)
        self.reactor.watch(started.pidfd.fileno(), lambda _events: self._died())
        self.reactor.watch(started.channel.fileno(), lambda _events: self._hear())
        begin = {"do": "begin", "user": self._user, "seal": program.hex()}
        descriptors = [one.fileno() for one in self._listeners]
        with contextlib.suppress(OSError):  # it ended already, which is an event
            protocol.send(started.channel, begin, descriptors)
        return started

    def _send_book(self) -> None:
        if self._started.pidfd.closed:
            return
        try:
            with protocol.memory("book", self._book) as memory:
                protocol.send(self._started.channel, {"do": "book"}, [memory.fileno()])
        except OSError:  # it is gone, or does not read: the next one gets the book
            self._started.kill()

    def _hear(self) -> None:
        """Read what it says: one thing, and what was said after it another time."""
        try:
            message = protocol.receive(self._started.channel)
        except (OSError, DonjonError):
            message = None
        if message is None:
            self.reactor.forget(self._started.channel.fileno())  # its end is an event, too
            self._started.kill()
            return
        message.close()
        if self.reactor.clock() - self._complained >= COMPLAINTS:
            self._complained = self.reactor.clock()
            self.complained()

    def _reap(self) -> str:
        started = self._started
        if started.pidfd.closed:
            return ""
        self.reactor.forget(started.pidfd.fileno())
        self.reactor.forget(started.channel.fileno())
        started.channel.close()
        return started.reap()

    def _died(self) -> None:
        how = self._reap()
        pause = 0.0 if self.reactor.clock() - self._since >= LIFE else PAUSE
        log.write(f"[emperor] the resolver (pid {self.pid}) ended with {how}: starting another")
        self._again = self.reactor.after(pause, self._resume)

    def _resume(self) -> None:
        self._again = None
        try:
            self._started = self._start()
        except DonjonError as error:
            log.write(f"[emperor] no resolver: {error}")
            self._again = self.reactor.after(PAUSE, self._resume)
            return
        self.restarts += 1
        self._send_book()
