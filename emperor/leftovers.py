"""The unix sockets that a vassal leaves on the host's file system when it is killed."""

from __future__ import annotations

import os
import stat

from donjon.emperor.prepare import Reading
from donjon.jail import overlay, rootspec
from donjon.jail.spec import JailSpec


def sockets_of(
    reading: Reading, cwd: str, *, owner: int | None = None
) -> list[tuple[str, tuple[int, int]]]:
    """Return path and identity of the vassal's unix sockets, as far as the host can see them.

    ``owner`` is a customer's uid: he may name any socket of the host, and has only his own.
    """
    found = []
    for listener in (*reading.launch.server.listeners, *reading.launch.server.http_routers):
        path = _host_path(reading, listener.address, cwd)
        if not path:
            continue
        try:
            status = os.lstat(path)
        except OSError:
            continue  # inside the jail only: it goes with the jail
        if stat.S_ISSOCK(status.st_mode) and owner in (None, status.st_uid):
            found.append((path, (status.st_dev, status.st_ino)))
    return found


def _kept_root(jail: JailSpec) -> str | None:
    """Return the directory of the host in which files that are made in a root remain.

    None if there is no such directory: what is made in a root of memory goes with it.
    """
    if not jail.rootfs:
        return jail.chroot or (jail.pivot_root[0] if jail.pivot_root else "/")
    match rootspec.parse(jail.rootfs):
        case rootspec.HostRoot():
            return "/"
        case rootspec.DirectoryRoot(path=path):
            return path
        case rootspec.OverlayRoot(upper=str(upper)):
            return os.path.join(upper, overlay.UPPER)
    return None


def _host_path(reading: Reading, address: str, cwd: str) -> str:
    """Return where a listener's file is on the host, "" for one that is not a file there."""
    if "/" not in address or address.startswith(("@", "fd://", "\\0")):
        return ""
    root = _kept_root(reading.launch.jail)
    if root is None:
        return ""
    return os.path.normpath(f"{root}/{os.path.normpath(os.path.join(cwd, address))}")
