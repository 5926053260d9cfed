"""Who the kernel says has connected, and whether that is enough."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection
from typing import Any

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
_OVERFLOW = 65534  # /proc/sys/kernel/overflowuid: who has no name in our user namespace


def ask(
    link: socket.socket, address: Any, uids: Collection[int], gids: Collection[int]
) -> tuple[str, bool]:
    """Return who connected, and whether the kernel says that he may: root, our own user, those
    that are named. Of who comes by TCP, from ``address``, it says nothing.
    """
    if link.family != socket.AF_UNIX:
        return f"{address[0]}:{address[1]}", False
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    who = f"uid={uid},gid={gid},pid={pid}"
    known = uid != _OVERFLOW and (uid in (0, os.geteuid()) or uid in uids)
    return who, known or (gid != _OVERFLOW and gid in gids)
