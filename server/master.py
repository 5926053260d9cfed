"""The master of an instance: it keeps pid, jail and listeners, and never loads the application.

One thread, one loop. It starts a crew (a generation of workers), replaces workers that die, and on
a reload starts the next crew beside the serving one::

    start ─▶ crew 1 STARTING ─▶ SERVING ──reload──▶ crew 2 STARTING ─▶ SERVING, 1 RETIRING
                └─ failed: the instance ends            └─ failed: crew 1 goes on

A reload is asked for by SIGHUP, the Emperor's byte 1, a touched file, the FIFO or the application.
A second one that comes while the first is under way is done after it. Everything that ends the
instance goes through ``stop``: workers are asked, get their mercy, and are killed.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Sequence

from donjon import log
from donjon.errors import DonjonError
from donjon.jail.phase import Phase
from donjon.server import pidfiles, procname, single
from donjon.server.board import Board
from donjon.server.channel import Channel, Message, Word, unpack
from donjon.server.children import Children
from donjon.server.crew import Crew, Owner, State
from donjon.server.link import EmperorLink, FromEmperor, ToEmperor
from donjon.server.loop import Loop, Timer, release_signals
from donjon.server.phases import DropPoint, Phases, Reloaded, Reread
from donjon.server.services import Services
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import ServerSpec
from donjon.server.takeover import UnderWay

EMPEROR_LOST = 1
NOTHING_TO_DO = "The -s/--socket option is missing and stdin is not a socket."


def run(
    spec: ServerSpec,
    phases: Phases,
    reread: Reread,
    *,
    emperor: EmperorLink | None = None,
    sockets: Sockets | None = None,
    companions: Sequence[tuple[str, Callable[[], int]]] = (),
    on_ready: Callable[[], None] = lambda: None,
    private: Sequence[int] = (),
    under_way: UnderWay | None = None,
) -> int:
    """Serve until the end; return the exit status of the instance (uwsgi-facts 7.6).

    ``sockets`` holds what was bound before privileges were dropped. ``companions`` are children
    that the master keeps beside the workers. ``on_ready`` is called once, when the application is
    loaded. ``private`` descriptors are closed in every child. ``under_way`` is what was started
    already. Raises DonjonError where it cannot start.
    """
    sockets = sockets or Sockets()
    served = sockets.open(spec)
    phases.drop(DropPoint.SOCKETS)
    phases.drop(DropPoint.INIT)
    if spec.no_server:
        return single.no_server(spec, phases)
    if not (served or companions or spec.daemons or spec.mules or spec.terminals):
        raise DonjonError(NOTHING_TO_DO, hint="give socket, http-socket or http")
    if not (spec.master or emperor or companions):
        return single.run(spec, phases, sockets, served, on_ready)
    return Master(
        Reloaded(spec, phases), reread, (sockets, served),
        emperor=emperor, companions=companions, on_ready=on_ready, private=private,
        under_way=under_way,
    ).run()  # fmt: skip


class Master:
    """The state of a running instance."""

    def __init__(
        self,
        wanted: Reloaded,
        reread: Reread,
        listening: tuple[Sockets, tuple[Bound, ...]],
        *,
        emperor: EmperorLink | None,
        companions: Sequence[tuple[str, Callable[[], int]]],
        on_ready: Callable[[], None],
        private: Sequence[int],
        under_way: UnderWay | None = None,
    ) -> None:
        """Make everything that can fail before the first fork."""
        self.spec, self.phases = wanted.spec, wanted.phases
        self.sockets, served = listening
        self.emperor = emperor
        self.loop = Loop()
        self.loop.private = tuple(private)
        self.children = Children(self.loop)
        self.channel = Channel(under_way.channel if under_way else None)
        self.owner = Owner(
            self.loop, self.children, self.channel, self.sockets,
            emperor.fileno() if emperor else -1,
            self.hear, self._loaded, self._serving, self._failed, self._empty, self._pty_line,
        )  # fmt: skip
        shared = under_way.board if under_way else None
        board = Board(self.spec.processes, self.spec.threads, shared)
        self.current = Crew(self.owner, 1, self.spec, self.phases, served, board=board)
        self.coming: Crew | None = None
        self.retiring: list[Crew] = []
        self.services = Services(self, companions)
        self.paused = False
        self._under_way = under_way
        self._reread = reread
        self._on_ready = on_ready
        self._brutal = False
        self._again: bool | None = None
        self._stopping = False
        self._initialised = False
        self._asleep = False
        self._last_mercy: Timer | None = None
        self._status = 0

    # -- the life of the process

    def run(self) -> int:
        """Start, serve, end; return the exit status."""
        self.take_signals()
        self.loop.watch(self.channel.fileno(), self.hear)
        if self.emperor is not None:
            self.loop.watch(self.emperor.fileno(), self.hear_emperor, keep=True)
        gc.freeze()
        try:
            self._begin()
            while not (self._stopping and not len(self.children)):
                self.loop.turn()
        finally:
            self._end()
        return self._status

    def _begin(self) -> None:
        """Start the first crew, or take one over."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            self._take_over(under_way)
            return
        procname.name_master(self.spec)
        log.write(f"spawned uWSGI master process (pid: {os.getpid()})")
        self.current.start()

    def _take_over(self, under_way: UnderWay) -> None:
        """Go on where a master without an interpreter stopped, with what it did not answer.

        Its signals are let in first: what is forked from here on has the mask that we have.
        """
        release_signals(set())
        self.current.take_over(under_way)
        if under_way.loaded:
            self._initialised = True
            self.services.start(self.current)
        if message := unpack(under_way.packet):
            self._take(message)
        for number in under_way.signals:
            self.loop.raise_signal(number)

    def take_signals(self) -> None:
        """Give signals their meaning (uwsgi-facts 7.3)."""
        self.loop.take_signals()
        on = self.loop.on_signal
        on(signal.SIGHUP, self.reload)
        on(signal.SIGTERM, self._on_term)
        on(signal.SIGINT, self.stop)
        on(signal.SIGQUIT, self._on_quit)
        on(signal.SIGUSR1, self._log_statistics)
        on(signal.SIGTSTP, self.pause)

    def _on_term(self) -> None:
        """Reload brutally, or stop where die-on-term was asked for (uwsgi-facts 7.3)."""
        if self.spec.die_on_term:
            self.stop()
        else:
            self.reload(brutal=True)

    def _on_quit(self) -> None:
        if self.spec.die_on_term:
            self.reload(brutal=True)
        else:
            self.stop()

    def _log_statistics(self) -> None:
        self.services.log_statistics()

    def _end(self) -> None:
        for child in self.children.all():
            child.kill()
        self.services.close()
        try:
            self.phases.run(Phase.AS_USER_ATEXIT)
        except DonjonError as error:
            log.write(f"donjon: {error}")
        self.sockets.close(vacuum=self.spec.vacuum)
        self.channel.close()
        self.loop.close()
        log.write("goodbye to uWSGI.")

    def _pty_line(self, spec: ServerSpec) -> int:
        return self.services.pty_line(spec)

    # -- what crews tell

    def hear(self) -> None:
        """Take what workers say."""
        for message in self.channel.receive():
            self._take(message)

    def _take(self, message: Message) -> None:
        if message.word is Word.HOOK_FAILED:
            self._hook_failed(message.generation)
        elif message.word is Word.RELOAD:
            self.reload()
        elif message.word is Word.STOP:
            self.stop(graceful=True)  # the request that asks is answered
        elif message.word is Word.PAUSED:
            self.services.frost.paused(message.slot)
        elif crew := self._crew(message.generation):
            crew.hear(message)
        elif child := self.children.adopt(message.pid, lambda _: None):
            child.kill()  # of a generation that is gone

    def _crew(self, number: int) -> Crew | None:
        for crew in (self.current, self.coming, *self.retiring):
            if crew is not None and crew.number == number:
                return crew
        return None

    def _hook_failed(self, generation: int) -> None:
        """A fatal hook of a worker ends the instance; that of a reload ends the reload."""
        if self.coming is not None and self.coming.number == generation:
            self._failed(self.coming, 1)
        elif self.current.number == generation:
            self.stop()

    def _loaded(self, crew: Crew) -> None:
        """The application of a crew is loaded: the instance is initialised."""
        if crew is not self.current or self._initialised:
            return
        self._initialised = True
        try:
            crew.phases.drop(DropPoint.APPS)
            self._on_ready()
            self.loop.still_private()
            self.services.start(crew)
            pidfiles.write_safe(crew.spec)
            crew.phases.run(Phase.MASTER_START)
        except DonjonError as error:
            log.write(f"donjon: {error}")
            self.stop()

    def _serving(self, crew: Crew) -> None:
        """All workers of a crew accept; if it is the next one, it takes over."""
        if crew is not self.coming:
            self._next_reload()  # asked for while the first one started
            return
        self._watch_listeners(on=False)
        old, self.current, self.coming = self.current, crew, None
        self.spec, self.phases = crew.spec, crew.phases
        self.retiring.append(old)
        old.retire(signal.SIGINT if self._brutal else signal.SIGHUP)
        self.sockets.keep(crew.served)
        self.services.start(crew)
        try:
            crew.phases.run(Phase.MASTER_START)
        except DonjonError as error:
            log.write(f"donjon: {error}")
            self.stop()
        log.write(f"generation {crew.number} serves")
        self._next_reload()

    def _failed(self, crew: Crew, status: int) -> None:
        """A crew cannot go on. The next one is given up; of the current one the instance ends."""
        if crew is self.coming:
            self.coming = None
            self.retiring.append(crew)
            crew.retire(signal.SIGKILL)
            self.sockets.keep(self.current.served)
            log.write(f"reload failed, generation {self.current.number} goes on serving")
            self._next_reload()
        elif crew is self.current:
            self.stop(status if status > 0 else 1)

    def _empty(self, crew: Crew) -> None:
        if crew in self.retiring:
            self.retiring.remove(crew)

    # -- reloading

    def reload(self, *, brutal: bool = False) -> None:
        """Start the next generation beside the serving one."""
        if self._stopping:
            return
        if self.spec.exit_on_reload:
            self.stop(graceful=not brutal)
            return
        if self.coming is not None or self.current.state is State.STARTING:
            self._again = brutal or bool(self._again)
            return
        log.write(
            "...gracefully killing workers..." if not brutal else "...brutally killing workers..."
        )
        self._brutal = brutal
        try:
            self._begin_reload()
        except DonjonError as error:
            log.write(f"donjon: {error}")
            log.write(f"reload failed, generation {self.current.number} goes on serving")

    def _begin_reload(self) -> None:
        self.phases.run(Phase.AS_USER_ATEXIT)
        new: Reloaded = self._reread()
        served = self.sockets.open(new.spec)
        self.coming = Crew(self.owner, self.current.number + 1, new.spec, new.phases, served)
        try:
            self.coming.start(before=self.spec)
        except DonjonError:
            self.coming = None
            self.sockets.keep(self.current.served)
            raise
        except OSError as error:
            self.coming = None
            raise DonjonError(
                "cannot fork the next generation", reason=str(error.strerror)
            ) from error

    def _next_reload(self) -> None:
        again, self._again = self._again, None
        if again is not None:
            self.reload(brutal=again)

    def reload_workers(self, *, chain: bool = False, brutal: bool = False) -> None:
        """Renew the workers of the serving generation."""
        if self.current.state is State.SERVING:
            self.current.reload_workers(chain=chain, brutal=brutal)

    def pause(self, *, quiet: bool = False) -> None:
        """Stop accepting, or accept again; the listeners stay open and clients wait."""
        self.paused = not self.paused
        if not quiet:
            log.write("*** instance paused ***" if self.paused else "*** instance resumed ***")
        self.current.signal_all(signal.SIGTSTP)

    # -- sleeping

    def sleep(self, number: int = signal.SIGHUP) -> None:
        """End the workers until a client comes; the listeners stay open ("cheap mode")."""
        if (
            self._asleep
            or self._stopping
            or self.coming
            or self.current.state is not State.SERVING
        ):
            return
        log.write("*** going to sleep: workers end, the first client wakes the instance ***")
        self.current.retire(number)
        self._watch_listeners(on=True)

    def _watch_listeners(self, *, on: bool) -> None:
        if self._asleep is on:
            return
        self._asleep = on
        for bound in self.current.served:
            if on:
                self.loop.watch(bound.fileno(), self._wake, keep=True)
            else:
                self.loop.forget(bound.fileno())

    def _wake(self) -> None:
        """Start workers again: the same configuration, a new generation."""
        self._watch_listeners(on=False)
        old = self.current
        if old.living():
            self.retiring.append(old)
        self.current = Crew(self.owner, old.number + 1, old.spec, old.phases, old.served)
        try:
            self.current.start()
        except OSError as error:
            log.write(f"cannot fork a worker: {error.strerror}")
            self.stop(1)

    # -- ending

    def stop(self, status: int = 0, *, graceful: bool = False) -> None:
        """End the instance with ``status``; a second call is less patient."""
        if self._stopping:
            self._kill_all()
            return
        self._stopping = True
        self._status = status
        log.write(
            "...gracefully killing workers..."
            if graceful
            else "SIGINT/SIGTERM received...killing workers..."
        )
        number = signal.SIGHUP if graceful else signal.SIGINT
        for crew in (self.current, self.coming):
            if crew is not None:
                crew.retire(number)
        self.services.stop()
        self.loop.after(max(self.current.mercy(), 1.0), self._kill_all)

    def perish(self, why: str) -> None:
        """End at once, nothing asked and nothing waited for; who made us makes us anew."""
        log.write(f"*** {why}: the instance is destroyed ***")
        for child in self.children.all():
            child.kill()
        os._exit(1)

    def _kill_all(self) -> None:
        for child in self.children.all():
            child.kill()

    # -- the Emperor

    def hear_emperor(self) -> None:
        """Take the Emperor's bytes."""
        assert self.emperor is not None
        received = self.emperor.receive()
        if received is None:
            self._lost()
            return
        for byte in received:
            if byte == FromEmperor.RELOAD:
                self._run_softly(Phase.EMPEROR_RELOAD)
                self.services.reload_companions()
                self.reload()
            elif byte in {FromEmperor.STOP, FromEmperor.GRACEFUL_STOP}:
                self._run_softly(Phase.EMPEROR_STOP)
                self.stop(graceful=byte == FromEmperor.GRACEFUL_STOP)
            elif byte == FromEmperor.GO_ON:
                self.services.frost.wake()

    def _lost(self) -> None:
        assert self.emperor is not None
        self.loop.forget(self.emperor.fileno())
        if self._stopping:
            return
        log.write("!!! lost connection with my emperor !!!")
        self._run_softly(Phase.EMPEROR_LOST)
        self.stop(EMPEROR_LOST)
        self._kill_all()

    def tell_emperor(self, byte: ToEmperor) -> None:
        """Send a byte, if there is an Emperor."""
        if self.emperor is not None:
            self.emperor.send(byte)

    def _run_softly(self, phase: Phase) -> None:
        try:
            self.phases.run(phase)
        except DonjonError as error:
            log.write(f"donjon: {error}")
