"""The Emperor's conduct: how each action of the table is carried out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from donjon import log
from donjon.emperor import ondemand
from donjon.emperor.leftovers import sockets_of
from donjon.emperor.nursery import Cradle
from donjon.emperor.orders import Answer
from donjon.emperor.plans import UnknownPlanError
from donjon.emperor.prepare import Reading
from donjon.emperor.protocol import ToVassal
from donjon.emperor.reading import NotYetError
from donjon.emperor.roster import Vassal
from donjon.emperor.scanner import ZERG_SUFFIX, under_name
from donjon.emperor.vassal import Action, Event, State
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor

EAGER = 1.0
"""Seconds between two starts at least: neither a loop of touches nor a vassal that says it is
loyal and goes is a fork bomb."""


class Conduct:
    """Carries out actions. Decides nothing."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self.spec = emperor.spec
        self.court = emperor.court
        self.reactor = emperor.reactor
        self.happen = emperor.happen
        self._deeds: dict[Action, Callable[[Vassal], None]] = {
            Action.READ: self.read,
            Action.CANCEL_READ: emperor.reader.cancel,
            Action.READ_AGAIN: self.read_again,
            Action.SPAWN: self.spawn,
            Action.SCHEDULE: self.schedule,
            Action.UNSCHEDULE: self.unschedule,
            Action.LISTEN: self.listen,
            Action.UNLISTEN: self.unlisten,
            Action.TELL_STOP: self.tell_stop,
            Action.TELL_GRACEFUL: lambda vassal: self.stop(vassal, ToVassal.GRACEFUL),
            Action.TELL_RELOAD: self.tell_reload,
            Action.CURSE: self.curse,
            Action.KILL: self.kill,
            Action.CLEAN: self.clean,
            Action.BLAME: self.blame,
            Action.FORGET: self.forget,
            Action.MARK_READY: self.mark_ready,
            Action.MARK_ACCEPTING: self.mark_accepting,
            Action.MARK_LOYAL: self.mark_loyal,
            Action.MARK_BEAT: self.mark_beat,
            Action.SEND_CONFIG: self.send_config,
            Action.REINFORCE: self.reinforce,
        }

    def do(self, vassal: Vassal, action: Action) -> None:
        """Carry out one action."""
        self._deeds[action](vassal)

    # beginnings

    def meet(self, vassal: Vassal) -> None:
        """A new vassal was found: on demand or not, it is scheduled."""
        try:
            if not vassal.is_zerg:
                vassal.on_demand = ondemand.address_of(self.spec, vassal.found)
        except DonjonError as error:
            self._complain(vassal, error)
        self.schedule(vassal)

    def read(self, vassal: Vassal) -> None:
        """Have the configuration evaluated."""
        vassal.last_try = self.reactor.clock()
        vassal.impatient = vassal.unread = vassal.read_again = False
        self.emperor.reader.read(vassal, self._have_read)

    def _have_read(self, vassal: Vassal, outcome: Reading | DonjonError | NotYetError) -> None:
        if isinstance(outcome, NotYetError):
            vassal.unread = True
            if vassal.process is None:
                vassal.error = f"waiting: {log.one_line(str(outcome))}"
            log.debug(f"[emperor] vassal {vassal.name}: {outcome}")
            self.happen(vassal, Event.NOT_YET)
        elif isinstance(outcome, DonjonError):
            vassal.plan_unknown = isinstance(outcome, UnknownPlanError)
            self._complain(vassal, outcome)
            self.happen(vassal, Event.READ_FAILED)
        else:
            running = vassal.process.reading if vassal.process else None
            vassal.reading = outcome
            if running is not None:
                vassal.error = ""
            fits = running is None or running.jail_key() == outcome.jail_key()
            self.happen(vassal, Event.READ if fits else Event.READ_OTHER_JAIL)
        if vassal.read_again and vassal.state is State.RUNNING:
            self.happen(vassal, Event.CHANGED)

    def _complain(self, vassal: Vassal, error: DonjonError) -> None:
        vassal.error = log.one_line(str(error))
        log.write(f"[emperor] vassal {vassal.name}: {vassal.error}")
        vassal.log.say(vassal.error)

    def read_again(self, vassal: Vassal) -> None:
        """What is being read is old already."""
        vassal.read_again = True

    def spawn(self, vassal: Vassal) -> None:
        """Order the birth."""
        reading = vassal.reading
        if reading is None:
            return
        if reading.launch.jail.network_grant is None:
            self._order(vassal, reading, None)
            return

        def prepared(network: Fd | DonjonError) -> None:
            if isinstance(network, DonjonError):
                self._not_born(vassal, network)
            else:
                self._order(vassal, reading, network)

        self.emperor.networks.prepare(vassal, reading, prepared)

    def _order(self, vassal: Vassal, reading: Reading, network: Fd | None) -> None:
        """``network`` is the namespace to be born in, given away with the order."""
        try:
            self.emperor.nursery.order_vassal(
                vassal,
                reading,
                lambda cradle, answer: self._born(vassal, cradle, answer),
                network=network,
            )
        except DonjonError as error:
            self._not_born(vassal, error)
        except OSError as error:
            self._not_born(vassal, DonjonError("cannot spawn", reason=reason_of(error)))

    def _not_born(self, vassal: Vassal, error: DonjonError) -> None:
        self._complain(vassal, error)
        self.emperor.networks.died(vassal)
        self.happen(vassal, Event.BIRTH_FAILED)

    def _born(self, vassal: Vassal, cradle: Cradle, answer: Answer) -> None:
        if not self.emperor.keeper.adopt(vassal, cradle, answer):
            self.emperor.networks.died(vassal)
            self.happen(vassal, Event.BIRTH_FAILED)
            return
        now = int(time.time())
        vassal.marks.renew()
        vassal.marks.loyal = False
        vassal.marks.beat = 0.0
        vassal.marks.last_heartbeat = 0
        vassal.born = vassal.born or now
        vassal.first_run = vassal.first_run or now
        vassal.last_run = now
        vassal.cursed = 0
        if self.spec.tyrant:
            log.write(
                f"[emperor-tyrant] dropping privileges to {vassal.found.uid} {vassal.found.gid} "
                f"for instance {vassal.name}"
            )
        self.emperor.errands.greet(vassal.name, self.variables(vassal))
        self.emperor.resources.born(vassal)
        self.emperor.terminals.born(vassal)
        self.happen(vassal, Event.BORN)
        if vassal.read_again and vassal.state is State.RUNNING:
            self.happen(vassal, Event.CHANGED)

    def variables(self, vassal: Vassal) -> dict[str, str]:
        """Return what hooks are told of a vassal."""
        return {
            "UWSGI_VASSAL_CONFIG": vassal.name,
            "UWSGI_VASSAL_PID": str(vassal.pid),
            "UWSGI_VASSAL_UID": str(vassal.found.uid),
            "UWSGI_VASSAL_GID": str(vassal.found.gid),
        }

    # waiting

    def schedule(self, vassal: Vassal) -> None:
        """Start it (or put it to sleep on its socket) when its back-off allows."""
        now = self.reactor.clock()
        wait = max(vassal.last_try + EAGER - now, 0.0) if vassal.last_try else 0.0
        if not vassal.impatient:
            wait = max(wait, self.court.blacklist.wait(vassal.name, time.time()))
        vassal.starts_at = time.time() + wait
        event = Event.DOZE if vassal.on_demand else Event.DUE
        vassal.due = self.reactor.after(wait, lambda: self.happen(vassal, event))

    def unschedule(self, vassal: Vassal) -> None:
        """Not at that time."""
        if vassal.due is not None:
            vassal.due.cancel()
            vassal.due = None

    def listen(self, vassal: Vassal) -> None:
        """Wait for the first connection."""
        try:
            if vassal.doorbell is None:
                vassal.doorbell = self.emperor.given.lend(vassal.on_demand)
            if vassal.doorbell is None:
                vassal.doorbell = ondemand.bind(vassal.on_demand)
                self.note_file(vassal.on_demand)
        except DonjonError as error:
            self._complain(vassal, error)
            return
        self.reactor.watch(
            vassal.doorbell.fileno(), lambda _events: self.happen(vassal, Event.CONNECTED)
        )

    def unlisten(self, vassal: Vassal) -> None:
        """The vassal itself will listen; the socket stays open here."""
        if vassal.doorbell is not None:
            self.reactor.forget(vassal.doorbell.fileno())

    # endings

    def tell_stop(self, vassal: Vassal) -> None:
        """Byte 0, or 2 with emperor-graceful-shutdown."""
        graceful = self.spec.graceful_shutdown
        self.stop(vassal, ToVassal.GRACEFUL if graceful else ToVassal.STOP)

    def stop(self, vassal: Vassal, byte: ToVassal) -> None:
        """Tell it to go, and give it the curse tolerance for that."""
        log.write(f"[emperor] stop the uwsgi instance {vassal.name}")
        self.emperor.nursery.groups.thaw(vassal.name)
        self.emperor.keeper.tell(vassal, byte)
        self.curse(vassal)

    def curse(self, vassal: Vassal) -> None:
        """From now on it has the curse tolerance."""
        vassal.cursed = int(time.time())
        if vassal.curse is not None:
            vassal.curse.cancel()
        vassal.curse = self.reactor.after(
            self.spec.curse_tolerance, lambda: self.happen(vassal, Event.OVERDUE)
        )

    def kill(self, vassal: Vassal) -> None:
        """SIGKILL."""
        log.write(f"[emperor] killing vassal {vassal.name} (pid {vassal.pid})")
        self.emperor.keeper.signal(vassal, signal.SIGKILL)

    def clean(self, vassal: Vassal) -> None:
        """Give back what a dead vassal had."""
        had_process = vassal.process is not None
        self.emperor.resources.frost.died(vassal)
        self.emperor.keeper.clean(vassal)
        self.emperor.networks.died(vassal)
        for timer in (vassal.curse, vassal.pulse):
            if timer is not None:
                timer.cancel()
        vassal.curse = vassal.pulse = None
        if not had_process:
            return
        log.write(f"[emperor] removed uwsgi instance {vassal.name}")
        if self.spec.vassals_stop_hook:
            self.emperor.errands.program(
                vassal.name,
                (self.spec.vassals_stop_hook, vassal.name),
                {"UWSGI_VASSALS_DIR": vassal.source.cwd},
            )

    def blame(self, vassal: Vassal) -> None:
        """Whoever goes without having been loyal has to wait."""
        if vassal.marks.loyal:
            return
        entry = self.court.blacklist.blame(vassal.name, time.time())
        if entry is not None and entry.attempt == 2:
            log.write(
                f"[emperor] unloyal bad behaving vassal found: {vassal.name} throttling it..."
            )

    def forget(self, vassal: Vassal) -> None:
        """It is no more."""
        self.emperor.resources.forget(vassal)
        self.emperor.terminals.forget(vassal)
        self.court.dismiss(vassal)
        self.emperor.nursery.groups.forget(vassal.name)
        if vassal.gap is not None:
            vassal.gap.cancel()
        if vassal.doorbell is not None:
            self.reactor.forget(vassal.doorbell.fileno())
            vassal.doorbell.close()
            vassal.doorbell = None
            if vassal.on_demand not in self.emperor.given:
                ondemand.unbind(vassal.on_demand)
                self.unnote_file(vassal.on_demand)
        self.emperor.maybe_end()

    # reloading

    def tell_reload(self, vassal: Vassal) -> None:
        """The new Launch, then byte 1. The pid stays."""
        process = vassal.process
        if process is None or vassal.reading is None:
            return
        log.write(f"[emperor] reload the uwsgi instance {vassal.name}")
        self.emperor.resources.change(vassal, vassal.reading)
        vassal.respawns += 1
        vassal.marks.renew()
        self.emperor.keeper.send_launch(vassal)
        if not self.emperor.keeper.tell(vassal, ToVassal.RELOAD):
            self.curse(vassal)

    # what it says

    def mark_ready(self, vassal: Vassal) -> None:
        """Byte 1."""
        vassal.marks.ready = True
        vassal.marks.last_ready = int(time.time())
        vassal.error = ""
        log.write(f"[emperor] vassal {vassal.name} has been spawned")
        self._note_sockets(vassal)

    def mark_accepting(self, vassal: Vassal) -> None:
        """Byte 5."""
        vassal.marks.accepting = True
        vassal.marks.last_accepting = int(time.time())
        log.write(f"[emperor] vassal {vassal.name} is ready to accept requests")

    def mark_loyal(self, vassal: Vassal) -> None:
        """Byte 17."""
        if not vassal.marks.loyal:
            log.write(f"[emperor] vassal {vassal.name} is now loyal")
        vassal.marks.loyal = True
        vassal.marks.last_loyal = int(time.time())
        self.court.blacklist.forgive(vassal.name)

    def mark_beat(self, vassal: Vassal) -> None:
        """Byte 26: from now on it must go on beating."""
        vassal.marks.last_heartbeat = int(time.time())
        vassal.marks.beat = self.reactor.clock()
        if vassal.pulse is None:
            self._feel_pulse(vassal)

    def _feel_pulse(self, vassal: Vassal) -> None:
        """One timer a vassal, put off to the end of the newest beat's validity when it fires."""
        if self.emperor.resources.frost.is_frozen(vassal):
            vassal.marks.beat = self.reactor.clock()
        silence = self.reactor.clock() - vassal.marks.beat
        left = self.spec.required_heartbeat - silence
        if left > 0:
            vassal.pulse = self.reactor.after(left, lambda: self._feel_pulse(vassal))
            return
        vassal.pulse = None
        vassal.marks.last_heartbeat = 0
        log.write(f"[emperor] vassal {vassal.name} sent no required heartbeat")
        self.happen(vassal, Event.HUNG)

    def send_config(self, vassal: Vassal) -> None:
        """Byte 2. Configurations are files here: there is no socket on which to send them."""
        log.debug(f"[emperor] vassal {vassal.name} asked for a configuration it has as a file")

    def reinforce(self, vassal: Vassal) -> None:
        """Byte 30: a zerg beside it, while the Emperor may have more of them."""
        name = vassal.name.removesuffix(ZERG_SUFFIX) + ZERG_SUFFIX
        count = sum(one.is_zerg for one in self.court.vassals.values())
        if count >= self.spec.broodlord or name in self.court.vassals:
            return
        self.court.zergs += 1
        found = under_name(vassal.found, name)
        self.meet(self.court.admit(vassal.source, found, zerg=self.court.zergs))

    # what must not stay behind a killed Emperor

    def _note_sockets(self, vassal: Vassal) -> None:
        if vassal.process is None:
            return
        owner = vassal.found.uid if self.spec.tyrant else None
        for path, identity in sockets_of(vassal.process.reading, vassal.source.cwd, owner=owner):
            vassal.leftovers.append(path)
            self.emperor.nursery.note(path, identity)

    def note_file(self, address: str) -> None:
        """Have the file of a unix socket removed if this Emperor is killed."""
        path = os.path.abspath(address)
        try:
            status = os.lstat(path)
        except OSError:
            return  # not a unix socket
        self.emperor.nursery.note(path, (status.st_dev, status.st_ino))

    def unnote_file(self, address: str) -> None:
        """It is removed already."""
        self.emperor.nursery.unnote(os.path.abspath(address))
