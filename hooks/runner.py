"""From hooks to steps: syntax is checked here, a step announces itself and runs.

Inside one phase the families run in the order of ``Kind``, and inside a family in the order
written.
"""

from __future__ import annotations

from collections.abc import Iterable

from donjon import log
from donjon.errors import HookError, reason_of
from donjon.hooks.action import ActionError, Facts, Scene, Words, expand
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import NEVER_FATAL, ORDER, Phase
from donjon.jail.step import Context
from donjon.origin import Origin
from donjon.records import dataclass

_KIND_ORDER = {kind: index for index, kind in enumerate(Kind)}
_CALLS = {Kind.CALL: 0, Kind.CALL1: 1, Kind.CALL2: 2, Kind.CALL3: 3, Kind.CALL4: 4}
_FIXED = {Kind.MOUNT: "mount", Kind.UMOUNT: "umount", Kind.EXEC: "exec"}
_VERBS = {Kind.MOUNT: "mounting", Kind.UMOUNT: "un-mounting", **dict.fromkeys(_CALLS, "calling")}


@dataclass(frozen=True, slots=True)
class HookStep:
    """One hook, understood. ``private`` keeps its text out of logs, errors and plans."""

    phase: Phase
    kind: Kind
    text: str
    origin: Origin
    action: str
    args: Words
    facts: Facts
    private: bool = False

    def describe(self) -> str:
        """Say what will be run."""
        what = "private hook" if self.private else self.text
        return f"{self.kind.value}: {what}"

    @property
    def fatal(self) -> bool:
        """Whether a failure ends what is being done (uwsgi-facts 2.2, 2.3)."""
        harmless_call = self.kind is Kind.CALL and self.phase is Phase.AS_ROOT
        return not harmless_call and self.phase not in NEVER_FATAL

    def execute(self, context: Context) -> None:
        """Announce and run. Raises HookError, or SystemExit for the action ``exit``."""
        if not self.private:
            verb = _VERBS.get(self.kind, "running")
            log.write(f'{verb} "{self.text}" ({self.phase.value})...')
        try:
            self._run(Scene(self.phase, self.facts, context))
        except (OSError, ActionError) as error:
            failure = self._failure(error)
            if self.fatal:
                raise failure from error
            log.write(str(failure))

    def _run(self, scene: Scene) -> None:
        from donjon.hooks import calls  # noqa: PLC0415  (with the first hook; most have none)
        from donjon.hooks.actions import ACTIONS  # noqa: PLC0415  (the same)

        if self.kind in _CALLS:
            calls.call_with_vassal(self.args[0], _CALLS[self.kind], scene)
            return
        action = ACTIONS[self.action]
        args = self.args
        if action.expands:
            args = tuple(expand(word, scene) for word in args)
        action.run(args, scene)

    def _failure(self, error: OSError | ActionError) -> HookError:
        reason = str(error)
        if isinstance(error, OSError):
            named = [str(path) for path in (error.filename, error.filename2) if path is not None]
            where = f"{' -> '.join(named)}: " if named and not self.private else ""
            reason = where + reason_of(error)
        what = "private hook" if self.private else f'"{self.text}"'
        return HookError(f"{what} failed ({self.phase.value})", origin=self.origin, reason=reason)


def steps(hooks: Iterable[Hook], facts: Facts | None = None) -> list[HookStep]:
    """Understand hooks. Raises HookError, with the origin, for what cannot be understood."""
    known = facts or Facts()
    ordered = sorted(hooks, key=lambda hook: (ORDER[hook.phase], _KIND_ORDER[hook.kind]))
    return [step(hook, known) for hook in ordered]


def step(hook: Hook, facts: Facts) -> HookStep:
    """Understand one hook. Raises HookError."""
    private = hook.kind is Kind.HOOK and hook.text.startswith("!")
    text = hook.text[1:] if private else hook.text
    if hook.kind in _CALLS:
        return HookStep(hook.phase, hook.kind, text, hook.origin, "call", (text.strip(),), facts)
    action, args = _parse(hook, text)
    return HookStep(hook.phase, hook.kind, text, hook.origin, action, args, facts, private)


def _parse(hook: Hook, text: str) -> tuple[str, Words]:
    from donjon.hooks.actions import ACTIONS, suggest  # noqa: PLC0415  (with the first hook)

    name, arguments = _split(hook, text)
    row = ACTIONS.get(name)
    if row is None:
        near = suggest(name)
        hint = f"did you mean {near}?" if near else "docs/hooks.md lists them"
        raise HookError(f"unknown hook action {name}", origin=hook.origin, hint=hint)
    try:
        return name, row.parse(arguments)
    except ValueError as error:
        hint = f"write {row.name}:{row.usage}"
        raise HookError(f"bad {name}", origin=hook.origin, reason=str(error), hint=hint) from error


def _split(hook: Hook, text: str) -> tuple[str, str]:
    if hook.kind in _FIXED:
        return _FIXED[hook.kind], text
    name, colon, arguments = text.partition(":")
    if not colon:
        raise HookError(
            f'hook "{name}" has no colon', origin=hook.origin, hint="a hook is ACTION:ARGUMENTS"
        )
    return name.strip(), arguments
