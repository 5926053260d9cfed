"""An instance without a master: one process that loads the application and serves it itself."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable

from donjon import log
from donjon.errors import DonjonError
from donjon.jail.phase import Phase
from donjon.server import generation, uwsgi_module
from donjon.server.board import Board
from donjon.server.order import Order
from donjon.server.phases import Phases
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import ServerSpec


def _order(spec: ServerSpec, phases: Phases, sockets: Sockets, served: tuple[Bound, ...]) -> Order:
    return Order(
        number=1, spec=spec, phases=phases, sockets=sockets, served=served,
        board=Board(spec.processes, spec.threads), channel=None, master=os.getpid(),
        slots=tuple(range(1, spec.processes + 1)), must=spec.need_app,
        die_with_parent=spec.processes > 1,
    )  # fmt: skip


def no_server(spec: ServerSpec, phases: Phases) -> int:
    """Do everything but serve (``no-server``): hooks and application, then the end."""
    order = _order(spec, phases, Sockets(), ())
    module = uwsgi_module.install(uwsgi_module.Life(spec, os.getpid(), order.board, None))
    generation.load(order, module)
    phases.run(Phase.AS_USER_ATEXIT)
    sys.stdout.flush()
    return 0


def run(
    spec: ServerSpec,
    phases: Phases,
    sockets: Sockets,
    served: tuple[Bound, ...],
    on_ready: Callable[[], None],
) -> int:
    """Serve in this process, which ends here: with 30 on SIGINT and SIGTERM (uwsgi-facts 7.6)."""
    log.write("*** no master process: a worker that dies is not replaced ***")
    atexit.register(_end, os.getpid(), spec, phases, sockets)
    on_ready()
    generation.main(_order(spec, phases, sockets, served))


def _end(pid: int, spec: ServerSpec, phases: Phases, sockets: Sockets) -> None:
    """Run last, and in the first process only; ``worker.leave`` sees to it."""
    if os.getpid() != pid:
        return
    try:
        phases.run(Phase.AS_USER_ATEXIT)
    except DonjonError as error:
        log.write(f"donjon: {error}")
    sockets.close(vacuum=spec.vacuum)
