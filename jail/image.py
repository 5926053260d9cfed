# ruff: noqa: D102  (what describe and execute are is said by Step)
"""A root in a file: ``rootfs = image:FILE`` with a squashfs, an erofs or an ext4 in it.

The file becomes a block device, loop(4), that frees itself: the kernel keeps it as long as it is
mounted, so that it goes with the last process of the jail, however that ends.

The root is read-only. What mount points it lacks are made in a small file system in memory over
it, which becomes read-only too when the root is entered.

Who can write to a file system that is mounted can attack the kernel with it. So the file must be
root's, nobody else may write to it, and nobody has it open for that.

Jails of one file share its device, and so the kernel's one file system and cache of it.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import stat
import struct
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
_LOOP_GET_STATUS64, _LOOP_INFO64, _LO_FLAGS = 0x4C05, 232, 52  # linux/loop.h
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
                "copy it as root",
            )
        name = oldmounts.path_of(found.fileno())
        with ExitStack() as undo:
            backing = undo.enter_context(Fd(os.open(name, os.O_RDONLY | os.O_CLOEXEC)))
            _refuse_writers(backing, path)
            undo.pop_all()
    return backing


def _refuse_writers(backing: Fd, path: str) -> None:
    """Raise JailError while somebody has the file open for writing, from when he still could.

    The kernel gives no read lease on such a file (fcntl(2), F_SETLEASE).
    """
    try:
        fcntl.fcntl(backing.fileno(), fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(backing.fileno(), fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError as error:
        raise JailError(
            f"cannot use the image {path}",
            reason="a process has it open for writing",
            hint="copy it as root",
        ) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without leases
            raise


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
    return _in_use_for(backing) or _configured(backing, path)


def _in_use_for(backing: Fd) -> Fd | None:
    """Return the device that another jail has of this very file; holding it keeps it."""
    called = os.path.basename(os.readlink(oldmounts.path_of(backing.fileno())))
    file = os.fstat(backing.fileno())
    wanted = (file.st_dev, file.st_ino, 0, 0, _FLAGS)
    for path in glob.iglob("/sys/block/loop*"):
        name = os.path.basename(path)
        # the directories are as the other jail's mounts have them
        if os.path.basename(_backing_file(name)) == called:
            loop = Fd(os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC))
            if _status(loop) == wanted:
                return loop
            loop.close()
    return None


def _backing_file(name: str) -> str:
    try:
        with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8") as text:
            return text.read().rstrip("\n")
    except (OSError, ValueError):
        return ""  # free, or a name that is no text


def _status(loop: Fd) -> tuple[int, ...]:
    """Return device and inode of the file, offset, size limit and flags (struct loop_info64)."""
    try:
        found = fcntl.ioctl(loop.fileno(), _LOOP_GET_STATUS64, bytes(_LOOP_INFO64))
    except OSError:
        return ()  # it has been let go of
    device, inode, _rdevice, offset, limit = struct.unpack_from("=5Q", found)
    return device, inode, offset, limit, struct.unpack_from("=I", found, _LO_FLAGS)[0]


def _configured(backing: Fd, path: str) -> Fd:
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
