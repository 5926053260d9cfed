"""From what was asked to the ordered steps of a start (uwsgi-facts 2.1 and 2.2).

A Plan is made before the process it is for, shown without being run (``donjon plan``), and run
phase by phase. Inside a phase the jail's own steps stand around the hooks:

- as-vassal: root of the user namespace, private mounts, bounding set; hooks
- pre-jail: hooks; the program that replaces us as root
- jail: cgroup, old-style namespace
- in-jail: hooks
- post-jail: unshare, private mounts, host name; hooks; refork-post-jail
- root: rootfs, tmpfs, binds, chroot, pivot_root, unshare2, refork-as-root
- as-root: wait-for-*; hooks
- drop: max-fd, priority, bounding set, ids, capabilities, no_new_privs, refork
- as-user: hooks; the program that replaces us as the user
- limits: wait-for-socket, nproc, address space
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from donjon import log
from donjon.errors import DonjonError, JailError, reason_of
from donjon.jail import (
    asked,
    freebsd,
    hostview,
    layers,
    oldmounts,
    proc,
    runtime,
    users,
)
from donjon.jail.interpreter import library
from donjon.jail.namespaces import clone_flags, implied_words, late_words
from donjon.jail.phase import NEVER_FATAL, ON_RELOAD, Phase
from donjon.jail.spec import JailSpec
from donjon.jail.step import Context, Step
from donjon.records import dataclass

_PHASES = tuple(Phase)

__all__ = ["Plan", "build", "clone_flags", "implied_words", "late_words", "warm"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a start, in the order in which they are executed."""

    steps: tuple[Step, ...]

    def describe(self) -> list[str]:
        """Return one line a step: phase, what it does, who asked for it."""
        return [f"{step.phase.value}: {step.describe()} [{step.origin}]" for step in self.steps]

    def to_json(self) -> list[dict[str, object]]:
        """Return the steps as values for json.dumps()."""
        return [
            {
                "phase": step.phase.value,
                "description": step.describe(),
                "origin": {
                    "source": step.origin.source,
                    "line": step.origin.line,
                    "option": step.origin.option,
                },
            }
            for step in self.steps
        ]

    def run(self, context: Context, phases: Iterable[Phase]) -> None:
        """Execute the steps of ``phases``, in the plan's order.

        Raises the DonjonError of the first step that fails, with its origin. In the phases in
        which nothing is fatal (uwsgi-facts 2.3) it is logged, and the next step follows.
        """
        wanted = frozenset(phases)
        for step in self.steps:
            if step.phase not in wanted:
                continue
            try:
                _execute(step, context)
            except DonjonError as error:
                if step.phase not in NEVER_FATAL:
                    raise
                log.write(f"donjon: {error}")


def _execute(step: Step, context: Context) -> None:
    """Execute a step; whatever the kernel said becomes one line that names who asked."""
    if log.debugging():
        log.debug(f"{step.phase.value}: {step.describe()} [{step.origin}]")
    try:
        step.execute(context)
    except DonjonError as error:
        if error.origin is None:
            error.origin = step.origin
        raise
    except OSError as error:
        names = [str(name) for name in (error.filename, error.filename2) if name]
        where = f"{' -> '.join(names)}: " if names else ""
        raise JailError(
            f"cannot {step.describe()}", origin=step.origin, reason=where + reason_of(error)
        ) from error


def build(
    spec: JailSpec,
    hooks: Sequence[Step] = (),
    *,
    born_in: frozenset[str] = frozenset(),
    root: bool,
    reload: bool = False,
) -> Plan:
    """Return the plan for ``spec``. Raises JailError for what is known before it runs.

    ``born_in`` are the namespaces in which clone3 makes the process, ``root`` is whether it starts
    as uid 0. With ``reload`` only the hooks of the phases that run again are in the plan
    (uwsgi-facts 2.2).
    """
    if reload:
        return Plan(_ordered({}, [step for step in hooks if step.phase in ON_RELOAD], {}))
    if freebsd.is_here():
        from donjon.jail import freebsd_plan  # noqa: PLC0415  (for nobody else)

        there = freebsd_plan.understand(spec, hooks, root=root)
        before, after = freebsd_plan.before_hooks(there), freebsd_plan.after_hooks(there)
        return Plan(_ordered(before, there.hooks, after))
    wish = asked.understand(spec, hooks, born_in=born_in, root=root)
    return Plan(_ordered(layers.before_hooks(wish), wish.hooks, layers.after_hooks(wish)))


def _ordered(
    before: dict[Phase, list[Step]], hooks: Sequence[Step], after: dict[Phase, list[Step]]
) -> tuple[Step, ...]:
    written: dict[Phase, list[Step]] = {}
    for step in hooks:
        written.setdefault(step.phase, []).append(step)
    steps: list[Step] = []
    for phase in _PHASES:
        for part in (before, written, after):
            steps += part.get(phase, ())
    return tuple(steps)


def warm() -> None:
    """Look up what every plan asks of this host, once: a zygote calls it before it forks."""
    hostview.host_root()
    library()
    proc.names_present()
    oldmounts.lacking()
    runtime.parts()
    users.warm()
