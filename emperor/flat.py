"""A plain order written flat, so that it is carried out without an interpreter (``acts.h``).

Most vassals need nothing of Python's between clone3(2) and their application: they become a user,
listen, and start a worker. ``write`` says so in acts of the kernel, in the order of the plan.
What it cannot say makes it return None; the order is then pickled, and all is done in Python. The
whole order goes with it in both cases: an act that fails is done again in Python, which finds the
words for it, and a master that is woken needs its configuration.
"""

from __future__ import annotations

import os
import pickle
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any

from donjon import syscalls
from donjon.config.outline import Outline, drop_point
from donjon.emperor.birth import AFTER_DROP, SOCKETS, Birth
from donjon.emperor.orders import DIRECT_LIMIT, Order
from donjon.jail import (
    binds,
    capabilities,
    devices,
    etcfiles,
    image,
    lending,
    limits,
    masks,
    mounts,
    namespaces,
    overlay,
    proc,
    rootfs,
    runtime,
    seccomp,
    standing,
    sysfs,
    userns,
    users,
)
from donjon.jail.phase import ORDER, Phase
from donjon.jail.spec import JailSpec, ResourceLimit
from donjon.server import board, plain
from donjon.server.address import Address, ListenError, parse_address
from donjon.server.phases import DropPoint
from donjon.server.spec import Listener, ServerSpec

HEAD = struct.Struct("=cBHiiHHQ32s")
ACT = struct.Struct("=HHI")
KIND = b"F"
ROLES = {
    "control": b"c", "launch": b"l", "error": b"e", "log": b"o",
    "cgroup": b"g", "tasks": b"t", "go": b"m", "network": b"n",
}  # fmt: skip
MOST_ROLES = 32
MOST_LISTENERS = 16
MOST_WORKERS = 64

(
    _DIRECTORY, _COMMAND_LINE, _WAIT_FOR_MAPS, _BUILD, _MAKE_PRIVATE, _HOSTNAME, _BOUND, _RESTRICT,
    _KEEP_CAPS, _BECOME, _HOLD_CAPS, _DUMPABLE, _NO_NEW_PRIVILEGES, _LIMIT, _PRIORITY,
    _IO_PRIORITY, _KEYRING, _SAY, _SECCOMP, _LISTEN, _SERVE, _RECORD,
) = range(1, 23)  # fmt: skip

_NO_RESUME = 0xFFFF
_ALIGNMENT = 8
_IDENTITY = struct.Struct("=qqq")
_LISTENING = struct.Struct("=iiiiii")
_SIGNED, _WORD, _THREE = struct.Struct("=q"), struct.Struct("=Q"), struct.Struct("=QQQ")
_UNLIMITED = (1 << 64) - 1

Acts = list[tuple[int, bytes]]


def write(order: Order) -> bytes | None:
    """Return the packet of a plain order, None for one that is not plain."""
    birth = order.birth
    if birth is None or birth.outline is None or not _is_plain_order(order, birth):
        return None
    steps = _steps(birth.outline)
    listeners = _listeners(birth.launch.server)
    if steps is None or listeners is None:
        return None
    server = birth.launch.server
    told = plain.tell(server, tuple(port for _, port in listeners)) or b""
    size = board.size_of(server.processes, server.threads)
    parts = [
        _head(order, server),
        *(_act(_NO_RESUME, *act) for act in _prelude(order, birth)),
        *(_act(done, *act) for done, acts in enumerate(steps) for act in acts),
        *(_act(AFTER_DROP, *act) for act in _warning(order, birth.launch.jail)),
        *(_act(AFTER_DROP, *act) for act in _after_drop(birth.outline, server)),
        *(_act(SOCKETS, _LISTEN, data) for data, _ in listeners),
        _act(SOCKETS, _RECORD, pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)),
        _act(SOCKETS, _SERVE, _WORD.pack(size) + told),
    ]
    packet = b"".join(parts)
    return packet if len(packet) <= DIRECT_LIMIT else None


def _act(resume: int, kind: int, data: bytes) -> bytes:
    padding = -len(data) % _ALIGNMENT
    return ACT.pack(kind, resume, len(data)) + data + bytes(padding)


def _head(order: Order, server: ServerSpec) -> bytes:
    roles = b"".join(ROLES[role] for role in order.roles)
    return HEAD.pack(
        KIND, len(roles), server.processes, order.number, order.emperor_pid, server.threads,
        int(order.birth is not None and order.birth.launch.jail.rootfs == "host"),
        order.clone_flags, roles,
    )  # fmt: skip


# -- what is plain


def _is_plain_order(order: Order, birth: Birth) -> bool:
    launch = birth.launch
    if order.clone_flags & syscalls.CLONE_NEWUSER and lending.is_needed(launch.jail):
        return False
    special = (
        order.command or order.evaluate is not None or order.start_hook or order.hooks
        or not birth.shares_environment or launch.emperor or launch.fallback_config
        or len(order.roles) > MOST_ROLES or not set(order.roles) <= ROLES.keys()
    )  # fmt: skip
    return not special and _is_plain_jail(launch.jail) and _is_plain_server(launch.server)


def _is_plain_jail(jail: JailSpec) -> bool:
    special = jail.immediate_uid or jail.immediate_gid or jail.setns or jail.setns_preopen
    return not special and drop_point(jail) is DropPoint.START


_SERVED = plain.DONE | {
    "processes", "threads", "lazy_apps", "cpu_affinity", "pythonpath", "virtualenv",
    "python_import",
}  # fmt: skip
"""What of a configuration a master that only waits, its workers, or the master it wakes see to."""

_UNASKED = ServerSpec()
_SPECIAL = tuple(name for name in ServerSpec.__annotations__ if name not in _SERVED)


def _is_plain_server(spec: ServerSpec) -> bool:
    """Whether a master that only waits is enough, and nothing is to be done before it does.

    What is not known here counts as something to be done.
    """
    special = any(getattr(spec, name) != getattr(_UNASKED, name) for name in _SPECIAL)
    return not special and 1 <= spec.processes <= MOST_WORKERS


# -- acts


def _prelude(order: Order, birth: Birth) -> Acts:
    """Return what comes before the jail's own steps; ``newborn.settle`` does the same."""
    acts: Acts = [(_DIRECTORY, _text(order.cwd))]
    if "go" in order.roles:
        acts.append((_WAIT_FOR_MAPS, b""))
    acts.append((_COMMAND_LINE, b"".join(map(_text, birth.argv))))
    if order.cap is not None:
        kept = _WORD.pack(capabilities.mask(order.cap | {syscalls.CAP_SETPCAP}))
        acts += [(_BOUND, kept), (_RESTRICT, kept)]
    if order.uid is not None or order.gid is not None:
        groups = () if order.gid is not None else None
        acts.append((_BECOME, _identity(users.Identity(order.uid, order.gid, groups))))
    if order.uid is not None:
        acts += [(_HOLD_CAPS, _THREE.pack(0, 0, 0)), (_DUMPABLE, b"")]
    return acts


def _steps(outline: Outline) -> list[Acts] | None:
    """Return the acts of each step of the privilege phase; None if there is a step without."""
    if outline.hooks or outline.touch:
        return None
    steps = [step for step in outline.plan.steps if step.phase is not Phase.AS_VASSAL]
    walls = [step for step in steps if ORDER[step.phase] < ORDER[Phase.DROP]]
    rest = [step for step in steps if ORDER[step.phase] >= ORDER[Phase.DROP]]
    if any(step.phase not in _WALLS for step in walls):
        return None
    if not all(type(step) in _SAID for step in rest):
        return None
    drop = [_SAID[type(step)](step) for step in rest if step.phase is not Phase.LIMITS]
    if all(type(step) in _SAID for step in walls):
        return [_SAID[type(step)](step) for step in walls] + drop
    if all(type(step) in _SAID or type(step) in _BUILT for step in walls):
        built: list[Acts] = [[(_BUILD, b"")]]
        return built + [[] for _ in walls[1:]] + drop
    return None


def _warning(order: Order, jail: JailSpec) -> Acts:
    """Return what is said of a server that stays root."""
    root = order.uid is None and os.geteuid() == 0
    return [(_SAY, users.ROOT_WARNING.encode() + b"\n")] if root and users.stays_root(jail) else []


def _after_drop(outline: Outline, server: ServerSpec) -> Acts:
    acts: Acts = [(_DIRECTORY, _text(server.chdir))] if server.chdir else []
    for step in outline.plan.steps:
        if step.phase is Phase.LIMITS:
            acts += _SAID[type(step)](step)
    return acts


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"


def _identity(who: users.Identity) -> bytes:
    groups = who.groups
    return _IDENTITY.pack(
        -1 if who.uid is None else who.uid,
        -1 if who.gid is None else who.gid,
        -1 if groups is None else len(groups),
    ) + struct.pack(f"={len(groups or ())}I", *(groups or ()))


def _before_drop(step: capabilities.BeforeDrop) -> Acts:
    acts: Acts = []
    if step.bounding:
        acts.append((_BOUND, _WORD.pack(capabilities.mask(step.caps))))
    if step.keep:
        acts.append((_KEEP_CAPS, b""))
    return acts


def _limit(limit: ResourceLimit) -> tuple[int, bytes]:
    soft, hard = (_UNLIMITED if one is None else one for one in (limit.soft, limit.hard))
    return _LIMIT, _THREE.pack(limit.kind, soft, hard)


_SAID: dict[type[Any], Callable[[Any], Acts]] = {
    mounts.MakePrivate: lambda _: [(_MAKE_PRIVATE, b"")],
    namespaces.SetHostname: lambda step: [(_HOSTNAME, _text(step.name))],
    capabilities.BeforeDrop: _before_drop,
    capabilities.Hold: lambda step: [
        (_HOLD_CAPS, _THREE.pack(capabilities.mask(step.caps), int(step.ambient), step.locks))
    ],
    capabilities.NoNewPrivileges: lambda _: [(_NO_NEW_PRIVILEGES, b"")],
    users.Become: lambda step: [(_BECOME, _identity(step.identity))],
    seccomp.FilterCalls: lambda step: [(_SECCOMP, step.code)],
    standing.NewKeyring: lambda _: [(_KEYRING, b"")],
    standing.LimitResource: lambda step: [_limit(step.limit)],
    standing.SetIoPriority: lambda step: [(_IO_PRIORITY, _WORD.pack(standing.io_value(step)))],
    limits.NoCoreDumps: lambda _: [(_LIMIT, _THREE.pack(resource.RLIMIT_CORE, 1, 1))],
    limits.Limit: lambda step: [(_LIMIT, _THREE.pack(step.kind, step.value, step.value))],
    limits.Priority: lambda step: [(_PRIORITY, _SIGNED.pack(step.nice))],
}
"""The steps that are acts of the kernel, and nothing more."""

_BUILT: frozenset[type[Any]] = frozenset(
    {
        mounts.HoldRoot, mounts.TmpfsMount, binds.BindMount, proc.ProcMount, sysfs.SysMount,
        devices.DevMount, etcfiles.EtcFiles, runtime.RuntimeMount, masks.MaskPath,
        masks.ReadOnlyPath, image.NewImageRoot, overlay.NewOverlayRoot, rootfs.NewHostRoot,
        rootfs.NewDirectoryRoot, rootfs.Expose, rootfs.SealViews, rootfs.EnterRoot,
        rootfs.ReleaseRoot, rootfs.Chroot, rootfs.PivotRoot, userns.ForbidNested,
    }
)  # fmt: skip
"""The steps that act on namespaces, root and directory: whoever shares these may do them."""

_WALLS = frozenset({Phase.POST_JAIL, Phase.ROOT, Phase.AS_ROOT})


# -- listeners


def _listeners(spec: ServerSpec) -> list[tuple[bytes, int]] | None:
    """Return (act, port) of each listener, None where one is more than an address to bind."""
    found = [_listener(one, spec) for one in spec.listeners]
    plain_ones = [one for one in found if one is not None]
    whole = len(plain_ones) == len(found) and 0 < len(found) <= MOST_LISTENERS
    distinct = len({one.address for one in spec.listeners}) == len(found)
    return plain_ones if whole and distinct else None


def _listener(listener: Listener, spec: ServerSpec) -> tuple[bytes, int] | None:
    try:
        address = parse_address(listener.address, listener.origin)
    except ListenError:
        return None  # it is refused, with its reason, in Python
    text = _address_text(address)
    if listener.shared or not listener.protocol or text is None:
        return None
    port = int(address.target[1]) if isinstance(address.target, tuple) else 0
    mode = spec.chmod_socket if spec.chmod_socket is not None else -1
    umask = spec.umask if spec.umask is not None else -1
    data = _LISTENING.pack(
        int(address.family), port, spec.listen, mode, umask, int(spec.reuse_port)
    )
    needs_looking_up = address.family != socket.AF_UNIX and port == 0
    return None if needs_looking_up else (data + text, port)


def _address_text(address: Address) -> bytes | None:
    """Return what is bound; None for what an interpreter must see to."""
    target = address.target
    if address.fd >= 0 or address.shared >= 0 or not address.text.isprintable():
        return None
    if isinstance(target, bytes):
        return target
    return _text(target[0] if isinstance(target, tuple) else target)
