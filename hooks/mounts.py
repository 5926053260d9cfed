"""The actions mount and umount, and the one table of their flags.

mount(2) does one thing a call, and silently drops the rest: with MS_BIND it ignores ``ro`` and its
kin, and with a propagation flag it ignores the file system. A line that names several things gets
several calls: first the mount, then its attributes by mount_setattr(2), which adds to what the
source has (a remount would take ``nosuid`` away), then its propagation. A line with ``remount`` or
``move`` is passed on as written.
"""

from __future__ import annotations

import errno
import os
import re

from donjon import syscalls
from donjon.hooks.action import ActionError, Scene, Words, is_variable
from donjon.jail import oldmounts
from donjon.records import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """A word of a flag list: its bit in mount(2), in umount2(2), and as a mount attribute."""

    mount: int = 0
    umount: int = 0
    attribute: int = 0
    recursive: bool = False


_READ_ONLY = Flag(mount=syscalls.MS_RDONLY, attribute=syscalls.MOUNT_ATTR_RDONLY)
_RECURSIVE = Flag(mount=syscalls.MS_REC, recursive=True)

FLAGS: dict[str, Flag] = {
    "bind": Flag(mount=syscalls.MS_BIND),
    "dirsync": Flag(mount=syscalls.MS_DIRSYNC),
    "mandlock": Flag(mount=syscalls.MS_MANDLOCK),
    "move": Flag(mount=syscalls.MS_MOVE),
    "noatime": Flag(mount=syscalls.MS_NOATIME, attribute=syscalls.MOUNT_ATTR_NOATIME),
    "nodev": Flag(mount=syscalls.MS_NODEV, attribute=syscalls.MOUNT_ATTR_NODEV),
    "noexec": Flag(mount=syscalls.MS_NOEXEC, attribute=syscalls.MOUNT_ATTR_NOEXEC),
    "nosuid": Flag(mount=syscalls.MS_NOSUID, attribute=syscalls.MOUNT_ATTR_NOSUID),
    "rdonly": _READ_ONLY,
    "readonly": _READ_ONLY,
    "ro": _READ_ONLY,
    "remount": Flag(mount=syscalls.MS_REMOUNT),
    "sync": Flag(mount=syscalls.MS_SYNCHRONOUS),
    "rec": _RECURSIVE,
    "recursive": _RECURSIVE,
    "private": Flag(mount=syscalls.MS_PRIVATE),
    "slave": Flag(mount=syscalls.MS_SLAVE),
    "shared": Flag(mount=syscalls.MS_SHARED),
    "force": Flag(umount=syscalls.MNT_FORCE),
    "detach": Flag(umount=syscalls.MNT_DETACH),
}

_PROPAGATION = syscalls.MS_PRIVATE | syscalls.MS_SLAVE | syscalls.MS_SHARED
_ALONE = syscalls.MS_REMOUNT | syscalls.MS_MOVE
_ESCAPE = re.compile(r"\\([0-7]{3})")


def flags_of(text: str, call: str) -> list[Flag]:
    """Read a comma list for ``call``, mount or umount. Raises ValueError for an unknown word."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    for word in found:
        if word not in FLAGS:
            raise ValueError(f"unknown {call} flag {word}; known are {' '.join(_names(call))}")
        if word not in _names(call):
            raise ValueError(f"{word} is no flag of {call}")
    return [FLAGS[word] for word in found]


def _names(call: str) -> list[str]:
    return sorted(n for n, flag in FLAGS.items() if flag.recursive or getattr(flag, call))


def parse_mount(text: str) -> Words:
    """FSTYPE SOURCE TARGET [FLAGS [DATA]]: the data is the rest of the line."""
    found = text.split(None, 4)
    if len(found) < 3:
        raise ValueError(f"takes FSTYPE SOURCE TARGET [FLAGS [DATA]], got {text!r}")
    if len(found) > 3 and not is_variable(found[3]):
        flags_of(found[3], "mount")
    return tuple(found)


def mount(args: Words, _scene: Scene) -> None:
    """Mount, then set attributes and propagation where a call of their own is needed.

    What was mounted is unmounted again if the rest fails.
    """
    fstype, source, target, flag_text, data = (*args, "", "")[:5]
    flags = _read(flag_text, "mount")
    bits = _sum(flags, "mount")
    if bits & _ALONE or not bits & (_PROPAGATION | syscalls.MS_BIND):
        syscalls.mount(source, target, fstype, bits, data)
    elif bits & syscalls.MS_BIND:
        kind = syscalls.MS_BIND | bits & syscalls.MS_REC
        syscalls.mount(source, target, fstype, kind, data)
        _finish(target, bits, _sum(flags, "attribute"))
    elif fstype == "none":
        _propagate(target, bits)
    else:
        syscalls.mount(source, target, fstype, bits & ~_PROPAGATION, data)
        _finish(target, bits, 0)


def _finish(target: str, bits: int, attributes: int) -> None:
    try:
        _set_attributes(target, attributes, bits & syscalls.MS_REC)
        _propagate(target, bits)
    except OSError:
        syscalls.umount2(target, syscalls.MNT_DETACH)
        raise


def _propagate(target: str, bits: int) -> None:
    if bits & _PROPAGATION:
        change = bits & (_PROPAGATION | syscalls.MS_REC)
        syscalls.mount("none", target, "none", change, "")


def _read(text: str, call: str) -> list[Flag]:
    try:
        return flags_of(text, call)
    except ValueError as error:
        raise ActionError(str(error)) from error


def _sum(flags: list[Flag], field: str) -> int:
    bits = 0
    for flag in flags:
        bits |= getattr(flag, field)
    return bits


def _set_attributes(target: str, attributes: int, recursive: int) -> None:
    if not attributes:
        return
    clear = syscalls.MOUNT_ATTR__ATIME if attributes & syscalls.MOUNT_ATTR_NOATIME else 0
    how = syscalls.AT_RECURSIVE if recursive else 0
    try:
        syscalls.mount_setattr(syscalls.AT_FDCWD, target, how, attr_set=attributes, attr_clr=clear)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        oldmounts.set_attributes_at(target, attributes, recursive=bool(recursive), clear=clear)


def parse_umount(text: str) -> Words:
    """TARGET [FLAGS]."""
    found = text.split()
    if not 1 <= len(found) <= 2:
        raise ValueError(f"takes TARGET [FLAGS], got {text!r}")
    if len(found) == 2 and not is_variable(found[1]):
        flags_of(found[1], "umount")
    return tuple(found)


def umount(args: Words, _scene: Scene) -> None:
    """Unmount; with ``rec`` first all that is below, the youngest first."""
    target, flag_text = (*args, "")[:2]
    flags = _read(flag_text, "umount")
    how = _sum(flags, "umount")
    if any(flag.recursive for flag in flags):
        for point in mounts_below(os.path.realpath(target)):
            syscalls.umount2(point, how)
    syscalls.umount2(target, how)


def mounts_below(path: str) -> list[str]:
    """Return the mount points under ``path/`` as this process sees them, the youngest first."""
    prefix = path.rstrip("/") + "/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        points = [_unescape(line.split(" ", 5)[4]) for line in table]
    return [point for point in reversed(points) if point.startswith(prefix)]


def _unescape(field: str) -> str:
    """Undo the octal escapes of proc_pid_mountinfo(5)."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
