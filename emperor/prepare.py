"""From a vassal's file to everything its birth needs: command line, environment, Launch and Plan.

All of it happens before clone3, so that what is wrong is one line in the Emperor's log and nothing
was made yet. The options stand in the order of the original's command line (uwsgi-facts 1.4), so
that ``--vassals-include-before`` and ``--vassal-set`` come before the file, and
``--vassals-include`` after it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from donjon import log
from donjon.config import launch as launches
from donjon.config.entry import Entry
from donjon.config.evaluation import Evaluation
from donjon.config.hosting import HostingPlan
from donjon.config.outline import Outline, outline
from donjon.config.reader import split_target
from donjon.config.spec import EmperorSpec, Launch
from donjon.emperor import exposure
from donjon.emperor import plans as plans_of
from donjon.emperor.birth import EMPEROR_FD
from donjon.emperor.live import LIVE_LIMITS
from donjon.emperor.plans import Plans, is_named
from donjon.emperor.scanner import ZERG_SUFFIX, Found, format_of
from donjon.errors import ConfigError, JailError
from donjon.hooks.spec import Hook
from donjon.jail import idgrant, netgrant, userns, users
from donjon.jail import plan as plans
from donjon.jail.cgroups import EnterCgroup
from donjon.jail.confinement import needs_rights
from donjon.jail.idmap import IdMap
from donjon.jail.limits import Limit
from donjon.jail.phase import ON_RELOAD, ORDER, Phase
from donjon.jail.spec import JailSpec, WaitFor
from donjon.jail.step import Step
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field, replace
from donjon.server.spec import ServerSpec

NOT_PASSED_ON = (
    "UWSGI_RELOADS",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "UWSGI_EMPEROR_FD",
    "UWSGI_EMPEROR_FD_CONFIG",
)
VASSAL_PREFIX = "UWSGI_VASSAL_"
NO_START = frozenset(
    ("exit", "help", "version", "dump-options", "get", "stop", "reload", "pause", "resume")
)
"""Actions of a configuration that end the program instead of starting it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A configuration, read and understood, and the jail that follows from it."""

    launch: Launch
    argv: tuple[str, ...]
    clone_words: frozenset[str]
    clone_flags: int
    walls: tuple[str, ...]  # the plan, without what can be changed while it runs
    outline: Outline
    uid: int | None = None  # taken at birth, before anything of the vassal's runs
    gid: int | None = None
    ids: IdMap | None = None  # of the user namespace in which it is born
    bare: JailSpec = field(default_factory=JailSpec)  # without its hosting plan
    hosting: HostingPlan | None = None
    plans: Plans | None = None  # of which its hosting plan is one

    @property
    def is_foreign(self) -> bool:
        """Whether another program replaces ours, which then does all its reloading itself."""
        jail = self.launch.jail
        return jail.privileged_exec is not None or jail.unprivileged_exec is not None

    @property
    def plan(self) -> tuple[str, ...]:
        """The steps that make the jail, in words, but those that run again at a reload."""
        last = ORDER[Phase.LIMITS]
        return tuple(
            f"{step.phase.value}: {step.describe()}"
            for step in self.outline.plan.steps
            if ORDER[step.phase] <= last and step.phase not in ON_RELOAD
        )

    def jail_key(self) -> tuple[object, ...]:
        """What must be equal for a running jail to go on with a new configuration."""
        terminals = self.launch.server.terminals
        return (
            self.clone_words,
            self.walls,
            self.ids,
            *(getattr(self.bare, field) for field in LIVE_LIMITS.values()),
            self.uid,
            self.gid,
            self.launch.spawn,
            _routers_rules(self.launch.server),
            terminals is not None,  # its modules come before the walls
            terminals is not None and terminals.tls_cert is not None,
            self.launch.server.pty is not None,  # and so do these
            self.launch.server.pyshell is not None,
            self.is_foreign,
        )


def _options(*groups: tuple[str, Sequence[str]]) -> tuple[str, ...]:
    """Return words of a command line: each option before each of its values."""
    return tuple(word for option, values in groups for value in values for word in (option, value))


def _runnable(name: str) -> str:
    """The shell looks bare names up in PATH, where a vassal's file is not (uwsgi-facts 9)."""
    return name if "/" in name else f"./{name}"


def vassal_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a vassal's environment: the Emperor's, with UWSGI_VASSAL_X as UWSGI_X."""
    environ = dict(environ)  # os.environ decodes at every look
    result = {key: value for key, value in environ.items() if key not in NOT_PASSED_ON}
    for key, value in environ.items():
        if key.startswith(VASSAL_PREFIX):
            del result[key]
            result["UWSGI_" + key.removeprefix(VASSAL_PREFIX)] = value
    result["UWSGI_EMPEROR_FD"] = str(EMPEROR_FD)
    result.pop("UWSGI_BROODLORD_NUM", None)
    return result


def operator_sources(spec: EmperorSpec) -> frozenset[str]:
    """Return the sources of entries that are the operator's own.

    A file of which one section is taken is named without that section in an origin.
    """
    files = (
        *spec.vassals_inherit_before,
        *spec.vassals_include_before,
        *spec.vassals_inherit,
        *spec.vassals_include,
    )
    whole = (split_target(name).name for name in files)
    return frozenset({"command line", "environment", *files, *whole}) - {""}


class Preparer:
    """Makes a Reading of the evaluated options of a vassal."""

    def __init__(
        self, spec: EmperorSpec, argv0: Sequence[str], hooks: Sequence[Hook] = ()
    ) -> None:
        self.spec = spec
        self.argv0 = tuple(argv0)
        self.hooks = tuple(hooks)
        self.trusted = operator_sources(spec)
        self.plans = Plans.load(spec)
        self.pool = netgrant.pool_of(
            spec.network_pool, spec.network_ledger, resolves=bool(spec.network_dns)
        )
        self._before_file = _options(
            ("--inherit", spec.vassals_inherit_before),
            ("--include", spec.vassals_include_before),
            ("--set", spec.vassals_set),
        )
        self._after_file = _options(
            ("--inherit", spec.vassals_inherit),
            ("--include", spec.vassals_include),
        )

    def options(self, name: str, found: Found) -> tuple[str, ...]:
        """Return the command line that stands for a vassal, without the program."""
        option = "--" + format_of(name, self.spec.extra_extensions)
        if self.spec.magic_exec and os.access(found.path, os.X_OK):
            name = f"exec://{_runnable(name)}"
        return (*self._before_file, option, name, *self._after_file)

    def argv(self, name: str, found: Found) -> tuple[str, ...]:
        """Return the vassal's command line."""
        return (*self.argv0, *self.options(name, found))

    def understand(
        self, name: str, found: Found, entries: Sequence[Entry], *, origins_hold: bool = True
    ) -> Reading:
        """Build Launch and Plan. Raises DonjonError with the origin of what is wrong.

        ``origins_hold`` is false for what a process of a customer's uid answered: it could claim
        that the operator wrote an option. Nothing in it is the operator's then.
        """
        tyrant = self.spec.tyrant
        launch = launches.build(
            entries,
            argv0=self.argv0[0],
            under_emperor=True,
            customer=tyrant,
            operator_sources=self.trusted if origins_hold else frozenset(),
            owner=(found.uid, found.gid) if tyrant else None,
            born_in=self.spec.use_clone,
        )
        drops_at_birth = tyrant and not needs_root(launch, self.spec.use_clone)
        jail = launch.jail
        if self.spec.cap is not None:
            jail = replace(jail, emperor_cap=self.spec.cap)
        if tyrant and not drops_at_birth:
            jail = replace(
                jail,
                uid=str(found.uid),
                gid=str(found.gid),
                drop_first=True,
                own_limits=self._own_limits(jail, origins_hold=origins_hold),
                wait_for=self._gates(jail, origins_hold=origins_hold),
                keep_root=False,  # a customer's Emperor has a customer's rights
            )
            exposure.check(jail)
        elif tyrant and _asks_for(jail, found.uid, found.gid):
            jail = replace(jail, uid=None, gid=None)
        return self._finish(name, found, launch, jail, drops_at_birth=drops_at_birth)

    def replan(self, name: str, found: Found, reading: Reading) -> Reading:
        """Return a reading as it is with the plans that are defined now. Raises DonjonError."""
        return self._finish(
            name, found, reading.launch, reading.bare, drops_at_birth=reading.uid is not None
        )

    def _finish(
        self, name: str, found: Found, launch: Launch, bare: JailSpec, *, drops_at_birth: bool
    ) -> Reading:
        """Give the jail what its hosting plan says, and understand what follows."""
        bare = self._with_network(self._with_ids(bare, found), name, found)
        plan = self.plans.plan_of(self.spec, name, launch)
        jail = plans_of.furnish(
            bare,
            plan,
            name,
            directory=self.spec.plan_cgroup,
            frosty=_frosty(launch.server),
        )
        server = self._merging(name, launch.server)
        jail = replace(jail, merges=bool(server.ksm))
        launch = replace(launch, jail=jail, server=server)
        words = (jail.clone_flags | plans.implied_words(jail)) - plans.late_words(jail)
        if jail.network is not None:
            words = words - {"net"} | ({"net"} if jail.own_network else set())
        root = os.geteuid() == 0 and not drops_at_birth
        understood = outline(launch, root=root, born_in=words)
        return Reading(
            launch=launch,
            argv=self.argv(name, found),
            clone_words=words,
            clone_flags=plans.clone_flags(words - {"net"} if jail.own_network else words),
            walls=_walls_of(understood),
            outline=understood,
            uid=found.uid if drops_at_birth else None,
            gid=found.gid if drops_at_birth else None,
            ids=userns.map_of(jail, users.resolve(jail)) if "user" in words else None,
            bare=bare,
            hosting=plan,
            plans=self.plans,
        )

    def _with_ids(self, jail: JailSpec, found: Found) -> JailSpec:
        """Give out the ids of ``id-range``: they belong to the file, whatever is in it."""
        return idgrant.settle(
            jail,
            os.path.abspath(found.path),
            path=self.spec.id_range_ledger,
            owner=(found.uid, found.gid) if self.spec.tyrant else None,
        )

    def _with_network(self, jail: JailSpec, name: str, found: Found) -> JailSpec:
        """Give out the addresses of ``network``: they belong to the file, and to each zerg."""
        self._check_network(jail)
        if not jail.own_network:
            return jail
        if os.geteuid() != 0:
            raise JailError(
                f"network = {jail.network} needs root",
                origin=jail.origins.get("network"),
                reason=f"this Emperor has uid {os.geteuid()}",
            )
        owner = os.path.abspath(found.path)
        zerg = ZERG_SUFFIX if name.endswith(ZERG_SUFFIX) else ""
        return netgrant.settle(jail, owner + zerg, self.pool)

    def _check_network(self, jail: JailSpec) -> None:
        """Refuse what only a vassal of the router can have, and what is not understood."""
        for name, asked in (("publish", jail.publish), ("network-allow", jail.network_allow)):
            if asked and jail.network != "tap":
                raise JailError(f"{name} needs network = tap", origin=asked[0].origin)
        if jail.publish and not self.spec.network_nat:
            origin, hint = jail.publish[0].origin, "network-nat = true in the Emperor's file"
            raise JailError("publish needs network-nat", origin=origin, hint=hint)
        if jail.network_allow:
            from donjon.tuntap.rules import policy  # noqa: PLC0415  (few vassals ask)

            for one in jail.network_allow:
                policy.allowance("", one.text, one.origin)

    def _merging(self, name: str, server: ServerSpec) -> ServerSpec:
        """Return the server without ``ksm``, unless the operator trusts this vassal with it."""
        if not server.ksm or is_named(name, self.spec.ksm_trust):
            return server
        log.write(
            f"[emperor] vassal {name}: ksm is off: merged pages tell others what is in them "
            "(ksm-trust names who may share)"
        )
        return replace(server, ksm=0)

    def _own_limits(self, jail: JailSpec, *, origins_hold: bool) -> frozenset[str]:
        """Return the limits that are not the operator's: root's rights do not apply to them."""
        trusted = self.trusted if origins_hold else frozenset()
        return frozenset(
            name
            for name in ("prio", "max_fd")
            if name in jail.origins and not launches.is_operators(jail.origins[name], trusted)
        )

    def _gates(self, jail: JailSpec, *, origins_hold: bool) -> tuple[WaitFor, ...]:
        """Return the gates; with root's eyes a customer could ask what is where on the host."""
        trusted = self.trusted if origins_hold else frozenset()
        return tuple(
            one if launches.is_operators(one.origin, trusted) else replace(one, late=True)
            for one in jail.wait_for
        )


def _walls_of(understood: Outline) -> tuple[str, ...]:
    """Return the jail's steps without values that a running jail can be given: those of its
    control groups and of its limits."""
    last = ORDER[Phase.LIMITS]
    return tuple(
        f"{step.phase.value}: {_wall(step)}"
        for step in understood.plan.steps
        if ORDER[step.phase] <= last and step.phase not in ON_RELOAD and not _is_live(step)
    )


def _is_live(step: Step) -> bool:
    return isinstance(step, Limit) and step.kind in LIVE_LIMITS


def _routers_rules(server: ServerSpec) -> tuple[str, ...]:
    """The rules of a vassal's own TunTap router, which is there as long as the vassal is."""
    if not server.tuntap_routers:
        return ()
    incoming, outgoing = server.tuntap_rules_in, server.tuntap_rules_out
    return (*(text for text, _ in incoming), "", *(text for text, _ in outgoing))


def _wall(step: Step) -> str:
    return step.walls() if isinstance(step, EnterCgroup) else step.describe()


def _frosty(server: ServerSpec) -> Origin | None:
    """Return who asked for ``idle-freeze``; without root there are no groups to freeze."""
    if not server.idle_freeze or os.geteuid() != 0:
        return None
    return server.origins.get("idle_freeze", DEFAULT)


def _asks_for(jail: JailSpec, uid: int, gid: int) -> bool:
    """Whether the ids a tyrant's vassal asks for, if any, are those it is given anyway."""
    identity = users.resolve(jail)
    return identity.uid in (None, uid) and (jail.gid is None or identity.gid == gid)


def needs_root(launch: Launch, use_clone: frozenset[str] = frozenset()) -> bool:
    """Whether the operator asked for a jail that only root can build."""
    jail = launch.jail
    return bool(
        "user" in use_clone or jail.id_range or jail.time_offsets or
        jail.rootfs or jail.binds or jail.tmpfs or jail.chroot or jail.pivot_root or jail.cgroups
        or jail.hostname or jail.unshare or jail.unshare2 or jail.namespace or jail.setns
        or jail.privileged_exec or needs_rights(jail) or jail.mask_paths
        or jail.readonly_paths or jail.in_freebsd_jail
    )  # fmt: skip


def entries_to_run(name: str, evaluation: Evaluation) -> tuple[Entry, ...]:
    """Return the options of a vassal's configuration.

    Raises ConfigError where it asks for something else than to run: what was read up to an
    ``exit`` is not what its author meant to start.
    """
    for action in evaluation.actions:
        if action.kind in NO_START:
            raise ConfigError(
                f"{name} asks to {action.kind}",
                origin=action.origin,
                reason="a vassal's file can only be run",
                hint="remove this line",
            )
    return tuple(evaluation.entries)


def entries_from_json(rows: Sequence[Sequence[object]]) -> tuple[Entry, ...]:
    """Make entries of an evaluator's answer, which may come from a customer's uid."""
    entries = []
    for row in rows:
        key, value, source, line, option = row
        if not (isinstance(key, str) and isinstance(value, str | None) and isinstance(line, int)):
            raise ConfigError("the evaluator answered with something else than options")
        entries.append(Entry(key, value, Origin(str(source), line, str(option))))
    return tuple(entries)


def entries_to_json(entries: Sequence[Entry]) -> list[list[object]]:
    """The opposite of ``entries_from_json``."""
    return [
        [entry.key, entry.value, entry.origin.source, entry.origin.line, entry.origin.option]
        for entry in entries
    ]
