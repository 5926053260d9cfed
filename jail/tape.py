"""A tape: the system calls of a jail and its program, made ready before the process is there.

A vassal that becomes a foreign program needs no Python of its own: forked from the zygote it would
copy hundreds of pages, run the interpreter, and throw all away at its exec; that is most of what
its birth costs. So its steps are written down as calls, and ``syscalls.play`` carries them out.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from donjon import syscalls
from donjon.jail import mounts
from donjon.records import dataclass

REGISTERS = 32

Argument = int | bytes | tuple[int] | list[bytes]
Entry = tuple[str, tuple[Argument, ...], int, str]
Register = tuple[int]

_O_PATH = os.O_PATH | os.O_CLOEXEC
_NO_LINKS = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_CLONE = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_SYMLINK_NOFOLLOW


class Misfit(Exception):  # noqa: N818  (no error: the step is done the longer way)
    """A step, or something about it, that is left to Python."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the child executes in the end."""

    path: bytes
    argv: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    what: str  # could not be done, if it cannot be executed


class Tape:
    """Calls in their order. ``what`` says what could not be done if one of them fails."""

    def __init__(self) -> None:
        self.what = "cannot start"
        self.entries: list[Entry] = []
        self._free = list(range(REGISTERS))

    def call(self, name: str, *arguments: Argument, lenient: bool = False) -> None:
        """Make a call whose result nobody needs; ``lenient``: ENOSYS and EPERM are no failure."""
        self.entries.append((name, arguments, -2 if lenient else -1, self.what))

    def open(self, name: str, *arguments: Argument) -> Register:
        """Make a call that gives a descriptor; return the register that holds it."""
        if not self._free:
            raise Misfit("too many descriptors at once")
        into = self._free.pop(0)
        self.entries.append((name, arguments, into, self.what))
        return (into,)

    def close(self, register: Register) -> None:
        """Close a descriptor; its register is free again."""
        self.call("close", register)
        self._free.insert(0, register[0])

    def play(
        self, flags: int, error_fd: int, program: Program, *, share: bool, cgroup: int = -1
    ) -> tuple[int, int]:
        """Make the child; return pid and pidfd. Raises OSError if there is none.

        A child that shares our memory costs least; one in a control group must not.
        """
        return syscalls.play(
            flags,
            tuple(self.entries),
            error_fd,
            program.path,
            program.argv,
            program.environment,
            program.what.encode(),
            share=share,
            cgroup=cgroup,
        )

    # mounts: as ``mounts`` and ``paths`` have them

    def clone_tree(
        self, directory: Argument, path: bytes = b"", *, recursive: bool = True
    ) -> Register:
        """Clone the mounts at a path, detached."""
        flags = _CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
        flags |= 0 if path else syscalls.AT_EMPTY_PATH
        return self.open("open_tree", directory, path, flags)

    def new_filesystem(self, kind: str, options: Mapping[str, str], attributes: int) -> Register:
        """Make a new file system, detached."""
        context = self.open("fsopen", kind.encode(), syscalls.FSOPEN_CLOEXEC)
        for key, value in mounts.bounded(kind, options).items():
            command = syscalls.FSCONFIG_SET_STRING
            self.call("fsconfig", context, command, key.encode(), (value or "").encode(), 0)
        self.call("fsconfig", context, syscalls.FSCONFIG_CMD_CREATE, 0, 0, 0)
        tree = self.open("fsmount", context, syscalls.FSMOUNT_CLOEXEC, attributes)
        self.close(context)
        return tree

    def set_attributes(
        self, tree: Argument, attributes: int, *, recursive: bool = True, clear: int = 0
    ) -> None:
        """mount_setattr(2) on a mount that we hold."""
        flags = syscalls.AT_EMPTY_PATH | (syscalls.AT_RECURSIVE if recursive else 0)
        wish = struct.pack("=4Q", attributes, clear, 0, 0)
        self.call("mount_setattr", tree, b"", flags, wish, len(wish))

    def make_private(self) -> None:
        """Make all mounts of this namespace private."""
        wish = struct.pack("=4Q", 0, 0, syscalls.MS_PRIVATE, 0)
        flags = syscalls.AT_RECURSIVE
        self.call("mount_setattr", syscalls.AT_FDCWD, b"/", flags, wish, len(wish))

    def attach(self, tree: Register, directory: Argument, path: bytes = b"") -> None:
        """Attach a detached mount, and let go of it."""
        flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
        flags |= 0 if path else syscalls.MOVE_MOUNT_T_EMPTY_PATH
        self.call("move_mount", tree, b"", directory, path, flags)
        self.close(tree)

    def open_source(self, path: str) -> Register:
        """Open a path of the host; no link is followed."""
        how = struct.pack("=3Q", _O_PATH, 0, _NO_LINKS)
        return self.open("openat2", syscalls.AT_FDCWD, os.fsencode(path), how, len(how))

    def open_target(self, root: Argument, path: str, *, directory: bool = True) -> Register:
        """Open a mount point below ``root``; no link is followed, and none leads out."""
        flags = _O_PATH | (os.O_DIRECTORY if directory else 0)
        how = struct.pack("=3Q", flags, 0, _NO_LINKS | syscalls.RESOLVE_IN_ROOT)
        relative = os.fsencode(path.lstrip("/")) or b"."
        return self.open("openat2", root, relative, how, len(how))
