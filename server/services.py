"""Everything a master does besides its workers, brought in line with each generation."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from donjon import log
from donjon.errors import DonjonError
from donjon.server import merging, parts, pidfiles
from donjon.server.address import ListenError
from donjon.server.crew import Crew, State
from donjon.server.fdwatch import FdWatches
from donjon.server.fifo import Fifo
from donjon.server.frost import Frost
from donjon.server.link import ToEmperor
from donjon.server.loop import Timer
from donjon.server.mountcheck import MountCheck
from donjon.server.nsgiver import NamespaceGiver
from donjon.server.parts import Part, Recipe
from donjon.server.proxy import EmperorProxy
from donjon.server.spec import FdWatch, ServerSpec
from donjon.server.stats import StatsServer
from donjon.server.touch import Touches

if TYPE_CHECKING:
    from donjon.server.master import Master
    from donjon.server.ptyserver import PtyServer
    from donjon.server.terminals import Terminals

CHECK = 1.0
"""Seconds between looks at running requests and idleness, where those were asked for."""

PATIENCE = 3.0
"""Seconds a part gets to end."""


class Services:
    """Parts, statistics, FIFO, touched files and timers of one instance."""

    def __init__(
        self, master: Master, companions: Sequence[tuple[str, Callable[[], int]]]
    ) -> None:
        """Prepare all of them; ``start`` brings them to life."""
        self._master = master
        self._companions = [self._part(parts.companion(name, run)) for name, run in companions]
        self._parts: list[Part] = []
        self._stats: StatsServer | None = None
        self._touches: Touches | None = None
        self._fifo: Fifo | None = None
        self._proxy: EmperorProxy | None = None
        self._fds: FdWatches | None = None
        self.frost = Frost(master)
        self._giver: NamespaceGiver | None = None
        self._mounts: MountCheck | None = None
        self._terminals: Terminals | None = None
        self._pty: PtyServer | None = None
        self._tick: Timer | None = None
        self._started = False
        self._quiet_since = master.loop.now()
        self._seen = 0
        self._merging = False
        self._rested = 0.0  # when it last asked to be frozen

    def _commands(self) -> dict[str, Callable[[], None]]:
        master = self._master
        return {
            "q": lambda: master.stop(graceful=True),
            "Q": master.stop,
            "r": master.reload,
            "R": lambda: master.reload(brutal=True),
            "w": master.reload_workers,
            "W": lambda: master.reload_workers(brutal=True),
            "c": lambda: master.reload_workers(chain=True),
            "p": master.pause,
            "C": lambda: master.sleep(signal.SIGKILL),
            "P": self._rewrite_pidfiles,
            "s": self.log_statistics,
            "B": lambda: master.tell_emperor(ToEmperor.REINFORCE),
        }

    def start(self, crew: Crew) -> None:
        """Begin, or do as a new generation's configuration says.

        Raises ListenError at the first time: later what serves goes on, and the next
        configuration is another try.
        """
        first = not self._started
        if first:
            self._started = True
            for companion in self._companions:
                companion.start()
        self._listen(crew)
        self._renew_parts(crew)
        self._open_terminals(crew, first=first)
        if self._tick is not None:
            self._tick.cancel()
        self._schedule(crew)

    def _open_terminals(self, crew: Crew, *, first: bool) -> None:
        if crew.spec.terminals and self._terminals is None:
            # who may want it has it since before its walls; a zygote's other vassals share less
            from donjon.server.terminals import Terminals  # noqa: PLC0415

            self._terminals = Terminals(self._part)
        try:
            if self._terminals is not None:
                self._terminals.set(crew, PATIENCE)
            if self._pty is not None:
                self._pty.set(crew, self._master.current.mercy() + 2)
        except ListenError as error:
            if first:
                raise
            log.write(f"donjon: {error}")

    def pty_line(self, spec: ServerSpec) -> int:
        """Lend the descriptor by which worker 1 gives its terminal, -1 where it has none.

        Raises DonjonError where its door cannot be opened.
        """
        if spec.pty is None:
            return -1
        if self._pty is None:
            try:
                from donjon.server.ptyserver import PtyServer  # noqa: PLC0415  (as Terminals)
            except ImportError as error:
                raise DonjonError(
                    "a reload cannot add pty-socket to this jail",
                    origin=spec.origins.get("pty"),
                    reason=f"its root does not show {error.name}",
                    hint="stop the instance and start it",
                ) from error
            self._pty = PtyServer(self._part)
        return self._pty.line(spec)

    def _listen(self, crew: Crew) -> None:
        """Open what the configuration asks for; nothing is made that nobody asked for."""
        master, spec = self._master, crew.spec
        if spec.stats or self._stats:
            self._stats = self._stats or StatsServer(master, self._parts)
            self._stats.set(spec)
        if spec.setns_socket or self._giver:
            self._giver = self._giver or NamespaceGiver(master.loop)
            self._giver.set(spec)
        if spec.mountpoint_checks or self._mounts:
            self._mounts = self._mounts or MountCheck(master.loop, master.perish)
            self._mounts.set(spec.mountpoint_checks)
        if spec.master_fifo or self._fifo:
            self._fifo = self._fifo or Fifo(master.loop, self._commands())
            self._fifo.set(spec.master_fifo)
        watched = self._watched(crew)
        if watched or self._touches:
            self._touches = self._touches or Touches(master.loop)
            self._touches.set(watched)
        if spec.ksm and not self._merging:
            self._merging = True
            merging.begin(spec, master.loop)
        if spec.fd_watches or self._fds:
            self._fds = self._fds or FdWatches(master.loop, self._on_fd)
            self._fds.set(spec.fd_watches)
        if spec.emperor_proxy_socket and master.emperor is not None:
            self._proxy = self._proxy or EmperorProxy(master.loop, master.emperor.fileno())
            if self._proxy.set(spec):  # another program listens to the Emperor from now on
                master.loop.forget(master.emperor.fileno())

    def _on_fd(self, watch: FdWatch) -> None:
        if watch.alarm:
            self._master.current.phases.alarm(watch.alarm, watch.message)
        else:
            self._master.reload(brutal=watch.brutal)

    def _part(self, recipe: Recipe) -> Part:
        master = self._master
        return Part(recipe, master.loop, master.children, master.sockets, self._on_control)

    def _on_control(self) -> None:
        self._master.stop(graceful=True)

    def _renew_parts(self, crew: Crew) -> None:
        for part in self._parts:
            part.stop(kill_after=PATIENCE)
        self._parts.clear()
        for recipe in _recipes(crew):
            part = self._part(recipe)
            self._parts.append(part)
            part.start()

    def _watched(self, crew: Crew) -> list[tuple[str, Callable[[], None]]]:
        master, spec = self._master, crew.spec
        files: list[tuple[str, Callable[[], None]]] = []
        files += [(path, master.reload) for path in spec.touch_reload]
        files += [(path, master.reload_workers) for path in spec.touch_workers_reload]
        chain = functools.partial(master.reload_workers, chain=True)
        files += [(path, chain) for path in spec.touch_chain_reload]
        for hook in spec.touch_hooks:
            files.append((hook.path, functools.partial(crew.phases.touch, hook)))
        return files

    # -- once a second, where asked for

    def _schedule(self, crew: Crew) -> None:
        if crew.spec.harakiri or crew.spec.idle or self._freezes(crew):
            self._tick = self._master.loop.after(CHECK, self._check)

    def _check(self) -> None:
        crew = self._master.current
        self._schedule(crew)
        if crew.spec.harakiri:
            for each in (crew, *self._master.retiring):
                each.check_harakiri()
        if crew.spec.idle or self._freezes(crew):
            self._check_idle(crew)

    def _freezes(self, crew: Crew) -> bool:
        return bool(crew.spec.idle_freeze) and self._master.emperor is not None

    def _check_idle(self, crew: Crew) -> None:
        now = self._master.loop.now()
        requests = crew.board.requests()
        busy = any(crew.counters(slot).busy_since for slot in crew.slots.values())
        if requests != self._seen or busy or crew.state is not State.SERVING:
            self._seen, self._quiet_since = requests, now
            return
        if (
            self._freezes(crew)
            and now - max(self._quiet_since, self._rested) >= crew.spec.idle_freeze
        ):
            self._rested = now
            self.frost.rest(crew)
        elif crew.spec.idle and now - self._quiet_since >= crew.spec.idle:
            self._quiet_since = now
            log.write(f"*** {crew.spec.idle} seconds without a request ***")
            if not crew.spec.die_on_idle:
                self._master.sleep()
            elif self._master.emperor is not None:
                self._master.tell_emperor(ToEmperor.STOP_ME)
            else:
                self._master.stop(graceful=True)

    # -- on demand

    def log_statistics(self) -> None:
        """Write the state of the instance to the log (SIGUSR1, FIFO ``s``)."""
        crew = self._master.current
        counted = [crew.counters(slot) for slot in crew.slots.values()]
        lines = [
            "",
            f"\tworkers total requests: {sum(core.requests for core in counted)}",
        ]
        for slot in crew.slots.values():
            core = crew.counters(slot)
            pid = slot.worker.child.pid if slot.worker else 0
            lines.append("-----------------")
            lines.append(
                f"\tworker {slot.number} (pid: {pid}) requests: {core.requests}"
                f" exceptions: {core.exceptions}"
            )
        lines.append("-----------------")
        log.write("\n".join(lines))

    def _rewrite_pidfiles(self) -> None:
        try:
            pidfiles.rewrite(self._master.spec)
        except DonjonError as error:
            log.write(f"donjon: {error}")

    # -- the end

    def reload_companions(self) -> None:
        """Tell an Emperor beside the workers to reload its vassals."""
        for companion in self._companions:
            companion.signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ask every part to end."""
        if self._terminals is not None:
            self._terminals.stop(PATIENCE)
        if self._pty is not None:
            self._pty.stop(self._master.current.mercy() + 2)
        for part in (*self._parts, *self._companions):
            patience = PATIENCE if part in self._parts else self._master.current.mercy() + 2
            part.stop(kill_after=patience)

    def close(self) -> None:
        """Release files and sockets."""
        services = (
            self._touches, self._fifo, self._stats, self._proxy, self._fds,
            self._giver, self._mounts, self._terminals, self._pty,
        )  # fmt: skip
        for service in services:
            if service is not None:
                service.close()


def _recipes(crew: Crew) -> list[Recipe]:
    spec = crew.spec
    recipes = [parts.mule(crew, number, script) for number, script in enumerate(spec.mules, 1)]
    recipes += [parts.gateway(crew, router.address) for router in spec.http_routers]
    for wanted in spec.daemons:
        try:
            if not _runs_already(wanted.kind, wanted.command):
                recipes.append(parts.daemon(wanted))
        except DonjonError as error:
            log.write(f"donjon: {error}")
    return recipes


def _runs_already(kind: str, command: str) -> bool:
    """Whether a smart daemon, known by its pid file, is alive."""
    if not kind.startswith("smart-attach"):
        return False
    path = command.partition(" ")[0].partition(",")[0]
    try:
        with open(path, encoding="ascii") as file:
            os.kill(int(file.read()), 0)
    except (OSError, ValueError):
        return False
    return True
