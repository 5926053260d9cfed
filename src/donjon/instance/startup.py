"""The start of an instance, in the order of uwsgi-facts 2.1, Emperor and plain instance alike.

Everything that can be refused is refused while the plan is built, before the first hook runs.
After that a failure raises, and nothing that was half made goes on: the process ends with the exit
status of the error. Signals keep their default action until the master takes them over; only
SIGHUP, which would mean a reload that is not yet possible, is ignored.

A configuration that is not the operator's (``drop_first``) gets its walls and loses its privileges
before anything else: all that it asks for then happens in the jail, as its owner.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from donjon import log
from donjon.config.outline import Outline, outline
from donjon.config.spec import EmperorSpec, Launch
from donjon.emperor.birth import EMPEROR_FD as EMPEROR_NUMBER
from donjon.emperor.birth import Birth
from donjon.errors import DonjonError
from donjon.instance import acts, envdir, output, tunnels
from donjon.instance.fallback import EMPEROR_FD, FALLBACK_STATUS, Fallback
from donjon.instance.phases import InstancePhases
from donjon.jail import idgrant, setns, userns
from donjon.jail.phase import Phase
from donjon.jail.spec import JailSpec
from donjon.jail.step import Context
from donjon.records import dataclass, field, replace
from donjon.server import environment, generation, pidfiles, telling
from donjon.server.board import Board
from donjon.server.channel import Channel
from donjon.server.link import EmperorLink
from donjon.server.order import Order
from donjon.server.phases import DropPoint, Reloaded
from donjon.server.sockets import Sockets
from donjon.server.spec import ServerSpec
from donjon.server.takeover import UnderWay

ReadAgain = Callable[[], Launch]
"""Evaluates the configuration again, as a reload. Raises ConfigError."""

EmperorMain = Callable[[EmperorSpec], int]
"""Is the Emperor until it is buried; returns the exit status."""


def start(
    launch: Launch,
    *,
    emperor_main: EmperorMain,
    birth: Birth | None = None,
    reread: ReadAgain | None = None,
) -> int:
    """Carry out a Launch to its end and return the exit status.

    ``reread`` is None where nothing can be read again; a reload then takes the same configuration.
    Raises DonjonError when the start fails, and SystemExit for the hook action ``exit``.
    """
    launch = _complete(launch, birth)
    if launch.server.ksm and birth is None and EMPEROR_FD in os.environ:
        log.write("ksm is off: the Emperor decides for whom, and only for vassals it forks")
        launch = replace(launch, server=replace(launch.server, ksm=0))
    if launch.plan and birth is None and EMPEROR_FD not in os.environ:
        log.write(f"plan {launch.plan} is given by an Emperor only; there is none here")
    fallback = Fallback(launch.fallback_config) if launch.fallback_config else None
    try:
        status = _Start(launch, birth, reread, emperor_main, fallback).run()
    except DonjonError as error:
        if launch.jail.drop_first and os.geteuid() == 0:
            raise  # not yet the customer: nothing of his may run
        if fallback and error.exit_status == FALLBACK_STATUS:
            log.write(f"donjon: {error}")
            fallback.take_over()
        raise
    if fallback and status == FALLBACK_STATUS:
        fallback.take_over()
    return status


def _complete(launch: Launch, birth: Birth | None) -> Launch:
    """Add what follows from where we run: under an Emperor there is a master and no background."""
    server = launch.server
    alone = server.daemonize or server.daemonize2 or not server.master
    if alone and EMPEROR_FD in os.environ:
        logto = server.logto or server.daemonize
        logto2 = server.logto2 or server.daemonize2
        server = replace(
            server, master=True, logto=logto, logto2=logto2, daemonize=None, daemonize2=None
        )
        launch = replace(launch, server=server)
    if server.terminals is not None and birth is not None:
        name = os.path.splitext(os.path.basename(birth.name))[0]
        server = replace(server, terminals=replace(server.terminals, instance=name))
        launch = replace(launch, server=server)
    if server.ksm:
        launch = replace(launch, jail=replace(launch.jail, merges=True))
    if launch.emperor is not None and not launch.jail.drop_first:
        launch = replace(launch, jail=replace(launch.jail, keep_root=True))
    if launch.jail.id_range is not None and os.geteuid() == 0:
        launch = replace(launch, jail=_with_ids(launch.jail))
    return launch


def _with_ids(jail: JailSpec) -> JailSpec:
    """Give out the ids of ``id-range``. A vassal that was executed is among its own already."""
    if jail.id_map is None and not userns.is_hosts():
        return replace(jail, id_range=None)
    return idgrant.settle(jail)


@dataclass(slots=True)
class Ready:
    """Called once when the instance is ready: who waits for that is told. -1: nobody waits."""

    error_fd: int = -1  # the Emperor, for a line of error or the end of the pipe
    starter_fd: int = -1  # a starter that daemonize2 lets wait

    def __call__(self) -> None:
        """Tell them."""
        if self.starter_fd >= 0:
            output.say_ready(self.starter_fd)
        if self.error_fd >= 0:
            os.close(self.error_fd)
        self.starter_fd = self.error_fd = -1


@dataclass(slots=True)
class _Start:
    """One start. Each method is a stretch of the order; ``run`` is the table of contents."""

    launch: Launch
    birth: Birth | None
    reread: ReadAgain | None
    emperor_main: EmperorMain
    fallback: Fallback | None
    private: list[int] = field(default_factory=list)

    def run(self) -> int:
        if self.birth is None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        spec = self.launch.server
        if not self._is_bare_emperor():
            _provide(self.launch.server, alone=self.birth is None)
        acts.become_at_once(self.launch.jail)
        control = acts.control_socket()
        sockets = Sockets()
        context = self._context(control)
        moments = InstancePhases(self.launch, self._outline(), context)
        begun = self.birth.begun if self.birth else None
        if begun is not None and begun.builds:
            moments.build()
            return 0
        if begun is not None:
            moments.have_done(begun.resume)
            if begun.under_way is not None:
                return self._go_on_from(begun.under_way, moments, is_worker=begun.is_worker)
        try:
            ready = self._set_up(moments, spec, sockets, context)
        except BaseException:
            sockets.close(vacuum=True)
            pidfiles.remove(spec)
            raise
        # only now: the link does not block, and a foreign program expects a socket that does
        link = EmperorLink(control) if control >= 0 else None
        return self._go_on(moments, spec, sockets, link, ready)

    def _go_on_from(self, under_way: UnderWay, moments: InstancePhases, *, is_worker: bool) -> int:
        """Be the master, or the first worker, of an instance that was started already."""
        spec = self.launch.server
        environment.apply(spec)
        moments.drop(DropPoint.START)  # there is nothing left of it
        sockets = Sockets.adopt(spec, under_way.listeners)
        if is_worker:
            _be_worker(spec, moments, sockets, under_way)
        assert self.birth is not None
        link = EmperorLink(self.birth.emperor_fd)
        ready = Ready(-1 if under_way.loaded else self.birth.error_fd)
        return self._go_on(moments, spec, sockets, link, ready, under_way=under_way)

    def _is_bare_emperor(self) -> bool:
        """Whether this is an Emperor that serves nothing itself and asked for no walls."""
        launch = self.launch
        bare = launch.jail == JailSpec(keep_root=True, origins=launch.jail.origins)
        alone = launch.emperor is not None and not _serves(launch.server)
        return alone and bare and not launch.hooks

    def _set_up(
        self, moments: InstancePhases, spec: ServerSpec, sockets: Sockets, context: Context
    ) -> Ready:
        """Do all that comes before the server. What it made is the caller's to undo."""
        distrusted = self.launch.jail.drop_first
        if distrusted:
            moments.wall_in()
        environment.apply(spec)
        moments.enter(Phase.ASAP)
        envdir.apply(spec.envdirs, spec.origins.get("envdirs"))
        ready = self._output(spec)
        pidfiles.write_early(spec)
        sockets.bind_shared(spec)
        context.inherit.extend(sockets.filenos())
        moments.enter(Phase.PRE_JAIL)
        self.private += tunnels.begin(spec, None if self.birth else self.reread)
        if not distrusted:
            moments.enter(Phase.JAIL)
        moments.enter(Phase.IN_JAIL)
        for text, origin in spec.file_write:
            acts.write_file(text, origin)
        moments.drop(DropPoint.START)
        acts.warn_about_root(self.launch.jail)
        self._after_drop(moments, spec)
        return ready

    def _context(self, control: int) -> Context:
        inherit = [control] if control >= 0 else []
        birth = self.birth
        if birth is None:
            return Context(argv=tuple(sys.argv), inherit=inherit)
        return Context(
            name=birth.name,
            born_in=birth.born_in,
            argv=birth.argv,
            inherit=inherit,
        )

    def _outline(self) -> Outline:
        """Return what the Emperor made, or make it."""
        if self.birth is None:
            return outline(self.launch, root=os.geteuid() == 0)
        if self.birth.outline is not None:
            return self.birth.outline
        made = outline(self.launch, root=os.geteuid() == 0, born_in=self.birth.born_in)
        return made.in_cgroups() if self.birth.in_cgroups else made

    def _output(self, spec: ServerSpec) -> Ready:
        """Send output where it belongs."""
        ready = Ready(self.birth.error_fd if self.birth else -1)
        if spec.daemonize:
            output.to_background(spec.daemonize, spec.origins.get("daemonize"))
        elif spec.daemonize2:
            origin = spec.origins.get("daemonize2")
            ready.starter_fd = output.to_background_when_ready(spec.daemonize2, origin)
        elif spec.logto:
            output.to_file(spec.logto, spec.origins.get("logto"))
        return ready

    def _after_drop(self, moments: InstancePhases, spec: ServerSpec) -> None:
        if spec.logto2:
            output.to_file(spec.logto2, spec.origins.get("logto2"))
        if spec.chdir:
            acts.change_directory(spec.chdir, spec.origins.get("chdir"))
        pidfiles.write_late(spec)
        moments.enter(Phase.LIMITS)

    def _go_on(
        self,
        moments: InstancePhases,
        spec: ServerSpec,
        sockets: Sockets,
        link: EmperorLink | None,
        ready: Ready,
        *,
        under_way: UnderWay | None = None,
    ) -> int:
        """Be the Emperor, or the master of a server, or both with the Emperor as a child."""
        companions: list[tuple[str, Callable[[], int]]] = []
        if self.launch.emperor is not None:
            if not _serves(spec):
                ready()
                return _alone(self._emperor(self.launch.emperor, moments), moments)
            beside = replace(self.launch.emperor, beside_master=True)
            companions.append(("uWSGI Emperor", self._emperor(beside, moments)))
        from donjon.server import master  # noqa: PLC0415  (here since ``_provide``)

        return master.run(
            spec,
            moments,
            self._reread(moments),
            emperor=link,
            sockets=sockets,
            companions=companions,
            on_ready=ready,
            private=self._private(ready),
            under_way=under_way,
        )

    def _private(self, ready: Ready) -> list[int]:
        """Name the descriptors that no child of the master may hold."""
        launch_fd = self.birth.launch_fd if self.birth else -1
        kept = self.fallback.kept_fd if self.fallback else -1
        given = [file.fileno() for _, file in setns.held()]
        numbers = (launch_fd, kept, ready.error_fd, ready.starter_fd, *given, *self.private)
        return [number for number in numbers if number >= 0]

    def _emperor(self, spec: EmperorSpec, moments: InstancePhases) -> Callable[[], int]:
        def be_emperor() -> int:
            moments.run(Phase.EMPEROR_START)
            return self.emperor_main(spec)

        return be_emperor

    def _reread(self, moments: InstancePhases) -> Callable[[], Reloaded]:
        """Wrap what reads a Launch again into what the master wants."""
        current = moments

        def again() -> Reloaded:
            nonlocal current
            telling.read_again()  # they may read what we, who dropped root, may not
            launch = _complete(self.reread(), self.birth) if self.reread else self.launch
            current = current.reloaded(launch)
            return Reloaded(launch.server, current)

        return again


def _be_worker(
    spec: ServerSpec, moments: InstancePhases, sockets: Sockets, under_way: UnderWay
) -> NoReturn:
    """Be worker 1, in a process that a master without an interpreter forked."""
    generation.main(
        Order(
            number=1,
            spec=spec,
            phases=moments,
            sockets=sockets,
            served=sockets.open(spec),
            board=Board(spec.processes, spec.threads, under_way.board),
            channel=Channel(under_way.channel),
            master=os.getppid(),
            slots=tuple(range(1, spec.processes + 1)),
            must=spec.need_app,
            emperor_fd=EMPEROR_NUMBER,
            die_with_parent=True,
        )
    )


def _serves(spec: ServerSpec) -> bool:
    """Whether there is a master with something to do."""
    return bool(spec.listeners or spec.http_routers or spec.master)


def _provide(spec: ServerSpec, *, alone: bool) -> None:
    """Import what is wanted behind walls. Late, as a bare Emperor leaves that to its zygote."""
    from donjon.emperor import _arenas, provisions  # noqa: PLC0415

    provisions.provide()
    encrypted = spec.terminals is not None and spec.terminals.tls_cert is not None
    wanted = {
        "donjon.server.terminals": alone or spec.terminals,
        "donjon.fork_pty.tls": encrypted,
        "donjon.server.ptyserver": spec.pty,
        "donjon.server.ptyworker": spec.pty,
        "donjon.server.pyshell": spec.pyshell is not None,
        "code": spec.pyshell is not None,
    }
    for name, needed in wanted.items():
        if needed:
            importlib.import_module(name)
    _arenas.settle()


def _alone(be_emperor: Callable[[], int], moments: InstancePhases) -> int:
    """Be the Emperor in this process; its last hooks run when it is buried."""
    try:
        return be_emperor()
    finally:
        moments.run(Phase.AS_USER_ATEXIT)
