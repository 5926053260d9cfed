# ruff: noqa: D102  (what describe and execute are is said by Step)
"""``mask-path`` and ``readonly-path``: parts of the jail that are covered or cannot be written.

A directory is covered by an empty one, a file by one that reads as empty. What is not there needs
no cover. No link is followed on the way: a cover that somebody could turn elsewhere covers
nothing.
"""

from __future__ import annotations

import os
import stat

from donjon.jail import mounts, paths
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass
from donjon.syscalls import MOUNT_ATTR_NODEV


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPath(Builtin):
    """Cover a file or directory of the jail."""

    path: str

    def describe(self) -> str:
        return f"cover {self.path}"

    def execute(self, context: Context) -> None:
        found = paths.open_existing(mounts.root_of(context), self.path, "cover")
        if found is not None:
            with found:
                cover(found.fileno())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnlyPath(Builtin):
    """Make a file or directory of the jail, with all mounts below it, read-only."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def execute(self, context: Context) -> None:
        found = paths.open_existing(mounts.root_of(context), self.path, "make read-only")
        if found is None:
            return
        with found, mounts.clone_at(found.fileno()) as tree:
            mounts.set_attributes(tree, mounts.READ_ONLY & ~MOUNT_ATTR_NODEV)
            mounts.attach(tree, found.fileno())


def cover(target: int) -> None:
    """Attach an empty directory or an empty file over what ``target`` leads to."""
    if stat.S_ISDIR(os.fstat(target).st_mode):
        options: dict[str, str | None] = {"mode": "555", "size": "4k"}
        with mounts.new_filesystem("tmpfs", options, mounts.READ_ONLY) as empty:
            mounts.attach(empty, target)
    else:
        with mounts.clone_path("/dev/null", recursive=False) as empty:
            mounts.attach(empty, target)
