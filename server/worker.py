"""A worker: its hooks in their order, then the C server until somebody ends it.

SIGHUP lets the running requests finish and ends with 17, SIGINT and SIGTERM end at once with 30,
as tools around the original expect (uwsgi-facts 7.3, 7.6). SIGTSTP pauses: the worker stops
accepting and waits. At ``max-requests`` the worker tells the master and goes on; the master
retires it once its replacement accepts, so that no client waits for an application to load.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from donjon import log
from donjon.errors import DonjonError
from donjon.jail.phase import Phase
from donjon.server import affinity, environment, merging, uwsgi_module
from donjon.server._wsgi import MAX_REQUESTS
from donjon.server._wsgi import Worker as CServer
from donjon.server.channel import Word
from donjon.server.link import ToEmperor
from donjon.server.loader import App
from donjon.server.loop import (
    IGNORED,
    SIGHUP,
    SIGINT,
    SIGPIPE,
    SIGQUIT,
    SIGTERM,
    SIGTSTP,
    SIGUSR1,
    handle,
)
from donjon.server.order import Order
from donjon.server.phases import DropPoint
from donjon.server.procname import name_worker
from donjon.server.spec import ServerSpec

Applications = Sequence[tuple[str, App]]
Settings = dict[str, Any]
Load = Callable[[], Applications]

GRACEFUL = 17
ENDED = 30
SHELL_ENDED, SHELL_ONCE = 29, 173  # of a pyshell, and of one that is followed by a server
HOOK_FAILED = 1


def run(order: Order, life: uwsgi_module.Life, load: Load, applications: Applications) -> int:
    """Be worker ``life.slot`` of ``order``; returns the exit status.

    ``load`` loads the application where each worker does so for itself.
    """
    name_worker(order.spec, life.slot)
    try:
        order.phases.drop(DropPoint.WORKER)
        order.bind_to_parent()  # a change of uid takes PR_SET_PDEATHSIG back (prctl(2))
        affinity.settle(life.slot, order.spec.cpu_affinity)
        if order.pty_line >= 0:
            _take_terminal(order, life.slot)
        order.phases.run(Phase.POST_FORK)
        if order.loads_late:
            applications = load()
        call_post_fork_hook(sys.modules.get("uwsgi"))
        _enter(order, life)
    except (DonjonError, SystemExit) as error:
        return _hook_failed(order, life, error)
    if order.shell and life.slot == 1:
        return _be_shell(order)
    return server_of(order, life, applications).run()


def call_post_fork_hook(module: types.ModuleType | None) -> None:
    """Call what the application put into ``uwsgi.post_fork_hook``; a failure is shown."""
    hook = module.__dict__.get("post_fork_hook") if module is not None else None
    if hook is None:
        return
    try:
        hook()
    except Exception:
        traceback.print_exc()


def _take_terminal(order: Order, slot: int) -> None:
    """Have the terminal of pty-socket (in worker 1), or close the line to its door."""
    if slot != 1 or order.spec.pty is None:
        os.close(order.pty_line)
        return
    from donjon.server import ptyworker  # noqa: PLC0415  (few have one)

    ptyworker.settle(order.pty_line, order.spec.pty.command)


def _be_shell(order: Order) -> int:
    from donjon.server import pyshell  # noqa: PLC0415  (few are one)

    order.say(Word.ACCEPTING, slot=1)
    pyshell.run(order.spec.pyshell or "")
    return SHELL_ONCE if order.spec.pyshell_oneshot else SHELL_ENDED


def server_of(order: Order, life: uwsgi_module.Life, applications: Applications) -> Server:
    """Return the server of worker ``life.slot``."""
    has_master = order.channel is not None
    return Server(
        settings_of(order.spec, under_emperor=order.emperor_fd >= 0),
        [(bound.fileno(), bound.protocol, bound.port()) for bound in order.served],
        merging.in_worker(order.spec, applications),
        slot=life.slot,
        max_requests=_limit(order, life.slot),
        emperor_fd=order.emperor_fd,
        counters=(order.board.block(life.slot, life.bank), order.board.totals()),
        say=(lambda word: order.say(word, slot=life.slot)) if has_master else None,
        on_interrupt=_ignore if order.pty_line >= 0 and life.slot == 1 else None,
    )


def _enter(order: Order, life: uwsgi_module.Life) -> None:
    """Run what comes just before a worker accepts."""
    if order.spec.chdir2:
        environment.change_directory(order.spec.chdir2, order.spec.origins.get("chdir2"))
    if life.slot == 1:
        order.tell_emperor(ToEmperor.ACCEPTING)
    first = life.slot not in order.once
    order.phases.run(Phase.ACCEPTING)
    if first:
        order.phases.run(Phase.ACCEPTING_ONCE)
    if life.slot == 1:
        order.phases.run(Phase.ACCEPTING1)
        if first:
            order.phases.run(Phase.ACCEPTING1_ONCE)
    order.say(Word.ONCE, slot=life.slot)


def _hook_failed(order: Order, life: uwsgi_module.Life, error: DonjonError | SystemExit) -> int:
    """A fatal hook of a worker ends the instance; a failed load has a status of its own."""
    if isinstance(error, DonjonError):
        log.write(f"donjon: {error}")
        if error.exit_status != 1:
            return error.exit_status
    order.say(Word.HOOK_FAILED, slot=life.slot)
    return HOOK_FAILED


def settings_of(spec: ServerSpec, *, under_emperor: bool) -> Settings:
    """Return what of a configuration the C server is told. Values that marshal knows only."""
    return {
        "processes": spec.processes,
        "threads": spec.threads,
        "version": uwsgi_module.VERSION.encode(),
        "buffer_size": spec.buffer_size,
        "post_buffering": spec.post_buffering,
        "limit_post": spec.limit_post,
        "socket_timeout": spec.socket_timeout,
        "reload_mercy": spec.worker_reload_mercy,
        "manage_script_name": spec.manage_script_name,
        "catch_exceptions": spec.catch_exceptions,
        "heartbeat": spec.heartbeat if under_emperor else 0,
        "log": not spec.disable_logging,
        "log_format": spec.log_format,
        "log_x_forwarded_for": spec.log_x_forwarded_for,
    }


class Server:
    """The C server of this process, and the signals that steer it."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[tuple[int, str, int]],
        applications: Applications,
        *,
        slot: int,
        max_requests: int,
        emperor_fd: int,
        counters: tuple[memoryview, memoryview],
        say: Callable[[Word], None] | None,
        on_interrupt: Callable[[int, object], None] | None = None,
    ) -> None:
        """Make the C server. ``listeners`` are (descriptor, protocol, port), ``counters`` the
        worker's block and the total of all; ``say`` tells the master, None where there is none.
        ``on_interrupt`` is what SIGINT does, None to end."""
        node = socket.gethostname()
        block, totals = counters
        self._arguments = {
            **settings,
            "listeners": [(fd, protocol, node, port) for fd, protocol, port in listeners],
            "applications": applications,
            "worker_id": slot,
            "node": node.encode(),
            "emperor_fd": emperor_fd,
            "stats": block,
            "totals": totals,
        }
        self._slot = slot
        self._threads = settings["threads"]
        self._max_requests = max_requests
        self._say = say
        self._on_interrupt = on_interrupt or _on_end
        self._stopping = False
        self._paused = False
        self._server = self._make()

    def _make(self) -> CServer:
        return CServer(max_requests=self._max_requests, **self._arguments)

    def run(self) -> int:
        """Serve until the end."""
        self._take_signals()
        if self._say is not None:
            self._say(Word.ACCEPTING)
        while not self._stopping:
            result = self._serve()
            if self._stopping:
                break
            if result == MAX_REQUESTS:
                self._max_requests = 0
                if self._say is None:
                    break
                self._say(Word.DUE)
            self._wait_while_paused()
            if not self._stopping:
                self._server = self._make()
        return GRACEFUL

    def _serve(self) -> int:
        signal.set_wakeup_fd(self._server.wake_fd, warn_on_full_buffer=False)
        result = self._serve_threads() if self._threads > 1 else self._server.serve(0)
        signal.set_wakeup_fd(-1)
        return result

    def play(self) -> None:
        """Answer what waits, and nothing more (for a rehearsal)."""
        self._take_signals()
        self._server.stop()
        self._serve()

    def _serve_threads(self) -> int:
        import threading  # noqa: PLC0415  (its fork handler alone costs every child 300 kB)

        others = [
            threading.Thread(
                target=self._server.serve,
                args=(core,),
                name=f"uWSGIWorker{self._slot}Core{core}",
                daemon=True,
            )
            for core in range(1, self._threads)
        ]
        for thread in others:
            thread.start()
        result = self._server.serve(0)
        for thread in others:
            thread.join()
        return result

    def _wait_while_paused(self) -> None:
        """Wait for a signal that ends the pause; by a pipe, pause(2) could miss one."""
        reader, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        if self._paused and self._say is not None:
            self._say(Word.PAUSED)
        while self._paused and not self._stopping:
            select.select([reader], [], [])
            os.read(reader, 64)
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(waker)

    def _take_signals(self) -> None:
        handle(SIGHUP, self._on_graceful)
        handle(SIGINT, self._on_interrupt)
        for number in (SIGTERM, SIGQUIT):
            handle(number, _on_end)
        handle(SIGTSTP, self._on_pause)
        handle(SIGUSR1, IGNORED)
        handle(SIGPIPE, IGNORED)

    def _on_graceful(self, _number: int, _frame: object) -> None:
        self._stopping = True
        self._server.stop()

    def _on_pause(self, _number: int, _frame: object) -> None:
        self._paused = not self._paused
        if self._paused:
            self._server.stop()


def _ignore(_number: int, _frame: object) -> None:
    """It was typed at the terminal of pty-socket."""


def _on_end(_number: int, _frame: object) -> NoReturn:
    leave(ENDED)


def _limit(order: Order, slot: int) -> int:
    """Return after how many requests the worker is due; the delta spreads the workers."""
    spec = order.spec
    return spec.max_requests + slot * spec.max_requests_delta if spec.max_requests else 0


def live(run: Callable[[], int], name: str = "") -> NoReturn:
    """Be a child of the master, called ``name`` if it is no worker; its exit status tells how it
    went (uwsgi-facts 7.6). What an application raises is shown as Python shows it."""
    try:
        status = run()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except DonjonError as error:
        log.write(f"donjon: {name}: {error}" if name else f"donjon: {error}")
        status = error.exit_status
    except BaseException as error:
        traceback.print_exception(error)
        status = 1
    leave(status)


def leave(status: int) -> NoReturn:
    """End the process: what the application registered with atexit runs, nothing is torn down."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
