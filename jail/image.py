# ruff: noqa: D102  (what describe and execute are is said by Step)
"""A root in a file: ``rootfs = image:FILE`` with a squashfs, an erofs or an ext4 in it.

The file becomes a block device, loop(4), that frees itself: the kernel keeps it as long as it is
mounted, so that it goes with the last process of the jail, however that ends.

The root is read-only. What mount points it lacks are made in a small file system in memory over
it, which becomes read-only too when the root is entered.

Who can write to a file system that is mounted can attack the kernel with it. So the file must be
root's, and nobody else may write to it.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import mountmaps, mounts, oldmounts, overlay, paths, rootfs
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

KINDS = (
    ("squashfs", 0, b"hsqs"),
    ("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    ("ext4", 1024 + 56, b"\x53\xef"),
)
"""File system, place and bytes of its magic number: linux/magic.h, little-endian."""

_HEAD = 2048  # bytes that are looked at
_ATTEMPTS = 32  # others may take the device that was free
_MOUNT_POINTS = "1m"
_FLAGS = syscalls.LO_FLAGS_READ_ONLY | syscalls.LO_FLAGS_AUTOCLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImageRoot(Builtin):
    """The file system of a file, stacked over ``/``."""

    file: str
    in_user_namespace: bool = False

    def describe(self) -> str:
        return f"take the file system in {self.file} as the root, through a loop device"

    def execute(self, context: Context) -> None:
        with ExitStack() as held:
            lower = held.enter_context(self._mount())
            rootfs.stack_between(context, lower)
            keeper = held.enter_context(overlay.memory(context, _MOUNT_POINTS))
            tree = overlay.layered([lower], keeper, in_user_namespace=self.in_user_namespace)
            rootfs.stack_over(context, tree)
            context.descriptors[mounts.ROOT] = tree.release()

    def _mount(self) -> Fd:
        if not self.in_user_namespace:
            return mounted(self.file)
        lent = mountmaps.take(mountmaps.ROOT + self.file)
        if lent is None:
            raise JailError(
                f"cannot use the image {self.file} in a user namespace",
                reason="the kernel mounts block devices for the host's root only, and nobody "
                "lent this process the mount",
                hint="leave out spawn = exec",
            )
        return lent


def mounted(path: str) -> Fd:
    """Return the file system of an image, detached and read-only. Raises JailError, OSError."""
    with open_image(path) as backing:
        kind = kind_of(backing, path)
        with as_device(backing, path) as loop:
            source = oldmounts.path_of(loop.fileno())
            options: dict[str, str | None] = {"source": source, "ro": None}
            return mounts.new_filesystem(kind, options, mounts.READ_ONLY)


def open_image(path: str) -> Fd:
    """Open a file that only root can have made. Raises JailError, OSError."""
    with paths.open_source(path) as found:
        info = os.fstat(found.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise JailError(f"cannot use the image {path}", reason="it is not a plain file")
        if info.st_uid != 0 or info.st_mode & 0o022:
            raise JailError(
                f"cannot use the image {path}",
                reason=f"uid {info.st_uid} with mode {stat.S_IMODE(info.st_mode):o} can write it",
                hint="a file system that is changed while it is mounted can crash the kernel: "
                "chown root and chmod go-w",
            )
        name = oldmounts.path_of(found.fileno())
        return Fd(os.open(name, os.O_RDONLY | os.O_CLOEXEC))


def kind_of(backing: Fd, path: str) -> str:
    """Return the file system by its magic number. Raises JailError for any other."""
    head = os.pread(backing.fileno(), _HEAD, 0)
    for kind, place, magic in KINDS:
        if head[place : place + len(magic)] == magic:
            return kind
    known = ", ".join(kind for kind, _, _ in KINDS)
    raise JailError(f"cannot use the image {path}", reason=f"there is none of {known} in it")


def as_device(backing: Fd, path: str) -> Fd:
    """Return a loop device, read-only, that is free again when the last user lets go of it."""
    with Fd(os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)) as control:
        for _ in range(_ATTEMPTS):
            number = syscalls.loop_ctl_get_free(control.fileno())
            loop = Fd(os.open(f"/dev/loop{number}", os.O_RDONLY | os.O_CLOEXEC))
            try:
                syscalls.loop_configure(loop.fileno(), backing.fileno(), _FLAGS, path)
            except OSError as error:
                loop.close()
                if error.errno != errno.EBUSY:
                    raise
            else:
                return loop
    raise OSError(errno.EBUSY, "no loop device is free", path)
