"""What happens when, in one start of one Launch: the plan of its jail and its hooks, understood.

Everything that can be refused before a start is refused while the outline is made. It is a value:
an Emperor makes it once, and sends it to the vassal, which only carries it out.
"""

from __future__ import annotations

from donjon.config.spec import Launch
from donjon.errors import HookError
from donjon.hooks import alarms, runner
from donjon.hooks.action import Facts
from donjon.hooks.runner import HookStep
from donjon.hooks.spec import Hook, Kind
from donjon.jail import plan as jail_plan
from donjon.jail.cgroups import EnterCgroup
from donjon.jail.phase import Phase
from donjon.jail.plan import Plan
from donjon.jail.spec import JailSpec
from donjon.jail.step import Step
from donjon.records import dataclass, replace
from donjon.server.phases import DropPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """``plan`` has the jail's steps and the hooks of the start, ``plain`` the jail's alone.

    ``plain`` is None where nobody needs it: it is for a master that drops its privileges after its
    generation did. ``hooks`` has the hooks of all phases, ``touch`` those of touched files.
    """

    plan: Plan
    plain: Plan | None
    hooks: tuple[HookStep, ...]
    touch: tuple[HookStep, ...]
    facts: Facts

    def in_cgroups(self) -> Outline:
        """Return the same for a process that is born in its control groups."""
        plain = self.plain and _without_cgroups(self.plain)
        return replace(self, plan=_without_cgroups(self.plan), plain=plain)


def _without_cgroups(plan: Plan) -> Plan:
    return Plan(tuple(step for step in plan.steps if not isinstance(step, EnterCgroup)))


def outline(launch: Launch, *, root: bool, born_in: frozenset[str] = frozenset()) -> Outline:
    """Understand a start. Raises JailError and HookError, with the line that is to blame.

    ``root`` is whether it starts as uid 0, ``born_in`` the namespaces in which clone3 makes it.
    """
    jail = launch.jail
    root = root and jail.immediate_uid is None
    facts = facts_of(launch)
    hooks = _hook_steps(launch, facts, root=root)
    tunnels = _tunnel_steps(launch, root=root)
    late = drop_point(jail) is DropPoint.APPS
    return Outline(
        plan=jail_plan.build(jail, (*tunnels, *hooks), born_in=born_in, root=root),
        plain=jail_plan.build(jail, (), born_in=born_in, root=root) if late else None,
        hooks=hooks,
        touch=touch_steps(launch, facts),
        facts=facts,
    )


def drop_point(jail: JailSpec) -> DropPoint:
    """Return where privileges are dropped: the latest that was asked for (uwsgi-facts 2.1)."""
    if jail.drop_first:
        return DropPoint.START
    if jail.master_as_root:
        return DropPoint.WORKER
    if jail.drop_after_apps:
        return DropPoint.APPS
    if jail.drop_after_init:
        return DropPoint.INIT
    return DropPoint.SOCKETS if jail.chown_socket else DropPoint.START


def facts_of(launch: Launch) -> Facts:
    """Collect what hooks must know. Raises HookError for an alarm that cannot be rung."""
    jail = launch.jail
    for alarm in launch.server.alarms:
        try:
            alarms.check(alarm.target)
        except ValueError as error:
            raise HookError(
                f"bad alarm {alarm.name}", origin=alarm.origin, reason=str(error)
            ) from error
    known = {alarm.name for alarm in launch.server.alarms}
    for watch in launch.server.fd_watches:
        if watch.alarm and watch.alarm not in known:
            raise HookError(
                f"no alarm is called {watch.alarm}",
                origin=watch.origin,
                hint=f"alarm = {watch.alarm} log: makes one",
            )
    return Facts(
        wait_for_fs_timeout=jail.wait_for_fs_timeout,
        wait_for_socket_timeout=jail.wait_for_socket_timeout,
        alarms={alarm.name: alarm.target for alarm in launch.server.alarms},
        new_root=_new_root(jail),
    )


def _new_root(jail: JailSpec) -> Phase | None:
    """Return the phase in which the root file system becomes the jail's."""
    if jail.namespace:
        return Phase.JAIL
    if jail.in_freebsd_jail:
        return Phase.POST_JAIL
    return Phase.ROOT if jail.rootfs or jail.chroot or jail.pivot_root else None


def steps_of(launch: Launch, *, root: bool) -> tuple[HookStep, ...]:
    """Return the steps of the hooks that a start has, as root or not. Raises HookError.

    Without root there is no privilege phase, without a jail no post-jail (uwsgi-facts 2.2).
    """
    return _hook_steps(launch, facts_of(launch), root=root)


def _hook_steps(launch: Launch, facts: Facts, *, root: bool) -> tuple[HookStep, ...]:
    jail = launch.jail
    absent: set[Phase] = set()
    if not root:
        absent = {Phase.POST_JAIL, Phase.AS_ROOT, Phase.AS_USER}
    elif not _has_post_jail(jail):
        absent = {Phase.POST_JAIL}
    hooks = [hook for hook in launch.hooks if hook.phase not in absent]
    return tuple(runner.steps(hooks, facts))


def _has_post_jail(jail: JailSpec) -> bool:
    covers = jail.mask_paths or jail.readonly_paths
    walls = jail.unshare or jail.jailed or jail.rootfs or jail.binds or jail.tmpfs or covers
    return bool(walls or jail.namespace or jail.in_freebsd_jail)


def _tunnel_steps(launch: Launch, *, root: bool) -> tuple[Step, ...]:
    if not launch.server.tuntap_devices:
        return ()
    from donjon.config import tunnels  # noqa: PLC0415  (for who has a device alone)

    return tunnels.steps_of(launch.server, jailed=root and _has_post_jail(launch.jail))


def touch_steps(launch: Launch, facts: Facts) -> tuple[HookStep, ...]:
    """Return the steps of ``hook-touch``, in the order of the Launch. Raises HookError."""
    return tuple(
        runner.step(Hook(Phase.TOUCH, Kind.HOOK, touch.action, touch.origin), facts)
        for touch in launch.server.touch_hooks
    )
