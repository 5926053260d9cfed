"""Where a router has programs, logins and records from: from here, or from who may enter a jail.

``Local`` is a router within its jail: programs are its children. A router outside has everything
by asking (``remote``). Both answer through ``done``, now or later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from donjon.errors import reason_of
from donjon.fd import Fd
from donjon.fork_pty import login
from donjon.fork_pty.loop import Loop
from donjon.fork_pty.record import Record
from donjon.fork_pty.shell import Shell
from donjon.fork_pty.spec import PAM, RouterSpec
from donjon.records import dataclass, field


class Program(Protocol):
    """A program on a terminal. ``pidfd`` is readable when it has ended, ``why`` what is known of
    an end before its beginning.
    """

    master: Fd
    pid: int
    pidfd: Fd
    status: int | None
    why: str

    def signal(self, number: int) -> None:
        """Send a signal to the jobs in the foreground of its terminal."""

    def has_ended(self) -> bool:
        """Whether it ended."""

    def bury(self) -> int:
        """Kill who is left of the session of one that has ended; return its status."""

    def hang_up(self) -> None:
        """Take the terminal away."""

    def kill(self) -> None:
        """Kill the whole session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A program to be begun, for the session of that number."""

    number: int
    command: tuple[str, ...]
    rows: int
    cols: int
    environment: dict[str, str] = field(default_factory=dict)


Begun = Callable[[Program | str], None]
"""Gets the program, or why there is none."""


class House(Protocol):
    """See the module."""

    def prepare(self, spec: RouterSpec) -> None:
        """Have what ``spec`` needs, before anything is served. Raises DonjonError."""

    def open(self, wanted: Wanted, done: Begun) -> None:
        """Begin a program."""

    def login(self, service: str, user: str, password: str, done: Callable[[bool], None]) -> None:
        """Ask PAM. Raises OSError where it cannot be asked."""

    def record(self, number: int, rows: int, cols: int) -> Record | None:
        """Begin the record of a session, where there is to be one."""


class Local:
    """What is here."""

    def __init__(self, loop: Loop) -> None:
        """Open nothing yet."""
        self._loop = loop

    def prepare(self, spec: RouterSpec) -> None:
        """See House."""
        if spec.auth.kind == PAM:
            login.load()

    def open(self, wanted: Wanted, done: Begun) -> None:
        """See House."""
        try:
            program: Program | str = Shell.start(
                wanted.command, wanted.environment, wanted.rows, wanted.cols
            )
        except OSError as error:
            program = reason_of(error)
        done(program)

    def login(self, service: str, user: str, password: str, done: Callable[[bool], None]) -> None:
        """See House."""
        login.check(self._loop, service, user, password, done)

    def record(self, number: int, rows: int, cols: int) -> Record | None:  # noqa: ARG002
        """See House: a jail's router could not keep one from its jail."""
        return None
