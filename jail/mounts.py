# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""The mounts of a jail, by descriptor.

A new root is attached over the old one's ``/`` (so no directory of the host is needed for it, and
before kernel 6.15 a mount can only be attached to one that is itself attached), filled through its
descriptor, and entered with pivot_root(2). Context.descriptors["root"] is the root below which
targets are looked up: the new one, or the one that we are in.

Each tree is cloned detached, gets its attributes, and is attached last: it is never seen writable
first. The kernel gives a mount namespace made by root the propagation of its parent
(mount_namespaces(7)); so all is made private before anything else, otherwise each mount below
would appear on the host.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import oldmounts, paths
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

ROOT = "root"
"""The name in Context.descriptors of the root that is being put together."""
SAFE = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
"""Attributes of everything that is not /dev: no set-user-id programs, no device files."""

READ_ONLY = SAFE | syscalls.MOUNT_ATTR_RDONLY

CLONE = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC


def clone_path(path: str, *, recursive: bool = True) -> Fd:
    """Return a detached copy of the mounts at ``path``, which only root can change."""
    if oldmounts.lacking():
        with Fd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as source:
            return oldmounts.clone(source.fileno(), recursive=recursive)
    return Fd(
        syscalls.open_tree(
            syscalls.AT_FDCWD, path, CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
        )
    )


def clone_at(directory: int, path: str = "", *, recursive: bool = True) -> Fd:
    """Return a detached copy of the mounts at ``path`` below a descriptor; "" is itself.

    A copy is of its original's peer group (mount_namespaces(7)): what a jail mounts on it would
    appear on the host. So it is made private before it is used.
    """
    if oldmounts.lacking():
        with _below(directory, path) as source:
            return oldmounts.clone(source.fileno(), recursive=recursive)
    flags = CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= syscalls.AT_EMPTY_PATH
    tree = Fd(syscalls.open_tree(directory, path, flags | syscalls.AT_SYMLINK_NOFOLLOW))
    try:
        whole = syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE
        syscalls.mount_setattr(tree.fileno(), "", whole, propagation=syscalls.MS_PRIVATE)
    except OSError:
        tree.close()
        raise
    return tree


def _below(directory: int, path: str) -> Fd:
    """Open ``path`` below a descriptor without following a link; "" is the descriptor's own."""
    if not path:
        return Fd(os.dup(directory))
    return Fd(os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))


def set_attributes(tree: Fd, attributes: int, *, recursive: bool = True, clear: int = 0) -> None:
    """mount_setattr(2) on a mount that we hold."""
    if oldmounts.lacking():
        oldmounts.set_attributes(tree.fileno(), attributes, recursive=recursive, clear=clear)
        return
    flags = syscalls.AT_EMPTY_PATH | (syscalls.AT_RECURSIVE if recursive else 0)
    syscalls.mount_setattr(tree.fileno(), "", flags, attr_set=attributes, attr_clr=clear)


def attach(tree: Fd, directory: int, path: str = "") -> None:
    """Attach a detached mount at ``path`` below ``directory``; a final link is never followed."""
    if oldmounts.lacking():
        oldmounts.move(tree.fileno(), directory, path)
        return
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
    if not path:
        flags |= syscalls.MOVE_MOUNT_T_EMPTY_PATH
    syscalls.move_mount(tree.fileno(), "", directory, path, flags)


def attach_path(tree: Fd, path: str) -> None:
    """Attach a detached mount at a path that only root can change."""
    if oldmounts.lacking():
        with Fd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as target:
            oldmounts.move(tree.fileno(), target.fileno(), "")
        return
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
    syscalls.move_mount(tree.fileno(), "", syscalls.AT_FDCWD, path, flags)


def detach(tree: Fd) -> None:
    """Detach a mount that we hold; what was cloned of it stays."""
    syscalls.umount2(oldmounts.path_of(tree.fileno()), syscalls.MNT_DETACH)


def new_filesystem(kind: str, options: Mapping[str, str | None], attributes: int) -> Fd:
    """Return a new, detached file system; an option without a value is None.

    Raises JailError or OSError.
    """
    options = bounded(kind, options)
    if oldmounts.lacking():
        try:
            return oldmounts.new_filesystem(kind, options, attributes)
        except OSError as error:
            raise JailError(f"cannot make a {kind}", reason=reason_of(error)) from error
    with Fd(syscalls.fsopen(kind, syscalls.FSOPEN_CLOEXEC)) as context:
        number = context.fileno()
        try:
            for key, value in options.items():
                if value is None:
                    syscalls.fsconfig(number, syscalls.FSCONFIG_SET_FLAG, key)
                else:
                    syscalls.fsconfig(number, syscalls.FSCONFIG_SET_STRING, key, value)
            syscalls.fsconfig(number, syscalls.FSCONFIG_CMD_CREATE)
        except OSError as error:
            raise JailError(
                f"cannot make a {kind}", reason=_kernel_words(number, error)
            ) from error
        return Fd(syscalls.fsmount(number, syscalls.FSMOUNT_CLOEXEC, attributes))


_SIZE = re.compile(r"(\d+)([kmgKMG]?)")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30}


def bounded(kind: str, options: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """Give a tmpfs of a size an end of files too: one a page, and not fewer than a thousand.

    The kernel's own number follows the machine's memory (tmpfs(5)): empty files would then take
    gigabytes that ``size`` does not count.
    """
    size = _SIZE.fullmatch(options.get("size") or "")
    if kind != "tmpfs" or size is None or "nr_inodes" in options:
        return options
    pages = (int(size[1]) << _UNITS[size[2].lower()]) >> 12
    return {**options, "nr_inodes": str(max(1024, pages))}


def _kernel_words(number: int, error: OSError) -> str:
    """Return what the kernel wrote about a failed fsconfig(2), else the words for its errno."""
    try:
        text = os.read(number, 4096).decode("utf-8", "replace").strip()
    except OSError:  # ENODATA: it wrote nothing
        return reason_of(error)
    return text[2:] if text[1:2] == " " else text  # "e tmpfs: Bad value for 'size'"


def root_of(context: Context) -> int:
    """Lend the descriptor of the root below which mounts go."""
    return context.descriptors[ROOT]


def refuse_host_namespace(context: Context) -> None:
    """Raise JailError in the mount namespace of init: a new root there would be the host's.

    The plan never leads here; this is a second look where the plan itself left that namespace. Who
    was born outside it needs none, and the look would be a tenth of the cost of a jail.
    """
    if "fs" not in context.born_in:
        oldmounts.refuse_host_namespace()


def show(tree: Fd, root: int, target: str, attributes: int = 0) -> None:
    """Attach a detached mount at ``target`` below ``root``, which is made if it is missing."""
    directory = stat.S_ISDIR(os.fstat(tree.fileno()).st_mode)
    with paths.open_target(root, target, directory=directory) as place:
        if attributes:
            set_attributes(tree, attributes)
        attach(tree, place.fileno())


@dataclass(frozen=True, slots=True, kw_only=True)
class MakePrivate(Builtin):
    """Stop mounts from travelling between the host and the jail."""

    def describe(self) -> str:
        return "make every mount private to the jail"

    def execute(self, context: Context) -> None:
        if oldmounts.lacking():
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            return
        flags = syscalls.AT_RECURSIVE
        syscalls.mount_setattr(syscalls.AT_FDCWD, "/", flags, propagation=syscalls.MS_PRIVATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRoot(Builtin):
    """Hold on to the directory below which later steps mount."""

    base: str = "/"

    def describe(self) -> str:
        return f"mount below {self.base}"

    def execute(self, context: Context) -> None:
        refuse_host_namespace(context)
        context.descriptors[ROOT] = paths.open_source(self.base).release()


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsMount(Builtin):
    """An empty file system in memory, charged to the jail's cgroup."""

    target: str
    size: int | None = None
    inodes: int | None = None
    mode: int = 0o1777
    uid: int | None = None
    gid: int | None = None

    def describe(self) -> str:
        size = "" if self.size is None else f" of {self.size} bytes"
        files = "" if self.inodes is None else f" for {self.inodes} files"
        return f"mount an empty file system{size}{files} on {self.target}"

    def execute(self, context: Context) -> None:
        options: dict[str, str | None] = {"mode": f"{self.mode:o}"}
        if self.size is not None:
            options["size"] = str(self.size)
        if self.inodes is not None:
            options["nr_inodes"] = str(self.inodes)
        if self.uid is not None:
            options["uid"] = str(self.uid)
        if self.gid is not None:
            options["gid"] = str(self.gid)
        with (
            new_filesystem("tmpfs", options, SAFE) as tree,
            paths.open_target(root_of(context), self.target) as target,
        ):
            attach(tree, target.fileno())
