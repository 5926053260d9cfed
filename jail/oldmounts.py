"""Mounts by mount(2), where a kernel or a sandbox lacks the calls by descriptor.

mount(2) knows paths and no detached trees. Nothing is looked up by a path all the same: each
descriptor is named as ``/proc/self/fd/N``, which leads to the very file that is open. And a tree
that is attached nowhere yet stands in a *closet*: an empty file system mounted over ``/``, where
no lookup goes (they begin below it; only ``/..`` leads there), in the jail's own mount namespace.
From its place in the closet it is moved to where it belongs (MS_MOVE).

All calls or none: a tree that one of the new calls made cannot be attached by the old one. What
this kernel has is therefore asked once, while a plan is made.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd

O_PATH = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
_SIZE = "1m"  # mount points only

_NOTHING = syscalls.AT_EMPTY_PATH
_PROBES: tuple[Callable[[], object], ...] = (
    lambda: syscalls.open_tree(-1, "", _NOTHING),
    lambda: syscalls.move_mount(-1, "", -1, "", syscalls.MOVE_MOUNT_F_EMPTY_PATH),
    lambda: syscalls.mount_setattr(-1, "", _NOTHING, attr_set=syscalls.MOUNT_ATTR_RDONLY),
    lambda: syscalls.fsopen("", 0),
    lambda: syscalls.fsconfig(-1, syscalls.FSCONFIG_CMD_CREATE),
    lambda: syscalls.fsmount(-1, syscalls.FSMOUNT_CLOEXEC),
)
"""Calls that cannot succeed; ENOSYS tells that there is no such call."""

_BITS = (
    (syscalls.MOUNT_ATTR_RDONLY, syscalls.MS_RDONLY, os.ST_RDONLY),
    (syscalls.MOUNT_ATTR_NOSUID, syscalls.MS_NOSUID, os.ST_NOSUID),
    (syscalls.MOUNT_ATTR_NODEV, syscalls.MS_NODEV, os.ST_NODEV),
    (syscalls.MOUNT_ATTR_NOEXEC, syscalls.MS_NOEXEC, os.ST_NOEXEC),
    (syscalls.MOUNT_ATTR_NOATIME, syscalls.MS_NOATIME, os.ST_NOATIME),
    (syscalls.MOUNT_ATTR_NODIRATIME, syscalls.MS_NODIRATIME, os.ST_NODIRATIME),
    (syscalls.MOUNT_ATTR_NOSYMFOLLOW, syscalls.MS_NOSYMFOLLOW, 0x2000),  # ST_NOSYMFOLLOW, 5.10
    (0, syscalls.MS_RELATIME, os.ST_RELATIME),
)
"""A mount attribute, its flag of mount(2), and the one that statvfs(3) answers with."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


@functools.cache
def lacking() -> bool:
    """Whether mounts must be made by mount(2); asked once in a process."""
    return any(_is_missing(probe) for probe in _PROBES)


def _is_missing(probe: Callable[[], object]) -> bool:
    try:
        probe()
    except OSError as error:
        return error.errno == errno.ENOSYS
    return False


def refuse_host_namespace() -> None:
    """Raise JailError in the mount namespace of init, which is never the place for our mounts."""
    host = _namespace("1")
    if os.getpid() != 1 and host and host == _namespace("self"):
        raise JailError("refusing to mount", reason="this is the host's mount namespace")


class Closet:
    """The file system over ``/`` in which trees stand until they are moved."""

    def __init__(self) -> None:
        """Mount it, in a namespace that is not the host's."""
        refuse_host_namespace()
        options = f"size={_SIZE},mode=700"
        syscalls.mount("closet", "/", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
        self._floor = Fd(os.open("/..", O_PATH | os.O_DIRECTORY))
        self._used = 0

    def place(self, *, directory: bool) -> str:
        """Make a mount point and return its name."""
        self._used += 1
        name = f"{self._used}"
        if directory:
            os.mkdir(name, 0o700, dir_fd=self._floor.fileno())
        else:
            os.mknod(name, stat.S_IFREG | 0o600, dir_fd=self._floor.fileno())
        return name

    def open(self, name: str) -> Fd:
        """Return what stands at a place: a mount, once there is one."""
        return Fd(os.open(name, O_PATH, dir_fd=self._floor.fileno()))

    def close(self) -> None:
        """Unmount it."""
        with self._floor as floor:
            syscalls.umount2(path_of(floor.fileno()), syscalls.MNT_DETACH)


_kept: list[Closet] = []  # none or one: this process's


def _closet() -> Closet:
    if not _kept:
        _kept.append(Closet())
    return _kept[0]


def close() -> None:
    """Unmount the closet, where no other root was entered."""
    if _kept:
        _kept.pop().close()


def go() -> int:
    """Forget the closet, which goes with the old root; return how many mounts it is over it."""
    count = len(_kept)
    _kept.clear()
    return count


def path_of(number: int) -> str:
    """Return the name under which mount(2) finds an open file."""
    return f"/proc/self/fd/{number}"


def clone(source: int, *, recursive: bool) -> Fd:
    """Return a copy of the mount, or of the tree of mounts, that ``source`` leads to."""
    closet = _closet()
    name = closet.place(directory=stat.S_ISDIR(os.fstat(source).st_mode))
    flags = syscalls.MS_BIND | (syscalls.MS_REC if recursive else 0)
    with closet.open(name) as place:
        syscalls.mount(path_of(source), path_of(place.fileno()), None, flags)
    return closet.open(name)


def new_filesystem(kind: str, options: Mapping[str, str | None], attributes: int) -> Fd:
    """Return a new file system; the option ``source`` is what it is made from."""
    words = [
        key if value is None else f"{key}={value}"
        for key, value in options.items()
        if key not in ("source", "ro")  # "ro" is one of the flags
    ]
    closet = _closet()
    name = closet.place(directory=True)
    with closet.open(name) as place:
        source = options.get("source") or kind
        syscalls.mount(
            source, path_of(place.fileno()), kind, _flags(attributes), ",".join(words) or None
        )
    return closet.open(name)


def move(tree: int, directory: int, path: str) -> None:
    """Move a tree from the closet to ``path`` below ``directory``; "" is the directory itself."""
    if not path:
        syscalls.mount(path_of(tree), path_of(directory), None, syscalls.MS_MOVE)
        return
    with Fd(os.open(path, O_PATH, dir_fd=directory)) as target:
        if stat.S_ISLNK(os.fstat(target.fileno()).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        syscalls.mount(path_of(tree), path_of(target.fileno()), None, syscalls.MS_MOVE)


def set_attributes(tree: int, attributes: int, *, recursive: bool, clear: int = 0) -> None:
    """Change the attributes of a mount, and of all below it."""
    _remount(tree, attributes, clear)
    if recursive:
        for number in _below(tree):
            with number:
                _remount(number.fileno(), attributes, clear)


def set_attributes_at(path: str, attributes: int, *, recursive: bool, clear: int = 0) -> None:
    """Do the same for a path that only root can change."""
    with Fd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as tree:
        set_attributes(tree.fileno(), attributes, recursive=recursive, clear=clear)


def _flags(attributes: int) -> int:
    return sum(flag for bit, flag, _ in _BITS if attributes & bit)


def _remount(number: int, attributes: int, clear: int) -> None:
    """A remount replaces all flags, so those that are there are given again."""
    have = os.fstatvfs(number).f_flag
    flags = 0
    for bit, flag, answered in _BITS:
        if attributes & bit or (have & answered and not clear & bit):
            flags |= flag
    kind = syscalls.MS_REMOUNT | syscalls.MS_BIND
    syscalls.mount(None, path_of(number), None, kind | flags)


def _below(tree: int) -> Iterator[Fd]:
    """Open each mount under the one that ``tree`` is the top of, found by its number."""
    rows = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            own, parent, _, _, point = line.split(" ", 5)[:5]
            rows[own] = (parent, _ESCAPE.sub(lambda found: chr(int(found[1], 8)), point))
    top = _mount_number(tree)
    base = rows[top][1].rstrip("/") + "/"
    for own, (_, point) in rows.items():
        if own != top and _descends(rows, own, top) and point.startswith(base):
            mount = Fd(os.open(point[len(base) :] or ".", O_PATH, dir_fd=tree))
            if _mount_number(mount.fileno()) == own:  # not hidden by one over it
                yield mount
            else:
                mount.close()


def _descends(rows: Mapping[str, tuple[str, str]], own: str, top: str) -> bool:
    while own in rows and own != rows[own][0]:
        own = rows[own][0]
        if own == top:
            return True
    return False


def _mount_number(number: int) -> str:
    with open(f"/proc/self/fdinfo/{number}", encoding="utf-8") as text:
        return next(line.split()[1] for line in text if line.startswith("mnt_id:"))


def _namespace(process: str) -> int:
    try:
        return os.stat(f"/proc/{process}/ns/mnt").st_ino
    except OSError:
        return 0  # no /proc, or one that tells us nothing
