"""The processes of the forkpty router: gateways of the instance, kept while nothing about them
changes.

The master opens their addresses, as it does all others; a reload that asks for the same router
leaves its sessions alone.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence

from donjon import log, syscalls
from donjon.fork_pty import router
from donjon.fork_pty.router import Opened
from donjon.fork_pty.spec import RouterSpec
from donjon.jail.phase import Phase
from donjon.origin import DEFAULT
from donjon.server import procname
from donjon.server.address import ListenError
from donjon.server.crew import Crew
from donjon.server.parts import Part, Recipe
from donjon.server.phases import DropPoint
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import Listener, ServerSpec


class Terminals:
    """The router that the configuration asks for."""

    def __init__(self, part: Callable[[Recipe], Part]) -> None:
        """Serve nothing yet. ``part`` makes a part of the master."""
        self._part = part
        self._sockets = Sockets()
        self._spec: RouterSpec | None = None
        self._served: tuple[Bound, ...] = ()
        self.parts: list[Part] = []

    def set(self, crew: Crew, patience: float) -> None:
        """Serve what the generation asks for. Raises ListenError; all is as before then."""
        spec = crew.spec.terminals
        if spec == self._spec:
            return
        try:
            bound, stats = self._open(crew.spec)
        except ListenError:
            self._sockets.keep(self._served)
            raise
        self.stop(patience)
        self.parts.clear()
        self._spec, self._served = spec, (*bound, *([stats] if stats else []))
        self._sockets.keep(self._served)
        if spec is None:
            return
        for number in range(1, spec.processes + 1):
            part = self._part(_recipe(crew, spec, number, bound, stats))
            self.parts.append(part)
            part.start()
        for each in bound:
            log.write(f"forkpty router on {each.name()}")

    def _open(self, server: ServerSpec) -> tuple[list[Bound], Bound | None]:
        """Open the doors and the listener of statistics. Raises ListenError."""
        spec = server.terminals
        if spec is None:
            return [], None
        bound = [
            self._sockets.open_one(Listener(door.address, "forkpty", door.origin), server)
            for door in spec.doors
        ]
        if spec.stats is None:
            return bound, None
        listener = Listener(spec.stats, "stats", spec.origins.get("stats", DEFAULT))
        return bound, self._sockets.open_one(listener, server)

    def stop(self, patience: float) -> None:
        """Ask the routers to hang up on everybody."""
        for part in self.parts:
            part.stop(kill_after=patience)

    def close(self) -> None:
        """Remove the sockets."""
        self._sockets.close(vacuum=True)


def _recipe(
    crew: Crew, spec: RouterSpec, number: int, bound: Sequence[Bound], stats: Bound | None
) -> Recipe:
    def main() -> int:
        procname.name_part(crew.spec, f"uWSGI forkptyrouter {number}")
        crew.phases.drop(DropPoint.WORKER)
        syscalls.set_pdeathsig(signal.SIGKILL)
        crew.phases.run(Phase.AS_GATEWAY)
        opened = [
            Opened(socket.socket(fileno=one.fileno()), door.framed)
            for one, door in zip(bound, spec.doors, strict=True)
        ]
        statistics = socket.socket(fileno=stats.fileno()) if stats else None
        router.Router(spec, opened, statistics, spec.instance or os.uname().nodename).run()
        return 0

    return Recipe(f"forkptyrouter {number}", main)
