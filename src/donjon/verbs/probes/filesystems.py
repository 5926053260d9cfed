"""What roots and binds can be made of: layers, images, mapped owners."""

from __future__ import annotations

import os
from collections.abc import Iterator

from donjon import syscalls
from donjon.fd import Fd
from donjon.jail import mountmaps
from donjon.jail.idmap import Extent, IdMap
from donjon.verbs.finding import Finding, judged
from donjon.verbs.probes import trial

AREA = "kernel"


def findings() -> Iterator[Finding]:
    """Yield what this host can mount."""
    yield judged(
        AREA,
        "loop devices",
        trial.failure(_loop),
        needed=False,
        remedy="modprobe loop; without it there is no rootfs = image:FILE",
    )
    yield judged(
        AREA,
        "mounts with mapped owners",
        trial.failure(_mapped),
        needed=False,
        remedy="a kernel of 5.12 or newer, and a file system that can; without it there is no "
        "bind with idmap",
    )


def _loop() -> None:
    with Fd(os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)) as control:
        syscalls.loop_ctl_get_free(control.fileno())


def _mapped() -> None:
    maps = IdMap((Extent(0, 65534, 1),), (Extent(0, 65534, 1),))
    with mountmaps.user_namespace(maps) as namespace:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        tree = syscalls.open_tree(syscalls.AT_FDCWD, "/", syscalls.OPEN_TREE_CLONE)
        syscalls.mount_setattr(
            tree,
            "",
            syscalls.AT_EMPTY_PATH,
            attr_set=syscalls.MOUNT_ATTR_IDMAP,
            userns_fd=namespace.fileno(),
        )
