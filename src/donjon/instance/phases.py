"""What happens at each moment of one instance: the hooks of a phase, and the drop of privileges.

The plan made at the start serves as long as the process lives: a reload keeps the jail, so only
the hooks of a new configuration are taken over. ``drop`` acts once in a process; which of its five
points counts is the configuration's choice. A worker forked from a master that kept its rights
drops on its own account.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from donjon import log
from donjon.config.spec import Launch
from donjon.errors import HookError
from donjon.hooks import alarms, runner
from donjon.hooks.action import ActionError, Facts
from donjon.hooks.runner import HookStep
from donjon.hooks.spec import Hook, Kind
from donjon.instance import envdir, guard
from donjon.jail import plan as jail_plan
from donjon.jail.phase import ORDER, Phase
from donjon.jail.plan import Plan
from donjon.jail.spec import JailSpec
from donjon.jail.step import Context
from donjon.server.phases import DropPoint
from donjon.server.spec import TouchHook

PRIVILEGE = (Phase.POST_JAIL, Phase.ROOT, Phase.AS_ROOT, Phase.DROP, Phase.AS_USER)
"""The privilege phase (uwsgi-facts 2.2), in order."""


class InstancePhases:
    """``donjon.server.phases.Phases`` of one configuration.

    ``hooks`` are its steps, ``plan`` is that of the first start; ``plain`` is the same without
    hooks, for a master that drops its rights after its generation did.
    """

    def __init__(
        self, launch: Launch, context: Context, hooks: Sequence[HookStep], plan: Plan, plain: Plan
    ) -> None:
        """Understand what is left of ``launch``. Raises HookError."""
        facts = facts_of(launch)
        self._facts = facts
        self._context = context
        self._plan = plan
        self._plain = plain
        self._hooks = hooks
        self._touch = {hook: _touch_step(hook, facts) for hook in launch.server.touch_hooks}
        self._point = drop_point(launch.jail)
        self._server = launch.server
        self._starter = os.getpid()
        self._dropped = False

    def run(self, phase: Phase) -> None:
        """Run the hooks of ``phase``. Raises HookError where the phase is fatal.

        On a reload, ``envdir`` is read again after the asap hooks, as it was at the start.
        """
        for step in self._hooks:
            if step.phase is phase:
                step.execute(self._context)
        if phase is Phase.ASAP:
            envdir.apply(self._server.envdirs, self._server.origins.get("envdirs"))

    def enter(self, *phases: Phase) -> None:
        """Run hooks and built-in steps of phases of a first start. Raises JailError, HookError."""
        self._carry_out(self._plan, phases)

    def _carry_out(self, plan: Plan, phases: Iterable[Phase]) -> None:
        """Run a plan, importing nothing while we have privileges in a root that is not ours."""
        new_root = self._facts.new_root
        for phase in phases:
            exposed = new_root and ORDER[new_root] <= ORDER[phase] <= ORDER[Phase.DROP]
            with guard.no_imports() if exposed else contextlib.nullcontext():
                plan.run(self._context, (phase,))

    def drop(self, point: DropPoint) -> None:
        """Run the privilege phase if this is the point and it has not run in this process."""
        if self._dropped or point is not self._point:
            return
        self._dropped = True
        again = point is DropPoint.APPS and self._server.master and os.getpid() == self._starter
        self._carry_out(self._plain if again else self._plan, PRIVILEGE)

    def touch(self, hook: TouchHook) -> None:
        """Run the action of a touched file; the step logs its failure."""
        self._touch[hook].execute(self._context)

    def alarm(self, name: str, message: str) -> None:
        """Ring an alarm; that nobody hears it is logged."""
        try:
            alarms.ring(self._facts.alarms, name, message)
        except (ActionError, OSError) as error:
            log.write(f"cannot ring the alarm {name}: {error}")

    def reloaded(self, launch: Launch) -> InstancePhases:
        """Return the phases of a configuration read again, in the same jail."""
        context = replace(self._context, reload=True)
        new = InstancePhases(
            launch, context, steps_of(launch, root=_is_root()), self._plan, self._plain
        )
        new._point = self._point
        new._starter = self._starter
        new._dropped = self._dropped
        return new


def first(launch: Launch, context: Context) -> InstancePhases:
    """Plan a first start. Raises JailError and HookError for all that can be known before."""
    hooks = steps_of(launch, root=_is_root())
    plan = _build(launch.jail, hooks, context)
    late = drop_point(launch.jail) is DropPoint.APPS
    return InstancePhases(
        launch, context, hooks, plan, _build(launch.jail, (), context) if late else plan
    )


def steps_of(launch: Launch, *, root: bool) -> tuple[HookStep, ...]:
    """Return the steps of the hooks that a start has, as root or not. Raises HookError."""
    return tuple(runner.steps(_wanted(launch, root=root), facts_of(launch)))


def _is_root() -> bool:
    return os.geteuid() == 0


def _build(jail: JailSpec, steps: Sequence[HookStep], context: Context) -> Plan:
    return jail_plan.build(jail, steps, born_in=context.born_in, root=_is_root())


def drop_point(jail: JailSpec) -> DropPoint:
    """Return where privileges are dropped: the latest that was asked for (uwsgi-facts 2.1)."""
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
    return Phase.ROOT if jail.rootfs or jail.chroot or jail.pivot_root else None


def _wanted(launch: Launch, *, root: bool) -> Iterable[Hook]:
    """Leave out the hooks of phases that this start does not have (uwsgi-facts 2.2)."""
    jail = launch.jail
    walls = jail.unshare or jail.jailed or jail.rootfs or jail.binds or jail.tmpfs
    absent = set()
    if not root:
        absent = {Phase.POST_JAIL, Phase.AS_ROOT, Phase.AS_USER}
    elif not (walls or jail.namespace):
        absent = {Phase.POST_JAIL}
    return [hook for hook in launch.hooks if hook.phase not in absent]


def _touch_step(hook: TouchHook, facts: Facts) -> HookStep:
    return runner.step(Hook(Phase.TOUCH, Kind.HOOK, hook.action, hook.origin), facts)
