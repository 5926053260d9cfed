"""The walls around a process, and how it stands beside others: all for the operator alone."""

from __future__ import annotations

import functools

from donjon.config.options import values
from donjon.config.options.rows import Rows
from donjon.jail import capabilities, landlock, seccomp_profile, standing
from donjon.jail.spec import FileRule, ResourceLimit
from donjon.origin import Origin

_id = Rows("confinement", "jail", operator=True)


def _resource_limit(
    kind: int, value: tuple[int | None, int | None], origin: Origin
) -> ResourceLimit:
    return ResourceLimit(kind, *value, origin)


OPTIONS = (
    _id.text(
        "seccomp",
        "Which system calls a jail may make, by groups: default, strict, off, +GROUP, -GROUP, or"
        " learn[:FILE] to record them.",
        metavar="PROFILE",
        example="strict +ipc",
        parse=seccomp_profile.parse,
        ours=True,
    ),
    _id.several(
        "landlock",
        "What may be done with the files below a path, and nothing elsewhere: ro, exec, rw or all;"
        " auto follows from rootfs and bind.",
        field="landlock",
        factory=lambda value, origin: FileRule(value[0], value[1], origin),
        metavar="PATH[:MODE]|auto",
        example="/srv/shop:rw",
        parse=landlock.parse,
        ours=True,
    ),
    _id.number(
        "oom-score-adj",
        "Who is killed first when memory runs out, from -1000 (never) to 1000.",
        parse=values.integer(-1000, 1000),
        metavar="SCORE",
        example="500",
        ours=True,
    ),
    _id.text(
        "io-priority",
        "How reads and writes are scheduled: realtime, best-effort or idle, and 0 (first) to 7.",
        "ioprio",
        metavar="CLASS[:LEVEL]",
        example="best-effort:6",
        parse=standing.parse_io,
        ours=True,
    ),
    _id.text(
        "securebits",
        "Which securebits are locked: noroot, no-setuid-fixup, no-keep-caps, no-ambient-raise.",
        metavar="WORDS|off",
        example="noroot no-ambient-raise",
        parse=capabilities.parse_locks,
        ours=True,
    ),
    _id.flag(
        "keep-keyring",
        "Keep the session keyring of whoever started the Emperor, instead of a new one.",
        ours=True,
    ),
    _id.text(
        "apparmor-profile",
        "Be confined by this AppArmor profile, which the operator loaded.",
        metavar="PROFILE",
        example="donjon-vassal",
        ours=True,
    ),
    *(
        _id.several(
            f"rlimit-{name}",
            f"The limit {name} of setrlimit(2), soft and hard; K, M, G and unlimited are known.",
            field="rlimits",
            factory=functools.partial(_resource_limit, kind),
            metavar="SOFT[:HARD]",
            example="unlimited",
            parse=standing.parse_limit,
            ours=True,
        )
        for name, kind in sorted(standing.LIMITS.items())
    ),
)
