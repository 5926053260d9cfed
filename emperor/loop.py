"""The Emperor: finds configurations, keeps their vassals alive, one thread, one epoll loop.

``run`` forks the spawner first. Then everything is an event: a file changed, a vassal spoke or
died, a timer is due, a signal came. ``happen`` asks the table in ``vassal`` and carries the
actions out; events raised meanwhile wait their turn, so that no action ever runs inside another.
Nothing polls: 300 idle vassals cost one rescan of their directory every ``emperor-freq`` seconds.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections import deque
from collections.abc import Sequence

from donjon import log, syscalls
from donjon.config.spec import EmperorSpec
from donjon.emperor import mercy
from donjon.emperor.activation import Given
from donjon.emperor.conduct import Conduct
from donjon.emperor.control import ControlServer
from donjon.emperor.court import Court
from donjon.emperor.errands import Errands
from donjon.emperor.keeper import Keeper
from donjon.emperor.logs import usable_directory
from donjon.emperor.networks import Networks
from donjon.emperor.newborn import Entry
from donjon.emperor.notify import Notifier
from donjon.emperor.nursery import Nursery
from donjon.emperor.prepare import Preparer
from donjon.emperor.reactor import Reactor, Timer
from donjon.emperor.reader import Reader
from donjon.emperor.resources import Resources
from donjon.emperor.roster import Vassal
from donjon.emperor.spawner import Spawner
from donjon.emperor.stats import StatsServer
from donjon.emperor.survey import Survey
from donjon.emperor.terminals import Terminals
from donjon.emperor.throttle import Blacklist
from donjon.emperor.upper import UpperLink
from donjon.emperor.vassal import Event, step
from donjon.errors import DonjonError
from donjon.hooks.spec import Hook
from donjon.server import telling

RAGNAROK = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
SIGNALS = (
    *RAGNAROK,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGWINCH,
    signal.SIGURG,
    signal.SIGCHLD,
)

SPAWNER_LIFE = 2.0
"""Seconds that a spawner started in place of a dead one must live for a third to be tried."""

GARBAGE = 5000
"""Objects more than before at which the collector looks for cycles. An Emperor makes few, and
keeps most of what it makes: at the usual 700 it looked eight times as often, for nothing."""

ENDS_A_ZERG = frozenset({Event.LEAVE, Event.DIED, Event.EXILED, Event.LOST, Event.BIRTH_FAILED})


class Emperor:
    """Everything tied together."""

    def __init__(
        self,
        spec: EmperorSpec,
        spawner: Spawner,
        *,
        entry: Entry,
        hooks: Sequence[Hook],
        argv0: Sequence[str],
        upper: int | None,
    ) -> None:
        self.spec = spec
        self.entry = entry
        self.argv0 = tuple(argv0)
        self.status = 0
        self.ending = False
        self._mercy: Timer | None = None
        self._events: deque[tuple[Vassal, Event]] = deque()
        self._busy = False
        self.reactor = Reactor()
        self._spawner_since = -SPAWNER_LIFE
        self.spawner = spawner
        self.notifier = Notifier()
        self.given = Given()
        self.court = Court(
            blacklist=Blacklist(
                throttle_ms=spec.throttle,
                max_throttle_ms=spec.max_throttle,
                disabled=spec.no_blacklist,
            ),
            log_directory=usable_directory(spec.log_directory),
        )
        self.nursery = Nursery(self.reactor, spawner, spec, tuple(hooks))
        self.nursery.lost = self._spawner_died
        self.errands = Errands(self.reactor, hooks)
        self.keeper = Keeper(self.reactor, self.nursery, self.happen)
        self.reader = Reader(self.reactor, self.nursery, Preparer(spec, argv0, hooks))
        self.resources = Resources(self)
        self.networks = Networks(self)
        self.terminals = Terminals(self)
        self.conduct = Conduct(self)
        self.survey = Survey(spec, self.reactor, self.court, self.happen)
        self.survey.met = self.conduct.meet
        self.stats = StatsServer(self)
        self.control = ControlServer(self)
        self.upper = UpperLink(upper, self) if upper is not None else None

    def happen(self, vassal: Vassal, event: Event) -> None:
        """Apply one event to one vassal, after those that came before."""
        if vassal.is_zerg and event in ENDS_A_ZERG:
            self._events.append((vassal, Event.REMOVED))  # nobody reinforces for ever
        self._events.append((vassal, event))
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self._apply(*self._events.popleft())
        finally:
            self._busy = False
        self._tell_status()

    def _apply(self, vassal: Vassal, event: Event) -> None:
        """One step of one vassal. Whatever goes wrong with it must not end all the others."""
        state, actions = step(vassal.state, event)
        if log.debugging():  # the words alone would cost more than the step
            words = f"{vassal.state.value} + {event.name} = {state.value}"
            log.debug(f"[emperor] {vassal.name}: {words}")
        vassal.state = state
        try:
            for action in actions:
                self.conduct.do(vassal, action)
        except Exception as error:
            vassal.error = f"internal error: {type(error).__name__}: {error}"
            log.write(f"[emperor] vassal {vassal.name}: {vassal.error}")
            if log.debugging():
                import traceback  # noqa: PLC0415  (for a mistake of ours alone)

                log.write("".join(traceback.format_exception(error)))

    def run(self) -> int:
        """Rule until buried; return the exit status."""
        self.reactor.on_signals(SIGNALS, self.on_signal)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # what a broken lease sends
        self._announce()
        self.stats.open()
        self.control.open()
        self.resources.begin()
        self.networks.begin()
        self.terminals.begin()
        self.survey.begin()
        if self.upper is not None:
            self.upper.greet()
        self._tell_status(ready=True)
        if self.notifier.patience:
            self._live()
        try:
            self.reactor.run()
        finally:
            self._bury()
        return self.status

    def _live(self) -> None:
        """Tell the service manager's watchdog that the loop turns, twice in its patience."""
        self.notifier.live()
        self.reactor.after(self.notifier.patience / 2, self._live)

    def on_signal(self, number: int) -> None:
        """React to a signal (uwsgi-facts 1.7)."""
        if number in RAGNAROK:
            self.ragnarok()
        elif number == signal.SIGHUP:
            self.reload_all()
        elif number == signal.SIGUSR1:
            self._write_roll()
        elif number == signal.SIGWINCH:
            self.survey.scan()
        elif number == signal.SIGURG:
            self.court.blacklist.clear()
            log.write("[emperor] the blacklist is empty")
        elif number == signal.SIGCHLD:
            self._reap_strangers()

    def ragnarok(self) -> None:
        """Stop every vassal, then end. Bounded by reload-mercy."""
        if self.ending:
            log.write("[emperor] *** RAGNAROK ALREADY EVOKED ***")
            return
        log.write("[emperor] *** RAGNAROK EVOKED ***")
        self.ending = True
        self.survey.end()
        self.stats.close()
        self.notifier.tell("STOPPING=1")
        for vassal in list(self.court.vassals.values()):
            self.happen(vassal, Event.RAGNAROK)
        self._mercy = self.reactor.after(self.spec.reload_mercy, self._end_mercy)
        self.errands.idle = self.maybe_end
        self.maybe_end()

    def maybe_end(self) -> None:
        """Leave the loop once nobody is left."""
        if self.ending and not self.court.vassals and not self.errands.busy:
            if self.nursery.busy:
                self.reactor.after(0.02, self.maybe_end)
            else:
                self.reactor.stop()

    def abandon(self) -> None:
        """The upper Emperor is gone: end at once with status 1."""
        self.status = 1
        self.ragnarok()
        if self._mercy is not None:
            self._mercy.cancel()
        self._end_mercy()

    def reload_all(self) -> None:
        """Reload the plans and every vassal (SIGHUP)."""
        telling.read_again()
        self.resources.reload_plans()
        for vassal in list(self.court.vassals.values()):
            self.happen(vassal, Event.RELOAD)

    def _end_mercy(self) -> None:
        """Kill whoever is left; again in a moment, for a birth may have been under way."""
        for vassal in list(self.court.vassals.values()):
            self.keeper.signal(vassal, signal.SIGKILL)
        for name in self.errands.kill():
            log.write(f"[emperor] a hook of {name} did not end in time")
        self._mercy = self.reactor.after(1, self._end_mercy)

    def _announce(self) -> None:
        log.write("*** starting uWSGI Emperor ***")
        if self.spec.procname:
            syscalls.set_name(self.spec.procname)
        if self.spec.pidfile:
            with open(self.spec.pidfile, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")

    def _write_roll(self) -> None:
        for vassal in self.court.vassals.values():
            log.write(
                f"vassal instance {vassal.name} "
                f"(last modified {vassal.found.mtime_ns // 1_000_000_000}) "
                f"status {self.court.status_number(vassal)} loyal {int(vassal.marks.loyal)} "
                f"zerg {int(vassal.is_zerg)}"
            )

    def _reap_strangers(self) -> None:
        """An Emperor that is PID 1 inherits orphans; its own children it reaps by pidfd."""
        if os.getpid() != 1:
            return
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while (result := _any_dead(flags)) is not None:
            if self._is_ours(result.si_pid):
                self.reactor.after(0.1, self._reap_strangers)  # its pidfd comes first
                return
            os.waitpid(result.si_pid, 0)

    def _is_ours(self, pid: int) -> bool:
        """Whether somebody here waits for this dead child by its pidfd."""
        return (
            pid == self.spawner.pid
            or self.errands.owns(pid)
            or self.nursery.owns(pid)
            or self.networks.owns(pid)
            or self.terminals.owns(pid)
            or any(pid == vassal.pid for vassal in self.court.vassals.values())
        )

    def _spawner_died(self) -> None:
        if self.ending:
            return
        self.spawner.close()
        log.write("[emperor] !!! the spawner died !!!")
        try:
            self.spawner = self._another_spawner()
        except (OSError, DonjonError) as error:
            log.write(f"[emperor] !!! there is no other spawner: {error} !!!")
            self.status = 1
            self.ragnarok()
            return
        vassals = self.court.vassals.values()
        living = [(one.name, one.process) for one in vassals if one.process is not None]
        self.nursery.use(self.spawner, living)

    def _another_spawner(self) -> Spawner:
        now = self.reactor.clock()
        if now - self._spawner_since < SPAWNER_LIFE:
            raise DonjonError("the last one died at once")
        self._spawner_since = now
        return Spawner.start_afresh(self.entry, preload=self.spec.spawner_preload)

    def _tell_status(self, *, ready: bool = False) -> None:
        if self.ending or not self.notifier.is_heard:
            return
        text = f"STATUS=The Emperor is governing {len(self.court.vassals)} vassals\n"
        self.notifier.tell(f"READY=1\n{text}" if ready else text)

    def _bury(self) -> None:
        self.control.close()
        self.stats.close()
        self.survey.close()
        self.resources.close()
        self.networks.close()
        self.terminals.close()
        self.spawner.close()
        self.nursery.groups.remove_all()
        self.court.close()
        self.given.close()
        if self.spec.pidfile:
            _unlink_own(self.spec.pidfile)
        self.reactor.close()
        log.write("The Emperor is buried.")


def _any_dead(flags: int) -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, flags)
    except ChildProcessError:
        return None


def _unlink_own(path: str) -> None:
    """Remove the pid file if it still is ours."""
    try:
        with open(path, encoding="ascii") as file:
            ours = file.read().strip() == str(os.getpid())
        if ours:
            os.unlink(path)
    except OSError:
        return  # gone already


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the administrator did; a vassal takes five."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(
    spec: EmperorSpec,
    *,
    entry: Entry,
    hooks: Sequence[Hook] = (),
    argv0: Sequence[str] = ("donjon",),
    emperor_link: int | None = None,
) -> int:
    """Be an Emperor until a signal ends it; return the exit status.

    ``entry`` is what a vassal born from the spawner runs, ``argv0`` the program and first
    arguments by which a vassal can be executed instead. ``emperor_link`` is the control socket of
    an upper Emperor of which this one is a vassal.
    """
    spawner = Spawner.start(entry, preload=spec.spawner_preload)
    gc.set_threshold(GARBAGE)
    raise_descriptor_limit()
    mercy.spare_me()
    return Emperor(spec, spawner, entry=entry, hooks=hooks, argv0=argv0, upper=emperor_link).run()
