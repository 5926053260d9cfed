"""FreeBSD's system calls for jails: jail(2), jail_set(2), jail_get(2), jail_attach(2).

They are called in the C library (``freebsd_libc``), which on FreeBSD is the process's own.
Elsewhere there is none, unless ``use`` names a library that has functions of these names: that is
how layouts and bytes are tested on Linux.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from donjon.syscalls.freebsd_libc import Library

JAIL_API_VERSION = 2
JAIL_CREATE = 0x01
JAIL_UPDATE = 0x02
JAIL_ATTACH = 0x04
JAIL_DYING = 0x08

JAIL_SYS_DISABLE = 0
JAIL_SYS_NEW = 1
JAIL_SYS_INHERIT = 2

MAXHOSTNAMELEN = 256  # with the NUL: sys/param.h
MAXPATHLEN = 1024
JAIL_ERRMSGLEN = 1024  # as libjail(3) has it

_used: list[Library] = []  # none or one: this process's


def library() -> Library | None:
    """Return the library with FreeBSD's calls, None on another system."""
    if not _used and sys.platform.startswith(("freebsd", "gnukfreebsd")):
        from donjon.syscalls.freebsd_libc import Library  # noqa: PLC0415  (ctypes)

        _used.append(Library())
    return _used[0] if _used else None


def use(other: Library | None) -> None:
    """Call ``other`` from now on; None goes back to what the system has."""
    _used[:] = [] if other is None else [other]
