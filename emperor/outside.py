"""The router of a door outside: what strangers speak to, in a process without rights.

It has no user, no file, no network, no capability (``tuntap.isolation``) and few system calls.
Who reads strangers' bytes can only ask the ``clerk`` beside it for what is in ``fork_pty.remote``.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
from typing import NoReturn

from donjon import log, syscalls
from donjon.errors import DonjonError, JailError
from donjon.fork_pty.loop import Loop
from donjon.fork_pty.remote import Clerk, Store
from donjon.fork_pty.router import Opened, Post, Router
from donjon.fork_pty.spec import RouterSpec
from donjon.jail import descriptors, seccomp, seccomp_profile
from donjon.records import dataclass
from donjon.tuntap import isolation

USERS = 0x7FFF0000
"""The first uid of routers: each that runs has another, so that they cannot signal each other.
Between what people and containers have, and the tuntap router's (``isolation.NOBODY``)."""

IDLE = 10.0
"""Seconds without a client after which a pair ends."""

CALLS = "strict -process -exec -identity -sandbox"
"""What a router may ask of the kernel: it reads, writes and waits."""


@functools.cache
def wall() -> bytes:
    """Return the filter of a router's system calls, nothing on a host that can make none."""
    try:
        return seccomp.program(seccomp_profile.parse(CALLS).refused())
    except JailError as error:
        log.write(f"[terminal] routers have no filter of system calls: {error}")
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A door: ``key`` is its own, ``vassal`` and ``name`` whose it is, whole and short.

    With ``owned`` a login is good only for an account that ``spec.uids`` names.
    """

    key: str
    vassal: str
    name: str
    spec: RouterSpec
    framed: bool = True
    operators: bool = False
    owned: bool = False
    record: str | None = None
    with_keys: bool = False


def be_router(
    service: Service, listener: socket.socket, link: socket.socket, parts: socket.socket | None,
    user: int,
) -> NoReturn:  # fmt: skip
    """Be the router in a process that was just made."""
    status = 1
    try:
        parent = os.getppid()
        kept = [listener, link, *([parts] if parts else [])]
        descriptors.seal(tuple(one.fileno() for one in kept))
        router = _router(service, listener, link, parts)
        isolation.leave_namespaces()
        isolation.leave_files()
        isolation.limit_resources()
        isolation.leave_privileges(user)
        syscalls.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(status)
        if wall():
            seccomp.install(wall())
        router.run()
        status = 0
    except (DonjonError, OSError) as error:
        log.write(f"[terminal] no router for {service.name}: {error}")
    except BaseException as error:
        log.write(f"[terminal] internal error: {type(error).__name__}: {error}")
    os._exit(status)


def _router(
    service: Service, listener: socket.socket, link: socket.socket, parts: socket.socket | None
) -> Router:
    """Make it while the key of tickets can still be read."""
    store = Store(parts, with_keys=service.with_keys) if parts is not None else None
    post = Post(IDLE, {"vassal": service.name}, operators=service.operators)
    opened = [Opened(listener, service.framed)]
    desks: list[Clerk] = []

    def house(loop: Loop) -> Clerk:
        desks.append(Clerk(loop, link, store))
        return desks[0]

    router = Router(service.spec, opened, None, service.name, house=house, post=post)
    desks[0].ended = router.stop
    return router
