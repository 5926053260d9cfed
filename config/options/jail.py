"""The walls of the jail: namespaces, root file system, control groups."""

from __future__ import annotations

from typing import Any

from donjon.config.options import values
from donjon.config.options.rows import Rows, unbuilt
from donjon.jail.spec import Bind, CgroupOption, CgroupPath, KeepMount, Tmpfs

_ns = Rows("namespaces", "jail", operator=True)
_root = Rows("root file system", "jail", operator=True)
_cgroup = Rows("control groups", "jail", operator=True)


def _source_target(text: str) -> tuple[str, str]:
    """Read ``SRC[:DST]``; where nothing is said, the jail decides."""
    source, _, target = values.word(text).partition(":")
    return source, target


def _hostname(text: str) -> str:
    if not 1 <= len(text.encode()) <= 64 or any(letter in text for letter in " /\n\0"):
        raise ValueError("not a host name of 1 to 64 letters")
    return text


def _bind(text: str) -> tuple[str, str, bool]:
    """Read ``SRC[:DST][:ro]``."""
    source, *rest = values.word(text).split(":")
    read_only = bool(rest) and rest[-1] in ("ro", "rw") and rest.pop() == "ro"
    if len(rest) > 1:
        raise ValueError("not SRC[:DST][:ro]")
    target = rest[0] if rest and rest[0] else source
    return values.absolute(source), values.absolute(target), read_only


def _tmpfs(text: str) -> tuple[str, int | None]:
    """Read ``DIR[:SIZE]``; ``size=`` may stand before SIZE."""
    target, _, amount = values.word(text).partition(":")
    amount = amount.removeprefix("size=")
    return values.absolute(target), values.size()(amount) if amount else None


def _rootfs(text: str) -> str:
    return text if text == "host" else values.absolute(text)


def _pivot(text: str) -> tuple[str, str]:
    """Read ``NEW OLD``; OLD is an absolute path below NEW (uwsgi-facts 3.3)."""
    new, old = values.pair(text)
    if not old.startswith(new.rstrip("/") + "/"):
        raise ValueError(f"{old} is not below {new}")
    return new, old


def _cgroup_option(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``, or ``KEY:VALUE`` where there is no ``=`` (uwsgi-facts 3.5)."""
    key, sign, value = values.plain(text).partition("=" if "=" in text else ":")
    if not key or not sign:
        raise ValueError("not KEY=VALUE")
    if "/" in key or key in (".", ".."):
        raise ValueError(f"{key!r} is not the name of a control file")
    return key, value


_WORDS: dict[str, Any] = {"metavar": "WORDS", "example": "pid,net", "parse": values.namespaces}

NAMESPACES = (
    _ns.text("unshare", "Leave these namespaces of the host in the privilege phase.", **_WORDS),
    _ns.text("unshare2", "Leave these namespaces after pivot_root.", **_WORDS),
    Rows("namespaces", "jail").flag(
        "jailed", "Run the post-jail phase though no namespace was left."
    ),
    _ns.flag("refork", "Fork again after the drop of privileges.", "re-fork"),
    _ns.flag("refork-as-root", "Fork again before the root phase.", "re-fork-as-root"),
    _ns.flag("refork-post-jail", "Fork again after the post-jail phase.", "re-fork-post-jail"),
    _ns.text(
        "namespace",
        "Run in namespaces with DIR as root, and an outer process that starts it again.",
        "ns",
        metavar="DIR[:HOSTNAME]",
        example="/ns/001:web",
    ),
    _ns.text(
        "namespace-net",
        "Give the old-style namespace a network namespace too.",
        "ns-net",
        metavar="NAME",
        example="private",
    ),
    _ns.several(
        "namespace-keep-mount",
        "Keep a mount of the host inside the old-style namespace.",
        field="namespace_keep_mounts",
        factory=lambda value, origin: KeepMount(value[0], value[1], origin),
        parse=_source_target,
        metavar="SRC[:DST]",
        example="/mnt/nfs:/nfs",
    ),
    _ns.text(
        "setns",
        "Join the namespaces that a setns-socket gives.",
        metavar="SOCKET",
        example="/run/ns.socket",
    ),
    Rows("namespaces", "jail").text(
        "hostname",
        "Give the jail a host name of its own.",
        metavar="NAME",
        example="customer1",
        parse=_hostname,
        ours=True,
    ),
)


ROOT = (
    _root.text(
        "rootfs",
        "Give the jail a root of its own: host (the system read-only) or a directory.",
        metavar="host|DIR",
        example="host",
        parse=_rootfs,
        ours=True,
    ),
    _root.several(
        "bind",
        "Show SRC of the host on DST of the jail.",
        field="binds",
        factory=lambda value, origin: Bind(value[0], value[1], origin, read_only=value[2]),
        parse=_bind,
        metavar="SRC[:DST][:ro]",
        example="/srv/data:/data:ro",
        ours=True,
    ),
    _root.several(
        "tmpfs",
        "Put an empty private file system on DIR of the jail.",
        field="tmpfs",
        factory=lambda value, origin: Tmpfs(value[0], origin, size=value[1]),
        parse=_tmpfs,
        metavar="DIR[:SIZE]",
        example="/tmp:64M",
        ours=True,
    ),
    _root.text("chroot", "Make DIR the root.", metavar="DIR", example="/srv/root"),
    _root.text(
        "pivot-root",
        "Make NEW the root and put the old one on OLD, a path below NEW.",
        "pivot_root",
        metavar='"NEW OLD"',
        example="/ns /ns/.old_root",
        parse=_pivot,
    ),
)


CGROUPS = (
    _cgroup.several(
        "cgroup",
        "Start in this control group; it is created if missing.",
        field="cgroups",
        factory=CgroupPath,
        metavar="DIR",
        example="/sys/fs/cgroup/customer1",
    ),
    _cgroup.several(
        "cgroup-opt",
        "Write VALUE to the file KEY of each control group that has one.",
        field="cgroup_options",
        factory=lambda value, origin: CgroupOption(value[0], value[1], origin),
        parse=_cgroup_option,
        metavar="KEY=VALUE",
        example="memory.max=268435456",
    ),
    _cgroup.number(
        "cgroup-dir-mode",
        "The mode of control groups that are created, in octal.",
        parse=values.octal,
        metavar="MODE",
        example="700",
    ),
)

OPTIONS = (
    *NAMESPACES,
    *ROOT,
    *CGROUPS,
    *unbuilt("namespaces", required="setns-socket setns-socket-skip|setns-skip"),
    *unbuilt("namespaces", nothing="setns-preopen", harmless=True),
    *unbuilt("FreeBSD jails", required="jail jail2|libjail jail-ip4 jail-ip6 jail-attach jidfile"),
)
