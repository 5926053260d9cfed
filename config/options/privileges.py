"""Who the instance is and what it may: privileges, gates, limits, foreign programs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from donjon.config.options import values
from donjon.config.options.option import Option, Takes
from donjon.config.options.rows import Rows, put, unbuilt
from donjon.jail import capabilities, landlock, seccomp_profile, standing
from donjon.jail.spec import Exec, FileRule, ResourceLimit, WaitFor
from donjon.origin import Origin

if TYPE_CHECKING:
    from donjon.config.builder import Builder

_id = Rows("privileges", "jail", operator=True)
_wait = Rows("gates", "jail")
_limit = Rows("limits", "jail")

_CAPS: dict[str, Any] = {
    "metavar": "NAMES",
    "example": "net_bind_service,25",
    "parse": values.capabilities,
}


def _resource_limit(
    kind: int, value: tuple[int | None, int | None], origin: Origin
) -> ResourceLimit:
    return ResourceLimit(kind, *value, origin)


def _master_as_root(builder: Builder, value: bool, origin: Origin) -> None:  # noqa: FBT001
    builder.jail.put("master_as_root", value, origin)
    builder.server.put("master_as_root", value, origin)


CONFINEMENT = (
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

PRIVILEGES = (
    _id.text("uid", "Run as this user.", metavar="USER", example="www-data"),
    _id.text("gid", "Run as this group.", metavar="GROUP", example="www-data"),
    _id.several("add-gid", "Add a group.", field="add_gids", metavar="GROUP", example="www-data"),
    _id.text(
        "immediate-uid",
        "Be this user before anything else happens; uid cannot change it.",
        metavar="USER",
        example="www-data",
    ),
    _id.text(
        "immediate-gid",
        "Be this group before anything else happens; gid cannot change it.",
        metavar="GROUP",
        example="www-data",
    ),
    _id.flag("no-initgroups", "Do not take the groups that the user has in the group file."),
    _id.text("cap", "Keep these capabilities, and no others.", **_CAPS),
    _id.text(
        "no-new-privs",
        "Whether programs started in the jail can gain privileges no more.",
        metavar="BOOL",
        example="true",
        parse=values.boolean,
        takes=Takes.OPTIONAL,
        ours=True,
    ),
    *CONFINEMENT,
    Option(
        name="master-as-root",
        help="Drop privileges in each worker; the master keeps them.",
        area="privileges",
        takes=Takes.NOTHING,
        parse=values.boolean,
        apply=_master_as_root,
        operator=True,
    ),
    _id.flag("drop-after-init", "Drop privileges after the sockets are bound."),
    _id.flag("drop-after-apps", "Drop privileges after the application is loaded."),
)


def _gate(name: str, kind: str, about: str, *aliases: str, example: str) -> Option:
    return _wait.several(
        name,
        about,
        *aliases,
        field="wait_for",
        factory=lambda value, origin: WaitFor(kind, value, origin),
        metavar="NAME" if kind == "interface" else "PATH",
        example=example,
    )


def _patience(name: str, what: str, *aliases: str) -> Option:
    about = f"Wait at most so many seconds for {what}."
    return _wait.number(name, about, *aliases, metavar="SECONDS", example="60")


GATES = (
    _gate(
        "wait-for-interface",
        "interface",
        "Wait for a network interface before the root phase.",
        "wait-interface",
        "wait-for-iface",
        "wait-iface",
        example="eth0",
    ),
    _patience(
        "wait-for-interface-timeout",
        "an interface",
        "wait-interface-timeout",
        "wait-for-iface-timeout",
        "wait-iface-timeout",
    ),
    _gate("wait-for-fs", "fs", "Wait for a path before the root phase.", example="/mnt/a"),
    _gate("wait-for-file", "file", "Wait for a file before the root phase.", example="/mnt/a"),
    _gate("wait-for-dir", "dir", "Wait for a directory before the root phase.", example="/mnt"),
    _patience("wait-for-fs-timeout", "a path"),
    _gate(
        "wait-for-mountpoint",
        "mountpoint",
        "Wait until something is mounted on a path before the root phase.",
        example="/mnt",
    ),
    _patience("wait-for-mountpoint-timeout", "a mount"),
    _gate(
        "wait-for-socket",
        "socket",
        "Wait until a socket answers before the application is loaded.",
        example="127.0.0.1:5432",
    ),
    _patience("wait-for-socket-timeout", "a socket"),
)

LIMITS = (
    Rows("limits", "server").number(
        "cpu-affinity",
        "Bind each worker to so many processors of its own, in turn.",
        example="1",
        parse=values.integer(0, 4096),
    ),
    _limit.number(
        "limit-as",
        "Limit the address space of each process, in MiB.",
        parse=values.size(1 << 20),
        metavar="MIB",
        example="512",
    ),
    _limit.number("limit-nproc", "Limit the number of processes of the user.", example="100"),
    _limit.number("max-fd", "Limit the number of open files.", example="1024"),
    _limit.number(
        "prio",
        "The nice value, from -20 (first) to 19 (last).",
        parse=values.integer(-20, 19),
        metavar="NICE",
        example="5",
    ),
)


def _exec(value: str, origin: Origin) -> Exec:
    return Exec(value, origin)


def _shell(value: str, origin: Origin) -> Exec:
    return Exec(value, origin, shell=True)


def _foreign(name: str, about: str, *, operator: bool) -> Option:
    field = "privileged_exec" if operator else "unprivileged_exec"
    shell = name.endswith("-arg")
    assign = put("jail", field)
    factory = _shell if shell else _exec
    return Option(
        name=name,
        help=about,
        area="foreign programs",
        parse=values.word,
        apply=lambda builder, value, origin: assign(builder, factory(value, origin), origin),
        metavar="COMMAND" if shell else "PATH",
        operator=operator,
        example='/usr/sbin/nginx -g "daemon off;"' if shell else "/usr/sbin/nginx",
    )


FOREIGN = (
    _foreign(
        "privileged-binary-patch",
        "Become this program, with our arguments, before privileges are dropped.",
        operator=True,
    ),
    _foreign(
        "privileged-binary-patch-arg",
        "Become this command before privileges are dropped.",
        operator=True,
    ),
    _foreign(
        "unprivileged-binary-patch",
        "Become this program, with our arguments, after privileges were dropped.",
        operator=False,
    ),
    _foreign(
        "unprivileged-binary-patch-arg",
        "Become this command after privileges were dropped.",
        operator=False,
    ),
)

OPTIONS = (
    *PRIVILEGES,
    *GATES,
    *LIMITS,
    *FOREIGN,
    *unbuilt(
        "limits",
        required="check-mountpoint|mountpoint-check|check-mount|mount-check",
        nothing="never-swap",
        harmless=True,
    ),
)
