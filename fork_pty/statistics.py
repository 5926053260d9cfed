"""Statistics of a router: one JSON document to who connects (uwsgi-facts 4.1)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from donjon.fork_pty.router import Router
    from donjon.fork_pty.session import Session

VERSION = "2.0.31"


def answer(link: socket.socket, router: Router) -> None:
    """Tell one client and hang up; who does not read it at once goes without."""
    with link, contextlib.suppress(OSError):
        link.sendall(json.dumps(document(router), indent="\t").encode() + b"\n")


def document(router: Router) -> dict[str, Any]:
    """Describe the router now."""
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "cwd": os.getcwd(),
        "active_sessions": len(router.sessions),
        "refused": router.refused,
        "forkptyrouter": [door.address for door in router.spec.doors],
        "cheap": int(router.spec.cheap),
        "sessions": [row(session) for session in router.sessions.values()],
    }


def row(session: Session) -> dict[str, Any]:
    """Describe a session."""
    now = time.monotonic()
    return {
        "number": session.number,
        "name": session.name,
        "pid": session.program.pid,
        "seconds": int(now - session.began),
        "silent": int(now - session.active),
        "keys": session.received,
        "output": session.sent,
        "clients": [peer.who for peer in session.peers],
    }
