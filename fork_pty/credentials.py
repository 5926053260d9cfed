"""Who the kernel says has connected, and whether that is enough."""

from __future__ import annotations

import os
import socket
import struct

from donjon.fork_pty.spec import SharedSpec

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
_OVERFLOW = 65534  # /proc/sys/kernel/overflowuid: who has no name in our user namespace


def ask(link: socket.socket, address: tuple[str, int], spec: SharedSpec) -> tuple[str, bool]:
    """Return who connected, and whether he may: root, our own user, those that are named."""
    if link.family != socket.AF_UNIX:
        return f"{address[0]}:{address[1]}", spec.insecure
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    who = f"uid={uid},gid={gid},pid={pid}"
    known = uid != _OVERFLOW and (uid in (0, os.geteuid()) or uid in spec.uids)
    return who, spec.insecure or known or (gid != _OVERFLOW and gid in spec.gids)
