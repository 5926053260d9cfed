"""Hooks: what runs at a phase, in five families (uwsgi-facts 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Option
from donjon.config.options.rows import make, unbuilt
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import Phase
from donjon.origin import Origin
from donjon.server.spec import TouchHook

if TYPE_CHECKING:
    from donjon.config.builder import Builder

AREA = "hooks"

_WHEN: dict[Phase, str] = {
    Phase.AS_EMPEROR: "in the Emperor, after a vassal was started",
    Phase.AS_VASSAL: "in a vassal, before anything of its own",
    Phase.ASAP: "as soon as the configuration is read",
    Phase.PRE_JAIL: "before the jail is made",
    Phase.POST_JAIL: "when the namespaces were left",
    Phase.IN_JAIL: "in the jail, after the set-up",
    Phase.AS_ROOT: "before privileges are dropped",
    Phase.AS_USER: "after privileges were dropped",
    Phase.PRE_APP: "before the application is loaded",
    Phase.POST_APP: "after the application was loaded",
    Phase.MASTER_START: "when the master begins its work",
    Phase.POST_FORK: "in each worker, when it begins",
    Phase.ACCEPTING: "in a worker each time it begins to accept",
    Phase.ACCEPTING_ONCE: "in a worker the first time it begins to accept",
    Phase.ACCEPTING1: "in the first worker each time it begins to accept",
    Phase.ACCEPTING1_ONCE: "in the first worker the first time it begins to accept",
    Phase.AS_MULE: "in each mule",
    Phase.AS_GATEWAY: "in each gateway",
    Phase.EMPEROR_START: "when the Emperor starts this instance",
    Phase.EMPEROR_STOP: "when the Emperor says stop",
    Phase.EMPEROR_RELOAD: "when the Emperor says reload",
    Phase.EMPEROR_LOST: "when the Emperor is gone",
    Phase.AS_USER_ATEXIT: "at the end, and before a reload",
    Phase.FAULT: "in the Emperor, when a vassal met a limit",
}

_PRIVILEGED = (
    Phase.ASAP,
    Phase.PRE_JAIL,
    Phase.POST_JAIL,
    Phase.IN_JAIL,
    Phase.AS_ROOT,
    Phase.AS_VASSAL,
    Phase.AS_EMPEROR,
)
_COMMANDS = (*_PRIVILEGED, Phase.AS_USER, Phase.AS_USER_ATEXIT, Phase.PRE_APP, Phase.POST_APP)

_ROOT_ONLY = frozenset({Phase.POST_JAIL, Phase.AS_ROOT})
"""Phases that only exist for root: keys of the operator, as all mounting is."""

_VASSAL_CALLS = (
    (Phase.AS_VASSAL, Kind.CALL1, "with its name"),
    (Phase.AS_VASSAL, Kind.CALL3, "with its name, uid and gid"),
    (Phase.AS_EMPEROR, Kind.CALL1, "with the vassal's name"),
    (Phase.AS_EMPEROR, Kind.CALL2, "with the vassal's name and pid"),
    (Phase.AS_EMPEROR, Kind.CALL4, "with the vassal's name, pid, uid and gid"),
)

_FAMILY: dict[Kind, tuple[str, str, str]] = {
    Kind.HOOK: ("Run an action", "ACTION:ARGUMENTS", "print:hello"),
    Kind.MOUNT: ("Mount a file system", '"TYPE SRC DST [FLAGS [DATA]]"', "proc none /proc"),
    Kind.UMOUNT: ("Unmount a file system", '"DST [FLAGS]"', "/mnt detach"),
    Kind.EXEC: ("Run a line of shell", "COMMAND", "true"),
    Kind.CALL: ("Call a C function", "FUNCTION[ ARGUMENT]", "getpid"),
}


def _hook(phase: Phase, kind: Kind, about: str = "") -> Option:
    """Return the row of one family at one phase; ``call1`` and its kin end in their digit."""
    digit = kind.value[4:] if kind.value.startswith("call") else ""
    family = Kind.CALL if digit else kind
    verb, metavar, example = _FAMILY[family]

    def apply(builder: Builder, value: str, origin: Origin) -> None:
        builder.hooks.append(Hook(phase, kind, value, origin))

    return Option(
        name=f"{family.value}-{phase.value}{digit}",
        help=f"{verb} {_WHEN[phase]}{', ' + about if about else ''}.",
        area=AREA,
        parse=values.word,
        apply=apply,
        metavar=metavar,
        repeats=True,
        operator=phase in _ROOT_ONLY or kind in (Kind.MOUNT, Kind.UMOUNT),
        example=example,
    )


def _touch(text: str) -> tuple[str, str]:
    """Read ``FILE ACTION``."""
    path, _, action = text.strip().partition(" ")
    if not action.strip():
        raise ValueError("not FILE ACTION")
    return path, action.strip()


OPTIONS = (
    *(_hook(phase, Kind.HOOK) for phase in _WHEN),
    *(_hook(phase, kind) for kind in (Kind.MOUNT, Kind.UMOUNT) for phase in _PRIVILEGED),
    *(_hook(phase, kind) for kind in (Kind.EXEC, Kind.CALL) for phase in _COMMANDS),
    *(_hook(phase, kind, about) for phase, kind, about in _VASSAL_CALLS),
    Option(
        name="hook-touch",
        help="Run an action when a file was touched.",
        area=AREA,
        parse=_touch,
        apply=make(
            "server", "touch_hooks", lambda value, origin: TouchHook(value[0], value[1], origin)
        ),
        metavar='"FILE ACTION"',
        repeats=True,
        example="/run/trigger print:touched",
    ),
    Option(
        name="touch-exec",
        help="Run a line of shell when a file was touched.",
        area=AREA,
        parse=_touch,
        apply=make(
            "server",
            "touch_hooks",
            lambda value, origin: TouchHook(value[0], f"exec:{value[1]}", origin),
        ),
        metavar='"FILE COMMAND"',
        repeats=True,
        example="/run/trigger true",
    ),
    *unbuilt(AREA, required="after-request-hook|after-request-call binsh"),
)
