# ruff: noqa: D102  (what describe and execute are is said by Step)
"""A minimal /dev: six devices of the host's, terminals of the jail's own, shared memory.

The devices are bound from the host rather than made, because that also works in a user namespace.
Each is checked by fstat(2) on the very mount that is attached: what stands at /dev/null of the
host is the null device or nothing.
"""

from __future__ import annotations

import os
import stat

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import mounts, paths, template
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

NAME = "dev"

DEVICES: dict[str, tuple[int, int]] = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
"""Name, and (major, minor) of Documentation/admin-guide/devices.txt."""

LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}

SHM_SIZE = 64 << 20
"""Bytes of /dev/shm."""

TERMINALS = 1024
"""Most terminals of one jail; the host's are counted together (kernel.pty.max)."""

_NO_EXEC = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_TTY_GROUP = "5"  # Debian's, and the convention of devpts


def clone_device(name: str) -> Fd:
    """Return a detached mount of the host's device.

    Raises JailError if something else stands there.
    """
    tree = mounts.clone_path(f"/dev/{name}", recursive=False)
    info = os.fstat(tree.fileno())
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(*DEVICES[name]):
        return tree
    tree.close()
    raise JailError(f"/dev/{name} of the host is not the device {DEVICES[name]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DevMount(Builtin):
    """Mount /dev.

    In a user namespace the group tty may not be mapped, so terminals keep the user's group.
    """

    tty_group: bool = True

    def describe(self) -> str:
        return f"mount a minimal /dev: {' '.join(DEVICES)} pts shm"

    def execute(self, context: Context) -> None:
        root = mounts.root_of(context)
        with paths.open_target(root, "/dev") as target:
            dev = template.copy(NAME, target.fileno())
            if dev is None:
                dev = new_dev()
                mounts.attach(dev, target.fileno())
                fill(dev)
        with dev:  # terminals and shared memory are never another jail's
            _add_own(dev, tty_group=self.tty_group)


def new_dev() -> Fd:
    """Return an empty file system for devices, detached."""
    options: dict[str, str | None] = {"mode": "755", "size": "64k"}
    return mounts.new_filesystem("tmpfs", options, _NO_EXEC)


def fill(dev: Fd) -> None:
    """Put devices, links and mount points into a ``new_dev()``, and make it read-only."""
    number = dev.fileno()
    for name in DEVICES:
        os.mknod(name, stat.S_IFREG | 0o600, dir_fd=number)
        with clone_device(name) as tree:
            mounts.attach(tree, number, name)
    for name, target in LINKS.items():
        os.symlink(target, name, dir_fd=number)
    os.mkdir("pts", dir_fd=number)
    os.mkdir("shm", dir_fd=number)
    mounts.set_attributes(dev, syscalls.MOUNT_ATTR_RDONLY, recursive=False)


def _add_own(dev: Fd, *, tty_group: bool) -> None:
    """Mount what belongs to one jail only."""
    options: dict[str, str | None] = {
        "ptmxmode": "0666",
        "mode": "0620",
        "max": str(TERMINALS),
    }
    if tty_group:
        options["gid"] = _TTY_GROUP
    with mounts.new_filesystem("devpts", options, _NO_EXEC) as tree:
        mounts.attach(tree, dev.fileno(), "pts")
    shm: dict[str, str | None] = {"mode": "1777", "size": str(SHM_SIZE)}
    with mounts.new_filesystem("tmpfs", shm, _NO_EXEC | syscalls.MOUNT_ATTR_NODEV) as tree:
        mounts.attach(tree, dev.fileno(), "shm")
