"""What a process that gives birth to many jails does for all of them (see ``template``).

A view of a file is a view of one inode. ``adduser`` and others replace files of /etc by renaming,
so a template that was made yesterday would show yesterday's users. A jail looks at the inodes,
which is cheap, and does without a stale template; ``refresh()`` before each birth renews it.
"""

from __future__ import annotations

import os

from donjon import log, syscalls
from donjon.errors import DonjonError
from donjon.jail import devices, hostview, mounts, oldmounts, rootfs, template
from donjon.records import replace


def prepare() -> None:
    """Make the template of host roots and keep it, if root and kernel (Linux 6.15) allow.

    The process then holds one descriptor more, ``template.descriptors()``; it is closed by a jail
    that enters its root, and must be closed by whoever does not.
    """
    if os.geteuid() != 0 or oldmounts.lacking():
        return
    try:
        template.keep(_make())
    except (OSError, DonjonError) as error:
        log.debug(f"no template of host roots: {error}")


def refresh() -> None:
    """Make the template again, under the same descriptor, if the host's files are others now."""
    old = template.lend()
    if old is None or not template.is_stale(old):
        return
    hostview.forget_host()
    try:
        new = _make()
    except (OSError, DonjonError) as error:
        log.debug(f"no template of host roots: {error}")
        template.forget()
        return
    number = os.dup2(new.number, old.number, inheritable=False)
    os.close(new.number)
    template.replace(replace(new, number=number))


def _make() -> template.Template:
    view = hostview.host_root()
    tops = frozenset(path.split("/")[1] for path in (*view.trees, *view.files))
    seen = template.identities((*view.trees, *view.files))
    options: dict[str, str | None] = {"mode": "755", "size": hostview.ROOT_SIZE}
    with mounts.new_filesystem("tmpfs", options, mounts.SAFE) as root:
        number = root.fileno()
        rootfs.fill(number, view)
        everything = syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE
        syscalls.mount_setattr(number, "", everything, attr_set=mounts.READ_ONLY)
        with devices.new_dev() as dev:
            devices.fill(dev)  # detached: only the root of a detached tree can get attributes
            mounts.attach(dev, number, devices.NAME)
        device = os.fstat(number).st_dev
        return template.Template(root.release(), device, tops | {devices.NAME}, seen)
