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
import stat
from collections.abc import Mapping

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import paths
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
    return Fd(
        syscalls.open_tree(
            syscalls.AT_FDCWD, path, CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
        )
    )


def clone_at(directory: int, path: str = "", *, recursive: bool = True) -> Fd:
    """Return a detached copy of the mounts at ``path`` below a descriptor; "" is itself."""
    flags = CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= syscalls.AT_EMPTY_PATH
    return Fd(syscalls.open_tree(directory, path, flags | syscalls.AT_SYMLINK_NOFOLLOW))


def set_attributes(tree: Fd, attributes: int, *, recursive: bool = True, clear: int = 0) -> None:
    """mount_setattr(2) on a mount that we hold."""
    flags = syscalls.AT_EMPTY_PATH | (syscalls.AT_RECURSIVE if recursive else 0)
    syscalls.mount_setattr(tree.fileno(), "", flags, attr_set=attributes, attr_clr=clear)


def attach(tree: Fd, directory: int, path: str = "") -> None:
    """Attach a detached mount at ``path`` below ``directory``; a final link is never followed."""
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
    if not path:
        flags |= syscalls.MOVE_MOUNT_T_EMPTY_PATH
    syscalls.move_mount(tree.fileno(), "", directory, path, flags)


def attach_path(tree: Fd, path: str) -> None:
    """Attach a detached mount at a path that only root can change."""
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
    syscalls.move_mount(tree.fileno(), "", syscalls.AT_FDCWD, path, flags)


def new_filesystem(kind: str, options: Mapping[str, str | None], attributes: int) -> Fd:
    """Return a new, detached file system; an option without a value is None.

    Raises JailError or OSError.
    """
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
    if "fs" in context.born_in or os.getpid() == 1:
        return
    host = _inode("/proc/1/ns/mnt")
    if host and host == _inode("/proc/self/ns/mnt"):
        raise JailError("refusing to mount", reason="this is the host's mount namespace")


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0  # no /proc, or one that tells us nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class MakePrivate(Builtin):
    """Stop mounts from travelling between the host and the jail."""

    def describe(self) -> str:
        return "make every mount private to the jail"

    def execute(self, context: Context) -> None:
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
class BindMount(Builtin):
    """Show a file or directory of the host in the jail."""

    source: str
    target: str
    read_only: bool = False
    optional: bool = False

    def describe(self) -> str:
        where = "" if self.source == self.target else f" on {self.target}"
        how = "read-only" if self.read_only else "writable"
        return f"bind {self.source}{where}, {how}"

    def execute(self, context: Context) -> None:
        try:
            source = paths.open_source(self.source)
        except FileNotFoundError:
            if self.optional:
                return
            raise
        with source:
            directory = stat.S_ISDIR(os.fstat(source.fileno()).st_mode)
            with (
                clone_at(source.fileno()) as tree,
                paths.open_target(root_of(context), self.target, directory=directory) as target,
            ):
                set_attributes(tree, READ_ONLY if self.read_only else SAFE)
                attach(tree, target.fileno())


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsMount(Builtin):
    """An empty file system in memory, charged to the jail's cgroup."""

    target: str
    size: int | None = None
    mode: int = 0o1777
    uid: int | None = None
    gid: int | None = None

    def describe(self) -> str:
        size = "" if self.size is None else f" of {self.size} bytes"
        return f"mount an empty file system{size} on {self.target}"

    def execute(self, context: Context) -> None:
        options: dict[str, str | None] = {"mode": f"{self.mode:o}"}
        if self.size is not None:
            options["size"] = str(self.size)
        if self.uid is not None:
            options["uid"] = str(self.uid)
        if self.gid is not None:
            options["gid"] = str(self.gid)
        with (
            new_filesystem("tmpfs", options, SAFE) as tree,
            paths.open_target(root_of(context), self.target) as target,
        ):
            attach(tree, target.fileno())
