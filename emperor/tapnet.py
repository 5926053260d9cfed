"""What the Emperor does for all vassals with ``network = tap`` together.

Once: the router's device on the host, the host's table of nftables, the router itself. When
vassals come, change or go, rules and table are written again, whole; once for all that do so in
one turn of the loop, and for all that do so while a table is being written. Nothing is let
through before it is asked for everywhere: the rules come first, then the table, then the vassal's
device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.config.spec import EmperorSpec
from donjon.emperor import counted
from donjon.emperor.counted import InForce
from donjon.emperor.makers import Makers
from donjon.emperor.reactor import Reactor, Timer
from donjon.emperor.router import Router
from donjon.emperor.tapped import Tapped, member_of, names_in
from donjon.emperor.tapwords import TapWords
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.jail.netgrant import Pool
from donjon.netns import nat
from donjon.netns.wanted import HostDevice, Interface
from donjon.records import dataclass, replace
from donjon.tuntap import notes
from donjon.tuntap.client import Counters
from donjon.tuntap.rules.model import NameKind

if TYPE_CHECKING:
    from donjon.emperor.neighbours import Neighbours
    from donjon.emperor.resolver import Resolver


Ready = Callable[[DonjonError | None], None]


@dataclass(frozen=True, slots=True)
class Admission:
    """A vassal whose rules are not in force yet, and what it was ``before``."""

    name: str
    member: Tapped
    before: Tapped | None
    ready: Ready


Entered = Callable[[Sequence[Admission]], None]
"""Gets those that are in force."""


class TapNetwork:
    """Device, table, rules, router."""

    def __init__(
        self, spec: EmperorSpec, pool: Pool, reactor: Reactor, makers: Makers, *, record: str
    ) -> None:
        self.record = record
        self.spec = spec
        self.pool = pool
        self.reactor = reactor
        self.makers = makers
        self.router: Router | None = None
        self.resolver: Resolver | None = None
        self.known: Callable[[], Iterable[str]] = tuple
        self._device: Fd | None = None
        self.words = TapWords(spec, pool)
        self._force: InForce | None = None
        self._members = self.words.members
        self._starting: list[Ready] | None = None
        self._admissions: list[Admission] = []
        self._entering: list[Admission] = []  # whose rules the router was given
        self._alone: list[Admission] = []  # that were refused together, and are tried now
        self._let_in: list[Admission] = []  # of those
        self._ruling = False  # whether it has not answered to them
        self._changed = False  # whether there is more to be done then
        self._due: Timer | None = None  # the next writing of rules
        self._stale = False  # whether the host's table is not what it should be
        self._writing = False
        self._unwritten: list[Ready] = []

    @property
    def neighbours(self) -> Neighbours | None:
        """The other hosts, if there are any."""
        return self.words.neighbours

    # -- once

    def begin(self, ready: Ready) -> None:
        """Have all that is needed once; ``ready`` is told why there is not."""
        if self._starting is not None:
            self._starting.append(ready)
        elif self.router is not None:
            ready(None)
        else:
            self._starting = [ready]
            interface = Interface(name=self.spec.network_device, addresses=self.pool.addresses(1))
            self.makers.make(HostDevice(interface=interface), self._have_device)

    def _have_device(self, made: list[Fd] | DonjonError) -> None:
        if isinstance(made, DonjonError):
            self._end_start(made)
            return
        (self._device,) = made
        try:
            self.words.answering = self._who_answers()
        except DonjonError as error:
            self._stop()
            self._end_start(error)
            return
        self.makers.make(self.words.table(self.record), self._have_table)

    def _have_table(self, made: list[Fd] | DonjonError) -> None:
        assert self._device is not None
        problem = made if isinstance(made, DonjonError) else None
        try:
            if problem is None:
                force = self.words.in_force()
                table = force.compiled.table
                self.router = Router(self.reactor, self._device, table, self._have_router)
                self._put_in_force(self.router, force)
                return
        except DonjonError as error:
            problem = error
        self._have_router(problem)

    def _have_router(self, problem: DonjonError | None) -> None:
        try:
            if problem is None:
                self._begin_beside()
        except DonjonError as error:
            problem = error
        if problem is not None:
            self._stop()
        self._end_start(problem)

    def _begin_beside(self) -> None:
        """Have what works with a router; peers come last, as they begin once. Raises
        DonjonError."""
        if self.spec.network_dns:
            self._resolve()
        if self.neighbours is not None and self.router is not None:
            self.neighbours.begin(self.router)

    def _resolve(self) -> None:
        from donjon.emperor.resolver import Resolver  # noqa: PLC0415  (most Emperors have none)

        device, addresses = self.spec.network_device, self.pool.routers
        self.resolver = Resolver(self.reactor, device, addresses)
        self.resolver.complained = self._tell_names
        self._tell_names()

    def _end_start(self, problem: DonjonError | None) -> None:
        waiting, self._starting = self._starting or [], None
        for ready in waiting:
            ready(problem)

    def close(self) -> None:
        """End router, resolver and links; the helper removes the table when it is let go."""
        if self.neighbours is not None:
            self.neighbours.close()
            self.words.neighbours = None
        self._stop()

    def _stop(self) -> None:
        """End what ``begin`` starts, which may be asked again: peers are joined then."""
        if self.resolver is not None:
            self.resolver.close()
            self.resolver = None
        if self.router is not None:
            self.router.close()
            self.router = None
        if self._device is not None:
            self._device.close()
            self._device = None

    # -- vassals

    member = staticmethod(member_of)

    def admit(self, name: str, member: Tapped, ready: Ready) -> None:
        """Have a vassal in table and rules, in the place of what it was; once ``ready`` is told
        so it may be attached. One that cannot be stays what it was."""
        try:
            self.words.check(name, member, self.known)
        except DonjonError as error:
            ready(error)
            return
        before = self._members.get(name)
        self._members[name] = member
        self._stale |= member.in_table or (before is not None and before.in_table)
        self._admissions.append(Admission(name, member, before, ready))
        self._catch_up_soon()

    def change(self, name: str, member: Tapped, device: Fd, ready: Ready) -> None:
        """Have an attached vassal be something else; nothing of its is interrupted, but for a
        moment where its limits change."""
        before = self._members[name]
        self.admit(name, member, ready)
        if self.router is not None and before.limits != self._members[name].limits:
            self.router.detach(name)
            self.attach(name, device, lambda problem: ready(problem) if problem else None)

    def differs(self, name: str, member: Tapped) -> bool:
        """Whether the router knows something else of a vassal."""
        known = self._members.get(name)
        return known is None or known.asked != member.asked

    def dismiss(self, name: str) -> None:
        """A vassal is dead: nothing will speak of it any more."""
        for some in (self._admissions, self._entering, self._alone, self._let_in):
            some[:] = [one for one in some if one.name != name]
        member = self._members.pop(name, None)
        if member is None:
            return
        self._stale |= member.in_table
        if self.router is not None:
            self.router.detach(name)
        self._catch_up_soon()

    def _catch_up_soon(self) -> None:
        if self._ruling:
            self._changed = True
        elif self._due is None:
            self._due = self.reactor.after(0.0, self._catch_up)

    def _catch_up(self) -> None:
        """Put in force what changed since the last time; what changes meanwhile is the next."""
        self._due = None
        if self._ruling:  # who was refused had somebody else come, and others are being tried
            self._changed = True
            return
        admissions, self._admissions = self._admissions, []
        for one in admissions:
            self._members[one.name] = one.member
        self._enter(admissions, self._caught_up)

    def _caught_up(self, admitted: Sequence[Admission]) -> None:
        if self._changed or self._admissions:
            self._changed = False
            self._catch_up_soon()
        self.words.tell_neighbours()
        told = [one.ready for one in admitted]
        if self._stale:
            self._write(*told)
            return
        for ready in told:
            ready(None)

    def _enter(self, admissions: list[Admission], entered: Entered) -> None:
        """Put the rules in force with all of these among them, or with each that can be."""
        self._ruling, self._entering = True, admissions

        def ruled(problem: DonjonError | None) -> None:
            here, self._entering, self._ruling = self._entering, [], False
            if problem is None:
                entered(here)
            else:
                self._refuse(here, problem, entered)

        self._put_rules(ruled)

    def _refuse(self, admissions: list[Admission], problem: DonjonError, entered: Entered) -> None:
        """The rules were not put in force: of several vassals, try one after the other."""
        self._set_aside()
        for one in reversed(admissions):
            self._put_back(one)
        before = {one.name: one.before for one in reversed(admissions)}
        self._admissions = [
            replace(one, before=before.get(one.name, one.before)) for one in self._admissions
        ]
        if len(admissions) > 1:
            self._alone = admissions
            self._enter_each(entered)
            return
        for one in admissions:
            one.ready(problem)
        if not admissions:
            log.write(f"[emperor] the rules of the router stay as they were: {problem}")
        entered([])

    def _enter_each(self, entered: Entered) -> None:
        """Let one in after the other; ``entered`` is told of all that could be."""
        while self._alone:
            if not self._enter_alone(self._alone.pop(0), entered):
                return
        let_in, self._let_in = self._let_in, []
        entered(let_in)

    def _enter_alone(self, one: Admission, entered: Entered) -> bool:
        """Try one; whether it is known already what became of it, else the others come then."""
        self._set_aside()
        self._members[one.name] = one.member
        known = waits = False

        def tried(found: Sequence[Admission]) -> None:
            nonlocal known
            known = True
            self._let_in += found
            if waits:
                self._enter_each(entered)

        self._enter([one], tried)
        waits = True
        return known

    def _set_aside(self) -> None:
        """Who came meanwhile is not among those that the rules speak of now."""
        for one in reversed(self._admissions):
            self._put_back(one)

    def _put_back(self, one: Admission) -> None:
        if one.before is None:
            self._members.pop(one.name, None)
        else:
            self._members[one.name] = one.before

    def attach(self, name: str, device: Fd, ready: Ready) -> None:
        """Attach the device of a vassal that was admitted; ``ready`` is told why it is not."""
        member = self._members.get(name)
        if member is None:
            ready(DonjonError(f"{name} was let go meanwhile"))
        elif self.router is None:
            ready(None)
        else:
            addresses = tuple(str(one) for one in member.addresses)
            try:
                self.router.attach(name, device, addresses, member.limits, ready)
            except DonjonError as error:
                ready(error)

    def counters(self, name: str) -> dict[str, Any] | None:
        """Return what is counted of a vassal, None where it is not attached."""
        try:
            return counted.port(self.router.port(name)) if self.router else None
        except KeyError:
            return None

    def ask_counted(self, done: Callable[[dict[str, Any]], None]) -> None:
        """Tell what the rules and the router's device counted; the router is asked.

        Nothing where there is no router now.
        """
        force = self._force
        if self.router is None or force is None:
            done({})
            return

        def told(found: Counters | DonjonError) -> None:
            if isinstance(found, DonjonError):
                done({})  # the next router counts on
                return
            done(
                {
                    "rules": counted.rules(force, found.rules),
                    "firewall": dict(found.totals),
                    "host": counted.port(found.device),
                }
            )

        self.router.ask_counters(told)

    def reload_rules(self) -> None:
        """Read network-rules again; what is wrong with it changes nothing."""
        before = self.words.own

        def ruled(problem: DonjonError | None) -> None:
            if problem is not None:
                self.words.own = before
                log.write(f"[emperor] network-rules stay as they were: {problem}")
                return
            self.words.tell_neighbours()
            known = {
                *self.known(),
                *(self.neighbours.names() if self.neighbours else ()),
            }
            for name in names_in(self.words.own, NameKind.VASSAL):
                if name.text not in known:
                    log.write(f"[emperor] {name.origin}: no vassal is called {name.text!r} now")

        try:
            self.words.read_own()
        except DonjonError as error:
            ruled(error)
        else:
            self._put_rules(ruled)

    # -- rules

    def _put_rules(self, done: Ready) -> None:
        """Compile, and ask the router to obey; ``done`` may be called at once."""
        router = self.router
        if router is None:
            done(None)
            return
        try:
            force = self.words.in_force()
        except DonjonError as error:
            done(error)
            return

        def ruled(problem: DonjonError | None) -> None:
            if problem is None:
                self._put_in_force(router, force)
                self._tell_names()
            done(problem)

        router.rules(force.compiled.table, ruled)

    def _put_in_force(self, router: Router, force: InForce) -> None:
        self._force = force
        router.labels = notes.labels(force.compiled)

    def _tell_names(self) -> None:
        """Have the resolver know what there is now."""
        if self.resolver is None:
            return
        from donjon.emperor import names  # noqa: PLC0415  (as above)

        upstreams = names.upstreams_of(self.spec.network_dns, self.pool.routers)
        self.resolver.tell(names.book_of(self._members, self.pool.networks, upstreams))

    # -- vassals of other hosts

    def join(self, neighbours: Neighbours) -> None:
        """Be one network with other hosts, once there is a router."""
        self.words.neighbours = neighbours
        neighbours.changed = self._put_rules

    # -- the host's table

    def write_table(self) -> None:
        """Put the host's table in force again."""
        self._write()

    def _write(self, *waiting: Ready) -> None:
        """Put the table in force; who asks while one is being written is in the next."""
        self._unwritten += waiting or (_tell_table,)
        if not self._writing:
            self._write_next()

    def _write_next(self) -> None:
        waiting, self._unwritten = self._unwritten, []
        self._writing, self._stale = True, False

        def made(found: list[Fd] | DonjonError) -> None:
            self._writing = False
            if self._unwritten:
                self._write_next()
            for ready in waiting:
                ready(found if isinstance(found, DonjonError) else None)

        self.makers.make(self.words.table(self.record), made)

    def _who_answers(self) -> nat.Resolver | None:
        """Return what the table has of the resolver. Raises DonjonError."""
        words = self.spec.network_dns
        if not words:
            return None
        from donjon.emperor import names  # noqa: PLC0415  (as above)

        return names.in_table(words, self.pool.routers, self.spec.network_device)


def _tell_table(problem: DonjonError | None) -> None:
    if problem is not None:
        log.write(f"[emperor] the host's table stays as it was: {problem}")
