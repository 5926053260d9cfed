# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""User namespaces: root inside is a host uid that is never 0.

The maps of a new namespace are written from outside, by a process that is root on the host
(user_namespaces(7)): one line, ``0 UID 1``, or the range that ``id-range`` gives (``idmap``). The
child waits until it was told that they are written, and then becomes uid 0 inside.
"""

from __future__ import annotations

import os

from donjon import log, syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import idmap, namespaces, timens, users
from donjon.jail.idmap import IdMap
from donjon.jail.spec import JailSpec
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

_MAX_NAMESPACES = "/proc/sys/user/max_user_namespaces"
NOBODY = 65534
"""Who root inside is on the host when the configuration names no uid."""


def host_ids(identity: users.Identity) -> tuple[int, int]:
    """Return the host's (uid, gid) for root inside. Raises JailError for the host's root."""
    uid = NOBODY if identity.uid is None else identity.uid
    gid = (NOBODY if identity.uid is None else uid) if identity.gid is None else identity.gid
    if uid == 0 or gid == 0:
        raise JailError(
            "root of a user namespace cannot be the host's root",
            hint="name the uid and gid that it stands for",
        )
    return uid, gid


def map_of(spec: JailSpec, identity: users.Identity) -> IdMap:
    """Return the maps that a user namespace of ``spec`` has. Raises JailError for the host's root.

    With a range, ids of the specification are ids inside and must be in it.
    """
    if spec.id_range is None:
        return idmap.of_root(*host_ids(identity))
    if spec.id_map is None:
        raise JailError("no ids are given out yet", origin=spec.origins.get("id_range"))
    groups = (0 if identity.gid is None else identity.gid, *(identity.groups or ()))
    for kind, inside, outside in (
        ("uid", identity.uid or 0, spec.id_map.uid),
        *(("gid", group, spec.id_map.gid) for group in groups),
    ):
        if outside(inside) < 0:
            raise JailError(
                f"{kind} {inside} does not exist in the user namespace",
                origin=spec.origins.get(kind, spec.origins.get("id_range")),
                reason="id-range does not have so many ids",
                hint=f"id-range-size = {inside + 1} or more",
            )
    return spec.id_map


def write_id_map(pid: int, ids: IdMap) -> None:
    """Write both maps of the namespace of ``pid``. Raises JailError.

    To be called by a process that is root outside. ``pid`` must not have been reaped: the caller
    is its parent, or the parent waits for it.
    """
    if ids.names_hosts_root():
        raise JailError("root of a user namespace cannot be the host's root")
    try:
        with Fd(os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as process:
            ids.write(process.fileno())
    except OSError as error:
        raise JailError(
            f"cannot map uid {ids.root[0]} into the user namespace", reason=reason_of(error)
        ) from error


def is_hosts() -> bool:
    """Whether all ids mean themselves, as in the first user namespace only."""
    with open("/proc/self/uid_map", encoding="utf-8") as text:
        return text.read().split() == ["0", "0", "4294967295"]


def describe(ids: IdMap) -> str:
    """Say who root inside is on the host, and how many others there are."""
    uid, gid = ids.root
    more = sum(extent.count for extent in ids.uids)
    others = f", the first of {more} ids" if more > 1 else ""
    return f"root inside is uid {uid} and gid {gid} of the host{others}"


def become_root() -> None:
    """Become uid and gid 0 of the user namespace that this process is in; its maps are written."""
    users.become(users.Identity(0, 0, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class BecomeRootInside(Builtin):
    """Take the ids that the maps give, in a namespace in which this process was born."""

    ids: IdMap | None = None

    def describe(self) -> str:
        who = f": {describe(self.ids)}" if self.ids else ""
        return f"become root of the user namespace{who}"

    def execute(self, context: Context) -> None:
        signal = syscalls.prctl(syscalls.PR_GET_PDEATHSIG)
        become_root()
        if signal:
            syscalls.set_pdeathsig(signal)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForbidNested(Builtin):
    """``user.max_user_namespaces = 0`` in the jail's own namespace (namespaces(7)).

    A file of /proc/sys/user speaks about the namespace of who writes it. Each nested namespace
    would give all capabilities again, and so the kernel's surface behind them. It takes
    CAP_SYS_RESOURCE; a vassal from whom ``emperor-cap`` took that goes without.
    """

    def describe(self) -> str:
        return "forbid further user namespaces inside"

    def execute(self, context: Context) -> None:
        if is_hosts():
            raise JailError("refusing to forbid user namespaces", reason="this is the host's own")
        try:
            with Fd(os.open(_MAX_NAMESPACES, os.O_WRONLY | os.O_CLOEXEC)) as file:
                os.write(file.fileno(), b"0")
        except PermissionError:
            if syscalls.capget()[0] >> syscalls.CAP_SYS_RESOURCE & 1:
                raise
            log.debug("further user namespaces stay possible: emperor-cap left no sys_resource")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnshareUser(Builtin):
    """unshare(2) with a user namespace: a child, still outside, writes the maps of its parent."""

    words: tuple[str, ...]
    ids: IdMap
    offsets: tuple[tuple[str, int], ...] = ()

    def describe(self) -> str:
        clocks = timens.describe(self.offsets)
        words = " ".join(self.words)
        return f"leave the host's namespaces: {words}; {describe(self.ids)}{clocks}"

    def execute(self, context: Context) -> None:
        ready_read, ready_write = (Fd(number) for number in os.pipe())
        pid = int(os.readlink("/proc/self"))  # as this /proc counts, which may be an outer one
        with ready_read:
            writer = os.fork()
            if writer == 0:
                ready_write.close()
                os._exit(_map_parent(ready_read.fileno(), pid, self.ids))
            with ready_write:
                try:
                    syscalls.unshare(namespaces.clone_flags(self.words))
                    os.write(ready_write.fileno(), b"1")
                finally:
                    ready_write.close()  # without the byte the writer ends
                    _, status = os.waitpid(writer, 0)
        if status != 0:
            raise JailError(
                f"cannot map uid {self.ids.root[0]} into the user namespace",
                origin=self.origin,
                reason=os.strerror(os.waitstatus_to_exitcode(status)),
            )
        become_root()
        if "time" in self.words:
            timens.settle(self.offsets)


def _map_parent(ready: int, pid: int, ids: IdMap) -> int:
    """Write the maps once the parent is in its new namespace; return an errno as status."""
    if os.read(ready, 1) != b"1":
        return 0
    try:
        write_id_map(pid, ids)
    except JailError as error:
        cause = error.__cause__
        return (cause.errno or 1) if isinstance(cause, OSError) else 1
    return 0
