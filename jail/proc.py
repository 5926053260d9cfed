# ruff: noqa: D102  (what describe and execute are is said by Step)
"""The jail's /proc: new, with the parts that speak about the host covered or read-only.

Everything is done through the descriptor of the new procfs, never by a path that could lead to
another. In a pid namespace of its own the jail sees its own processes. Without one the mount hides
those of other users (``hidepid=invisible``, proc(5)), and root's eyes stay as they are.
"""

from __future__ import annotations

import errno
import functools
import os

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import mounts, paths
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

READ_ONLY = ("sys", "irq", "bus", "fs", "pressure", "sysrq-trigger")
"""Kernel settings, and triggers of pressure: to be read, never written."""

MASKED_FILES = ("keys", "kallsyms", "latency_stats", "sched_debug", "interrupts")
"""Files of the host's that everybody may read: they are read as empty."""

ROOTS_FILES = ("kcore", "kmsg", "timer_list", "kpagecount", "kpageflags")
"""Files that only root may read: covered where the application is root or has capabilities."""

MASKED_DIRECTORIES = ("acpi", "scsi", "asound")
"""Directories of the host's that are shown empty."""

_COVERED = READ_ONLY + MASKED_FILES + ROOTS_FILES + MASKED_DIRECTORIES
_ATTRIBUTES = mounts.SAFE | syscalls.MOUNT_ATTR_NOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcMount(Builtin):
    """Mount a new procfs on /proc; ``own`` where the jail has a pid namespace.

    Without ``mask`` it is whole.
    """

    own: bool
    mask: bool = True
    root_inside: bool = True
    hidepid: str = ""  # "": others' are hidden where the processes are not the jail's own
    only_processes: bool = False  # subset=pid

    def describe(self) -> str:
        whose = "of the jail's processes" if self.own else "that hides other users' processes"
        if self.hidepid:
            whose += f", hidepid={self.hidepid}"
        if self.only_processes:
            return f"mount a new /proc {whose}, nothing else in it"
        return f"mount a new /proc {whose}" + (", host's parts covered" if self.mask else "")

    def execute(self, context: Context) -> None:
        options: dict[str, str | None] = {}
        if self.hidepid or not self.own:
            options["hidepid"] = self.hidepid or "invisible"
        if self.only_processes:
            options["subset"] = "pid"
        with (
            self._new(options) as proc,
            paths.open_target(mounts.root_of(context), "/proc") as target,
        ):
            mounts.attach(proc, target.fileno())
            if self.mask and not self.only_processes:
                _cover(proc, root_inside=self.root_inside)

    def _new(self, options: dict[str, str | None]) -> Fd:
        try:
            return mounts.new_filesystem("proc", options, _ATTRIBUTES)
        except (JailError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if self.own or not (isinstance(cause, OSError) and cause.errno == errno.EPERM):
                raise
            raise JailError(
                "cannot mount /proc",
                reason="the pid namespace is not this user namespace's",
                hint="give the jail one: emperor-use-clone = pid,user; or rootfs-proc = none",
            ) from error


def _cover(proc: Fd, *, root_inside: bool) -> None:
    number = proc.fileno()
    present = names_present()
    for name in READ_ONLY:
        if name in present:
            with mounts.clone_at(number, name, recursive=False) as tree:
                mounts.set_attributes(tree, mounts.READ_ONLY, recursive=False)
                mounts.attach(tree, number, name)
    for name in MASKED_FILES + ROOTS_FILES if root_inside else MASKED_FILES:
        if name in present:
            with mounts.clone_path("/dev/null", recursive=False) as tree:
                mounts.attach(tree, number, name)
    _cover_directories(number, [name for name in MASKED_DIRECTORIES if name in present])


def _cover_directories(proc: int, names: list[str]) -> None:
    if not names:
        return
    with mounts.new_filesystem("tmpfs", {"mode": "555"}, mounts.READ_ONLY) as empty:
        mounts.attach(empty, proc, names[0])
        for name in names[1:]:
            with mounts.clone_at(empty.fileno()) as tree:
                mounts.attach(tree, proc, name)


@functools.cache
def names_present() -> frozenset[str]:
    """Return what this kernel has of the names above; a zygote asks before it forks."""
    return frozenset(name for name in _COVERED if os.path.lexists(f"/proc/{name}"))
