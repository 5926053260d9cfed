"""Names of network namespaces: files of /run/netns on which a namespace is mounted, as ip-netns(8)
makes them.

The name lives as long as the mount. The directory is a mount point of its own with shared
propagation, so that a name made in one mount namespace is seen, and goes, in the others.
"""

from __future__ import annotations

import os
import re

from donjon import syscalls
from donjon.fd import Fd

DIRECTORY = "/run/netns"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def is_name(text: str) -> bool:
    """Whether ``text`` can be the name of a network namespace."""
    return _NAME.fullmatch(text) is not None


def path_of(name: str) -> str:
    """Return the file of ``name``. Raises ValueError for what is no name."""
    if not is_name(name):
        raise ValueError(f"{name!r} is not a name of letters, digits, dots and dashes")
    return f"{DIRECTORY}/{name}"


def give(name: str, pid: int) -> None:
    """Give the network namespace of ``pid`` a name.

    Raises OSError, FileExistsError where something has it already.
    """
    path = path_of(name)
    _share_directory()
    flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    Fd(os.open(path, flags, 0o000)).close()
    try:
        syscalls.mount(f"/proc/{pid}/ns/net", path, None, syscalls.MS_BIND)
    except OSError:
        os.unlink(path)
        raise


def take(name: str) -> None:
    """Take a name back. Raises OSError."""
    path = path_of(name)
    syscalls.umount2(path, syscalls.MNT_DETACH)
    os.unlink(path)


def _share_directory() -> None:
    """Make the directory and the mount on it, unless ``ip netns`` did."""
    os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
    try:
        syscalls.mount(None, DIRECTORY, None, syscalls.MS_SHARED | syscalls.MS_REC)
    except OSError:  # EINVAL: it is no mount point yet
        syscalls.mount(DIRECTORY, DIRECTORY, None, syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount(None, DIRECTORY, None, syscalls.MS_SHARED | syscalls.MS_REC)
