"""What happens at each moment of one instance: the hooks of a phase, and the drop of privileges.

The plan made at the start serves as long as the process lives: a reload keeps the jail, so only
the hooks of a new configuration are taken over. ``drop`` acts once in a process; which of its five
points counts is the configuration's choice. A worker forked from a master that kept its rights
drops on its own account.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from donjon import log
from donjon.config.outline import Outline, drop_point, facts_of, steps_of, touch_steps
from donjon.config.spec import Launch
from donjon.hooks import alarms
from donjon.hooks.action import ActionError
from donjon.instance import envdir, guard
from donjon.jail.phase import ORDER, Phase
from donjon.jail.plan import Plan
from donjon.jail.step import Context
from donjon.records import replace
from donjon.server.phases import DropPoint
from donjon.server.spec import TouchHook

PRIVILEGE = (Phase.POST_JAIL, Phase.ROOT, Phase.AS_ROOT, Phase.DROP, Phase.AS_USER)
"""The privilege phase (uwsgi-facts 2.2), in order."""

BUILDING = PRIVILEGE[:3]
"""What of it makes the jail."""


class InstancePhases:
    """``donjon.server.phases.Phases`` of one configuration."""

    def __init__(self, launch: Launch, outline: Outline, context: Context) -> None:
        """Carry out ``outline``, which was made of ``launch``."""
        self._outline = outline
        self._context = context
        self._touch = dict(zip(launch.server.touch_hooks, outline.touch, strict=True))
        self._point = drop_point(launch.jail)
        self._server = launch.server
        self._starter = os.getpid()
        self._dropped = False
        self._privilege: tuple[Phase, ...] = PRIVILEGE
        self._done = 0

    def have_done(self, steps: int) -> None:
        """Leave out so many steps of the privilege phase, which were done already."""
        self._done = steps

    def build(self) -> None:
        """Put the jail together, and drop nothing: for a process beside that which lives in it."""
        self._carry_out(self._outline.plan, BUILDING)

    def run(self, phase: Phase) -> None:
        """Run the hooks of ``phase``. Raises HookError where the phase is fatal.

        On a reload, ``envdir`` is read again after the asap hooks, as it was at the start.
        """
        for step in self._outline.hooks:
            if step.phase is phase:
                step.execute(self._context)
        if phase is Phase.ASAP:
            envdir.apply(self._server.envdirs, self._server.origins.get("envdirs"))

    def enter(self, *phases: Phase) -> None:
        """Run hooks and built-in steps of phases of a first start. Raises JailError, HookError."""
        self._carry_out(self._outline.plan, phases)

    def _carry_out(self, plan: Plan, phases: Iterable[Phase]) -> None:
        """Run a plan, importing nothing while we have privileges in a root that is not ours."""
        new_root = self._outline.facts.new_root
        for phase in phases:
            left = self._without_done(plan, phase) if phase in PRIVILEGE else plan
            exposed = new_root and ORDER[new_root] <= ORDER[phase] <= ORDER[Phase.DROP]
            with guard.no_imports() if exposed else contextlib.nullcontext():
                left.run(self._context, (phase,))

    def _without_done(self, plan: Plan, phase: Phase) -> Plan:
        """Return what is left of ``phase`` in ``plan``, without the steps that were done already.

        Phases are asked for in order: what was done is the first steps of all.
        """
        if not self._done:
            return plan
        steps = [step for step in plan.steps if step.phase is phase]
        left = steps[self._done :]
        self._done -= len(steps) - len(left)
        return Plan(tuple(left))

    def wall_in(self) -> None:
        """Make the jail and drop privileges before anything that a customer's file asks for.

        Its hooks, files, sockets and variables are then those of its owner, in the jail. Only the
        as-user hooks are left for ``drop``.
        """
        self._carry_out(self._outline.plan, (Phase.JAIL, *PRIVILEGE[:-1]))
        self._privilege = PRIVILEGE[-1:]

    def drop(self, point: DropPoint) -> None:
        """Run the privilege phase if this is the point and it has not run in this process."""
        if self._dropped or point is not self._point:
            return
        self._dropped = True
        plan = self._outline.plan
        in_master = self._server.master and os.getpid() == self._starter
        if self._outline.plain is not None and in_master:
            plan = self._outline.plain  # the generation ran the hooks
        self._carry_out(plan, self._privilege)

    def touch(self, hook: TouchHook) -> None:
        """Run the action of a touched file; the step logs its failure."""
        self._touch[hook].execute(self._context)

    def alarm(self, name: str, message: str) -> None:
        """Ring an alarm; that nobody hears it is logged."""
        try:
            alarms.ring(self._outline.facts.alarms, name, message)
        except (ActionError, OSError) as error:
            log.write(f"cannot ring the alarm {name}: {error}")

    def reloaded(self, launch: Launch) -> InstancePhases:
        """Return the phases of a configuration read again, in the same jail. Raises HookError."""
        facts = facts_of(launch)
        outline = replace(
            self._outline,
            hooks=steps_of(launch, root=os.geteuid() == 0),
            touch=touch_steps(launch, facts),
            facts=facts,
        )
        new = InstancePhases(launch, outline, replace(self._context, reload=True))
        new._point = self._point
        new._starter = self._starter
        new._dropped = self._dropped
        return new
