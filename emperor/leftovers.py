"""The unix sockets that a vassal leaves on the host's file system when it is killed."""

from __future__ import annotations

import os
import stat

from donjon.emperor.prepare import Reading
from donjon.jail import overlay, rootspec


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


def _kept_root(text: str | None) -> str | None:
    """Return the directory of the host in which files that are made in a root remain."""
    root = rootspec.parse(text) if text else None
    if isinstance(root, rootspec.DirectoryRoot):
        return root.path
    if isinstance(root, rootspec.OverlayRoot) and root.upper is not None:
        return os.path.join(root.upper, overlay.UPPER)
    return None


def _host_path(reading: Reading, address: str, cwd: str) -> str:
    """Return where a listener's file is on the host, "" for one that is not a file."""
    if "/" not in address or address.startswith(("@", "fd://", "\\0")):
        return ""
    jail = reading.launch.jail
    root = (
        _kept_root(jail.rootfs) or jail.chroot or (jail.pivot_root[0] if jail.pivot_root else None)
    )
    path = os.path.normpath(os.path.join(cwd, address))
    return os.path.normpath(f"{root}/{path}") if root else path
