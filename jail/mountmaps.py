"""Mounts that show other owners than the disk has: ``bind = …:idmap``, mount_setattr(2).

Without a user namespace the owner of the source becomes the vassal: what belongs to him on the
disk belongs to the vassal in the jail, and what the vassal writes belongs to him on the disk.
With one the ids of the disk are those inside the jail: root's files are root's inside. So the
map of a mount is an IdMap, whose ids "inside" are the disk's.

The kernel lets only the host's root map a file system of the host's. A process that was born in a
user namespace cannot, so who gives birth to it makes such mounts before and lends them: they are
detached, and the child finds them under their source in this module. Others make them themselves,
before their root changes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterable

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import mounts, oldmounts, paths
from donjon.jail.idmap import Extent, IdMap
from donjon.jail.spec import Bind
from donjon.records import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """The vassal, whose uid and gid the owner of a source becomes."""

    uid: int
    gid: int

    def maps_for(self, source: str, info: os.stat_result, *, read_only: bool) -> IdMap | None:
        """Return the maps, None where the owner is the vassal. Raises JailError for root."""
        if (info.st_uid, info.st_gid) == (self.uid, self.gid):
            return None
        if not read_only and 0 in (info.st_uid, info.st_gid):
            raise JailError(
                f"cannot bind {source} with idmap",
                reason="it belongs to root or root's group, and the vassal's files would too",
                hint="add :ro, or chown it to a user",
            )
        return IdMap((Extent(info.st_uid, self.uid, 1),), (Extent(info.st_gid, self.gid, 1),))


ROOT = "rootfs:"
"""How the names of what is lent for the root begin."""

_HIGH = 64
"""Lent descriptors begin here, beyond the numbers that a newborn gives a meaning to."""

_lent: dict[str, list[int]] = {}  # sources and detached mounts of them, as they will be taken


def lend_binds(wanted: Iterable[Bind], who: Owner | IdMap) -> None:
    """Make mapped mounts of sources and keep them, all or none. Raises JailError."""
    try:
        for bind in wanted:
            tree = _mapped(bind, who)
            if tree is not None:
                keep(bind.source, tree)
    except (JailError, OSError):
        forget()
        raise


def _mapped(bind: Bind, who: Owner | IdMap) -> Fd | None:
    try:
        source = paths.open_source(bind.source)
    except FileNotFoundError:
        if bind.optional:
            return None
        raise JailError(f"bind source {bind.source} does not exist", origin=bind.origin) from None
    except JailError as error:
        error.origin = error.origin or bind.origin
        raise
    with source:
        tree = mounts.clone_at(source.fileno(), recursive=bind.recursive)
    try:
        if isinstance(who, IdMap):
            maps: IdMap | None = who
        else:
            info = os.fstat(tree.fileno())
            maps = who.maps_for(bind.source, info, read_only=bind.read_only)
        if maps is not None:
            apply(tree, bind.source, maps, recursive=bind.recursive)
        # at once: whatever becomes of it, nobody gets a writable mount or one with devices
        mounts.set_attributes(tree, mounts.READ_ONLY if bind.read_only else mounts.SAFE)
    except (JailError, OSError) as error:
        tree.close()
        if isinstance(error, JailError):
            error.origin = error.origin or bind.origin
        raise
    return tree


def keep(source: str, tree: Fd) -> None:
    """Lend a detached mount under a name; ``take`` gives out those of a name in this order."""
    with tree:
        number = fcntl.fcntl(tree.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH)
    _lent.setdefault(source, []).append(number)


def take(source: str) -> Fd | None:
    """Return the next mount that was lent for ``source``, which is the caller's now."""
    numbers = _lent.get(source)
    return Fd(numbers.pop(0)) if numbers else None


def descriptors() -> tuple[int, ...]:
    """Return the descriptors that a newborn keeps until its mounts are made."""
    return tuple(number for numbers in _lent.values() for number in numbers)


def forget() -> None:
    """Close what was lent; the child has its own copies."""
    for number in descriptors():
        os.close(number)
    _lent.clear()


def apply(tree: Fd, source: str, maps: IdMap, *, recursive: bool) -> None:
    """Give a detached mount its maps. Raises JailError, which says whose fault it is."""
    what = f"cannot bind {source} with idmap"
    if oldmounts.lacking():
        raise JailError(what, reason="it takes mount_setattr(2), Linux 5.12")
    flags = syscalls.AT_EMPTY_PATH | (syscalls.AT_RECURSIVE if recursive else 0)
    try:
        with user_namespace(maps) as namespace:
            syscalls.mount_setattr(
                tree.fileno(),
                "",
                flags,
                attr_set=syscalls.MOUNT_ATTR_IDMAP,
                userns_fd=namespace.fileno(),
            )
    except OSError as error:
        raise JailError(what, reason=_why(error, tree), hint=_remedy(error)) from error


def _why(error: OSError, tree: Fd) -> str:
    if error.errno == errno.EINVAL:
        kind = kind_of(tree)
        return f"the file system ({kind}) cannot show other owners on this kernel"
    return reason_of(error)


def _remedy(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return (
            "only the host's root may: not from inside a user namespace, nor a mapped mount again"
        )
    return ""


def kind_of(tree: Fd) -> str:
    """Return the name of the file system that an open file is in."""
    device = os.fstat(tree.fileno()).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
        for line in table:
            if line.split()[2] == wanted:
                return line.partition(" - ")[2].split()[0]
    return "unknown"


def user_namespace(maps: IdMap) -> Fd:
    """Return a user namespace with these maps; no process is in it. Raises OSError.

    Its first process opens itself in /proc and hands that over, because its number may be another
    in the /proc that is seen here.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER)
            if pid == 0:
                ours.close()  # or its end would never be seen
                os._exit(_be_mapped(theirs))
        try:
            return _write_maps(ours, maps)
        finally:
            ours.close()  # which ends it
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)


def _be_mapped(link: socket.socket) -> int:
    """Hand over /proc/self and the namespace; stay until the other end is closed."""
    try:
        numbers = [
            os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
            os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC),
        ]
        socket.send_fds(link, [b"m"], numbers)
        link.recv(1)
    except OSError as error:
        return error.errno or 1
    return 0


def _write_maps(link: socket.socket, maps: IdMap) -> Fd:
    _, numbers, _, _ = socket.recv_fds(link, 1, 2)
    if len(numbers) != 2:
        raise OSError(errno.EIO, "no user namespace was made")
    process, namespace = (Fd(number) for number in numbers)
    with process:
        maps.write(process.fileno())
    return namespace
