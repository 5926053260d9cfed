"""The terminal of worker 1, as the master sees it: a process at the door, and the line to it.

The line is a pair of datagram sockets that the master keeps for as long as the configuration asks
for the same terminal, so that a worker can give its terminal before the process has begun, and
another process can be told when the first one died. A worker whose terminal went with that one is
hung up, ends, and is replaced.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from donjon import log, syscalls
from donjon.fork_pty.shared import Shared
from donjon.fork_pty.spec import SharedSpec
from donjon.origin import DEFAULT
from donjon.records import dataclass
from donjon.server import procname
from donjon.server.crew import Crew
from donjon.server.parts import Part, Recipe
from donjon.server.phases import DropPoint
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import Listener, ServerSpec

SIGKILL = 9


@dataclass(slots=True)
class Line:
    """The way of a terminal from a worker to the door, and the door."""

    spec: SharedSpec
    bound: Bound
    door: socket.socket
    worker: socket.socket

    @classmethod
    def make(cls, spec: SharedSpec, bound: Bound) -> Line:
        """Make it. Raises OSError."""
        return cls(spec, bound, *socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))

    def close(self) -> None:
        """Close both ends here."""
        self.door.close()
        self.worker.close()


class PtyServer:
    """The door that the configuration asks for."""

    def __init__(self, part: Callable[[Recipe], Part]) -> None:
        """Serve nothing yet. ``part`` makes a part of the master."""
        self._part = part
        self._sockets = Sockets()
        self._line: Line | None = None  # of the door that is served
        self._coming: Line | None = None  # of a generation that does not serve yet
        self.parts: list[Part] = []

    def line(self, server: ServerSpec) -> int:
        """Open the door that ``server`` asks for, and lend the end of the line that is for its
        worker 1. Raises ListenError, OSError.
        """
        assert server.pty is not None
        for line in (self._line, self._coming):
            if line is not None and line.spec == server.pty:
                return line.worker.fileno()
        self._forget_coming()
        listener = Listener(server.pty.socket, "pty", server.pty.origins.get("socket", DEFAULT))
        self._coming = Line.make(server.pty, self._sockets.open_one(listener, server))
        return self._coming.worker.fileno()

    def _forget_coming(self) -> None:
        if self._coming is not None:
            self._coming.close()
            self._coming = None
        self._sockets.keep((self._line.bound,) if self._line else ())

    def set(self, crew: Crew, patience: float) -> None:
        """Serve what the generation asks for: what ``line`` has opened."""
        if crew.spec.pty == (self._line.spec if self._line else None):
            self._forget_coming()
            return
        self.stop(patience)
        self.parts.clear()
        if self._line is not None:
            self._line.close()
        self._line, self._coming = self._coming if crew.spec.pty else None, None
        self._forget_coming()
        if self._line is None:
            return
        part = self._part(_recipe(crew, self._line))
        self.parts.append(part)
        part.start()
        log.write(f"pty server on {self._line.bound.name()}")

    def stop(self, patience: float) -> None:
        """Let nobody in any more; who is in stays until worker 1 ends."""
        for part in self.parts:
            part.stop(kill_after=patience)

    def close(self) -> None:
        """Remove the socket, and the line."""
        self._sockets.close(vacuum=True)
        for line in (self._line, self._coming):
            if line is not None:
                line.close()


def _recipe(crew: Crew, line: Line) -> Recipe:
    def main() -> int:
        procname.name_part(crew.spec, "uWSGI pty")
        crew.phases.drop(DropPoint.WORKER)
        syscalls.set_pdeathsig(SIGKILL)
        line.worker.close()
        Shared(line.spec, socket.socket(fileno=line.bound.fileno()), line.door).run()
        return 0

    return Recipe("pty server", main)
