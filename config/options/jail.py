"""The walls of the jail: namespaces, root file system, control groups."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from donjon.config.options import values
from donjon.config.options.option import Apply, Option
from donjon.config.options.rows import Rows, put
from donjon.errors import JailError
from donjon.jail import rootspec, setns, timens, users
from donjon.jail.idmap import IdRange
from donjon.jail.spec import Bind, CgroupOption, CgroupPath, KeepMount, PathRule, Tmpfs
from donjon.origin import Origin

if TYPE_CHECKING:
    from donjon.config.builder import Builder

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


_BIND_WORDS = ("ro", "rw", "rec", "idmap", "optional")


def _bind(text: str) -> tuple[str, str, frozenset[str]]:
    """Read ``SRC[:DST][:WORD…]``; the words stand in any order."""
    source, *rest = values.word(text).split(":")
    target = rest.pop(0) if rest and (rest[0].startswith("/") or not rest[0]) else ""
    for word in rest:
        if word not in _BIND_WORDS:
            raise ValueError(f"{word!r} is none of {' '.join(_BIND_WORDS)}")
    if {"ro", "rw"} <= set(rest):
        raise ValueError("ro and rw cannot both be")
    return values.absolute(source), values.absolute(target or source), frozenset(rest)


def _bound(value: tuple[str, str, frozenset[str]], origin: Origin) -> Bind:
    source, target, words = value
    return Bind(
        source,
        target,
        origin,
        read_only="ro" in words,
        optional="optional" in words,
        recursive="rec" in words,
        idmap="idmap" in words,
    )


def _tmpfs(text: str) -> tuple[str, int | None, int | None, int]:
    """Read ``DIR[:SIZE]`` or ``DIR[:size=SIZE,inodes=N,mode=MODE]``."""
    target, _, rest = values.word(text).partition(":")
    given: dict[str, str] = {}
    for word in filter(None, rest.split(",")):
        key, sign, value = word.partition("=")
        key, value = (key, value) if sign else ("size", word)
        if key not in ("size", "inodes", "mode") or key in given:
            raise ValueError(f"{word!r} is none of size= inodes= mode=, or is there twice")
        given[key] = value
    size = values.size()(given["size"]) if "size" in given else None
    inodes = values.integer(1)(given["inodes"]) if "inodes" in given else None
    return values.absolute(target), size, inodes, values.octal(given.get("mode", "1777"))


def _rootfs(text: str) -> str:
    rootspec.parse(values.word(text))
    return text


def _proc(text: str) -> frozenset[str]:
    words = frozenset(values.listed(text))
    hidden = {f"hidepid={word}" for word in ("off", "noaccess", "invisible", "ptraceable")}
    for word in sorted(words):
        if word not in {"none", "masked", "subset=pid", *hidden}:
            raise ValueError(f"{word!r} is none of none, masked, subset=pid, hidepid=WORD")
    if not words or ("none" in words and len(words) > 1) or len(words & hidden) > 1:
        raise ValueError("not none, or masked with subset=pid and hidepid=WORD")
    return words - {"masked"}


def _nameserver(text: str) -> str:
    address = text.strip()
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, address))
        except OSError:
            continue
    raise ValueError("not an IP address")


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


def _id_range(text: str) -> IdRange:
    """Read ``auto[:NAME]`` or ``BASE:SIZE``."""
    first, colon, rest = values.word(text).partition(":")
    if first == "auto":
        if colon and not rest:
            raise ValueError("a name is missing")
        return IdRange(name=rest)
    if not (first.isascii() and first.isdigit() and rest.isascii() and rest.isdigit()):
        raise ValueError("neither auto, auto:NAME nor BASE:SIZE")
    return IdRange(base=int(first), size=int(rest))


def _offsets(text: str) -> tuple[tuple[str, int], ...]:
    """Read ``CLOCK=SECONDS,...``, each clock once."""
    found: dict[str, int] = {}
    for item in values.listed(text):
        clock, _, seconds = item.partition("=")
        if clock not in timens.CLOCKS or clock in found or not seconds:
            raise ValueError(f"not CLOCK=SECONDS, with {' and '.join(timens.CLOCKS)} each once")
        found[clock] = values.integer(-values.INT_MAX)(seconds)
    if not found:
        raise ValueError("no clock is named")
    return tuple(found.items())


def _unix_socket(text: str) -> str:
    if ":" in text and not text.startswith(("/", "@")):
        raise ValueError("not a unix socket, and nothing else carries descriptors")
    return values.word(text)


def _uid(text: str) -> int:
    """Read the name or number of a user."""
    try:
        return users.find_user(values.word(text))[0]
    except JailError as error:
        raise ValueError(error.reason) from error


def _both(field: str) -> Apply:
    """Return an ``apply`` that appends to a field that jail and server have."""

    def apply(builder: Builder, value: Any, origin: Origin) -> None:
        builder.jail.append(field, value, origin)
        builder.server.append(field, value, origin)

    return apply


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
        "Give the old-style namespace a network namespace: that of ip netns, if NAME is one.",
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
        parse=_unix_socket,
    ),
    Option(
        name="setns-socket",
        help="Give our namespaces to whoever connects to this socket and is known.",
        area="namespaces",
        metavar="SOCKET",
        example="/run/ns.socket",
        parse=_unix_socket,
        apply=put("server", "setns_socket"),
        operator=True,
    ),
    Option(
        name="setns-socket-skip",
        help="Do not give this one; user is never given.",
        area="namespaces",
        aliases=("setns-skip",),
        metavar="NAME",
        example="cgroup",
        parse=values.choice(*setns.NAMES, "user"),
        apply=_both("setns_skip"),
        repeats=True,
        operator=True,
    ),
    Option(
        name="setns-socket-uid",
        help="A user who may get namespaces of us, or give us his, besides root and our own.",
        area="namespaces",
        metavar="USER",
        example="65533",
        parse=_uid,
        apply=_both("setns_uids"),
        repeats=True,
        operator=True,
        ours=True,
    ),
    _ns.flag("setns-preopen", "Open what the setns-socket gives before privileges are dropped."),
    Rows("namespaces", "jail").text(
        "hostname",
        "Give the jail a host name of its own.",
        metavar="NAME",
        example="customer1",
        parse=_hostname,
        ours=True,
    ),
)


def _ledger(builder: Builder, value: Any, origin: Origin) -> None:
    """An Emperor's is that of its vassals, too."""
    for name in ("jail", "emperor"):
        builder.part(name).put("id_range_ledger", value, origin)


IDS = (
    _ns.text(
        "id-range",
        "Give the jail a user namespace with a range of host ids that nobody else has.",
        metavar="auto[:NAME]|BASE:SIZE",
        example="auto",
        parse=_id_range,
        ours=True,
    ),
    _ns.number(
        "id-range-size",
        "How many ids id-range = auto gives.",
        parse=values.integer(1, 1 << 30),
        example="65536",
        ours=True,
    ),
    Option(
        name="id-range-ledger",
        help="The file that remembers whose ids are whose.",
        area="namespaces",
        metavar="FILE",
        example="/var/lib/donjon/id-ranges",
        parse=values.absolute,
        apply=_ledger,
        operator=True,
        ours=True,
    ),
    _ns.text(
        "time-offset",
        "Give the jail a time namespace whose clocks are ahead of the host's.",
        field="time_offsets",
        metavar="CLOCK=SECONDS,...",
        example="monotonic=86400,boottime=86400",
        parse=_offsets,
        ours=True,
    ),
)


ROOT = (
    _root.text(
        "rootfs",
        "Give the jail a root of its own: the system read-only, a directory, layers, an image.",
        metavar="host|DIR|overlay:LOWER[,LOWER...][:UPPER]|image:FILE",
        example="host",
        parse=_rootfs,
        ours=True,
    ),
    _root.several(
        "bind",
        "Show SRC of the host on DST of the jail.",
        field="binds",
        factory=_bound,
        parse=_bind,
        metavar="SRC[:DST][:ro][:rec][:idmap][:optional]",
        example="/srv/data:/data:ro",
        ours=True,
    ),
    _root.several(
        "tmpfs",
        "Put an empty private file system on DIR of the jail.",
        field="tmpfs",
        factory=lambda value, origin: Tmpfs(
            value[0], origin, size=value[1], inodes=value[2], mode=value[3]
        ),
        parse=_tmpfs,
        metavar="DIR[:size=SIZE,inodes=N,mode=MODE]",
        example="/tmp:64M",
        ours=True,
    ),
    _root.flag("rootfs-reset", "Empty the UPPER of an overlay root at each start.", ours=True),
    _root.text(
        "rootfs-proc",
        "What a new root has as /proc: none, or subset=pid and hidepid=WORD.",
        metavar="WORDS",
        example="subset=pid,hidepid=invisible",
        parse=_proc,
        ours=True,
    ),
    _root.text(
        "rootfs-sys",
        "What a new root has as /sys: none, ro, or masked (read-only, the machine covered).",
        metavar="none|ro|masked",
        example="masked",
        parse=values.choice("none", "ro", "masked"),
        ours=True,
    ),
    _root.flag(
        "rootfs-etc",
        "Make /etc/resolv.conf, hosts and hostname for the jail (but for rootfs = host: true).",
        ours=True,
    ),
    _root.several(
        "rootfs-nameserver",
        "Name this server in the jail's /etc/resolv.conf instead of the host's.",
        field="nameservers",
        metavar="ADDRESS",
        example="192.0.2.53",
        parse=_nameserver,
        ours=True,
    ),
    _root.flag(
        "runtime-mount",
        "Show this interpreter, CA certificates and time zones in a root that lacks them.",
        ours=True,
    ),
    _root.several(
        "mask-path",
        "Cover a file or directory of the jail with an empty one.",
        field="mask_paths",
        factory=PathRule,
        parse=values.absolute,
        metavar="PATH",
        example="/proc/cpuinfo",
        ours=True,
    ),
    _root.several(
        "readonly-path",
        "Make a file or directory of the jail read-only.",
        field="readonly_paths",
        factory=PathRule,
        parse=values.absolute,
        metavar="PATH",
        example="/etc",
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
    *IDS,
    *ROOT,
    *CGROUPS,
)
