"""What a process that gives birth to many jails does once, before the first (see ``template``)."""

from __future__ import annotations

import os

from donjon import log, syscalls
from donjon.errors import DonjonError
from donjon.jail import devices, mounts, rootfs, template


def prepare() -> None:
    """Make the template of host roots and keep it, if root and kernel (Linux 6.15) allow.

    The process then holds one descriptor more, ``template.descriptors()``; it is closed by a jail
    that enters its root, and must be closed by whoever does not.
    """
    if os.geteuid() != 0:
        return
    try:
        template.keep(_make())
    except (OSError, DonjonError) as error:
        log.debug(f"no template of host roots: {error}")


def _make() -> template.Template:
    directories, layout = rootfs.host_root()
    tops = frozenset(path.split("/")[1] for path in (*layout.trees, *layout.files))
    options: dict[str, str | None] = {"mode": "755", "size": rootfs.ROOT_SIZE}
    with mounts.new_filesystem("tmpfs", options, mounts.SAFE) as root:
        number = root.fileno()
        rootfs.fill(number, directories, layout)
        everything = syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE
        syscalls.mount_setattr(number, "", everything, attr_set=mounts.READ_ONLY)
        with devices.new_dev() as dev:
            devices.fill(dev)  # detached: only the root of a detached tree can get attributes
            mounts.attach(dev, number, devices.NAME)
        device = os.fstat(number).st_dev
        return template.Template(root.release(), device, tops | {devices.NAME})
