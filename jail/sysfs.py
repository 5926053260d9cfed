# ruff: noqa: D102  (what describe and execute are is said by Step)
"""``rootfs-sys``: the jail's /sys, read-only, with what speaks about the host's machine covered.

A new sysfs shows the network devices of the network namespace in which it is mounted, and nothing
that is mounted below the host's /sys (control groups, debugfs). The kernel gives one only to who
has power over that namespace: a jail with a user namespace needs a network namespace as well.
"""

from __future__ import annotations

import errno

from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import masks, mounts, paths
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass
from donjon.syscalls import MOUNT_ATTR_NOEXEC

MASKED = (
    "block",
    "bus",
    "dev",
    "devices/virtual/dmi",
    "devices/virtual/powercap",
    "firmware",
    "fs",
    "hypervisor",
    "kernel",
    "module",
    "power",
)
"""Firmware, disks, drivers, secrets of the kernel. What is left: class, CPUs, memory, network."""

_ATTRIBUTES = mounts.READ_ONLY | MOUNT_ATTR_NOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class SysMount(Builtin):
    """Mount a new sysfs on /sys; ``mask`` covers parts of it."""

    mask: bool = True

    def describe(self) -> str:
        return "mount /sys read-only" + (", host's parts covered" if self.mask else "")

    def execute(self, context: Context) -> None:
        with (
            _new_sysfs() as tree,
            paths.open_target(mounts.root_of(context), "/sys") as target,
        ):
            mounts.attach(tree, target.fileno())
            for name in MASKED if self.mask else ():
                found = paths.open_existing(tree.fileno(), name)
                if found is not None:
                    with found:
                        masks.cover(found.fileno())


def _new_sysfs() -> Fd:
    try:
        return mounts.new_filesystem("sysfs", {}, _ATTRIBUTES)
    except (JailError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not (isinstance(cause, OSError) and cause.errno == errno.EPERM):
            raise
        raise JailError(
            "cannot mount /sys",
            reason="the network namespace is not this user namespace's",
            hint="give the jail a network namespace of its own: unshare = net",
        ) from error
