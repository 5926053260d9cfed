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
from donjon.jail.phase import Phase
from donjon.origin import DEFAULT
from donjon.records import dataclass
from donjon.server import procname
from donjon.server.address import ListenError
from donjon.server.crew import Crew
from donjon.server.parts import Part, Recipe
from donjon.server.phases import DropPoint
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import Listener

SIGKILL = 9


@dataclass(slots=True)
class Line:
    """The way of a terminal from a worker to the door."""

    spec: SharedSpec
    door: socket.socket
    worker: socket.socket

    @classmethod
    def make(cls, spec: SharedSpec) -> Line:
        """Make it. Raises OSError."""
        return cls(spec, *socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))

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
        self._bound: Bound | None = None
        self._line: Line | None = None  # of the door that is open
        self._coming: Line | None = None  # of a generation that does not serve yet
        self.parts: list[Part] = []

    def line(self, spec: SharedSpec) -> int:
        """Lend the end of the line by which a worker of ``spec`` gives its terminal."""
        for line in (self._line, self._coming):
            if line is not None and line.spec == spec:
                return line.worker.fileno()
        if self._coming is not None:
            self._coming.close()
        self._coming = Line.make(spec)
        return self._coming.worker.fileno()

    def set(self, crew: Crew, patience: float) -> None:
        """Serve what the generation asks for. Raises ListenError; all is as before then."""
        spec = crew.spec.pty
        if spec == (self._line.spec if self._line else None):
            return
        bound = self._open(crew) if spec else None
        self.stop(patience)
        self.parts.clear()
        if self._line is not None:
            self._line.close()
        self._line, self._coming = self._coming, None
        self._bound = bound
        self._sockets.keep((bound,) if bound else ())
        if bound is None or self._line is None:
            return
        part = self._part(_recipe(crew, self._line, bound))
        self.parts.append(part)
        part.start()
        log.write(f"pty server on {bound.name()}")

    def _open(self, crew: Crew) -> Bound:
        assert crew.spec.pty is not None
        wanted = crew.spec.pty
        listener = Listener(wanted.socket, "pty", wanted.origins.get("socket", DEFAULT))
        try:
            return self._sockets.open_one(listener, crew.spec)
        except ListenError:
            self._sockets.keep((self._bound,) if self._bound else ())
            raise

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


def _recipe(crew: Crew, line: Line, bound: Bound) -> Recipe:
    assert crew.spec.pty is not None
    spec = crew.spec.pty

    def main() -> int:
        procname.name_part(crew.spec, "uWSGI pty")
        crew.phases.drop(DropPoint.WORKER)
        syscalls.set_pdeathsig(SIGKILL)
        crew.phases.run(Phase.AS_GATEWAY)
        line.worker.close()
        Shared(spec, socket.socket(fileno=bound.fileno()), line.door).run()
        return 0

    return Recipe("pty server", main)
