"""What was asked of a forkpty router and of a shared terminal: frozen, typed, with origins."""

from __future__ import annotations

from collections.abc import Mapping

from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field

PEER, TICKET, PAM = "peer", "ticket", "pam"


@dataclass(frozen=True, slots=True)
class Auth:
    """``forkpty-auth = peer | ticket | pam:SERVICE``: who may have a terminal.

    ``peer`` asks the kernel who connected (SO_PEERCRED): root, the router's own user, and those
    of ``forkpty-uid`` and ``forkpty-gid``.
    """

    kind: str = PEER
    service: str = ""  # of pam


@dataclass(frozen=True, slots=True)
class Door:
    """One address of the router, and whether its clients speak in packets."""

    address: str
    framed: bool
    origin: Origin = field(default=DEFAULT, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSpec:
    """Everything about the router; times in seconds, sizes in bytes.

    Where it was asked for makes no other router of it: a reload compares.
    """

    doors: tuple[Door, ...] = ()
    command: str = ""  # "": /bin/sh; with a blank: by /bin/sh -c
    rows: int = 24
    cols: int = 80
    processes: int = 1
    timeout: int = 60  # of silence, then a session ends; 0: never
    events: int = 64
    stats: str | None = None
    cheap: bool = False

    instance: str = ""  # what tickets call it; "": the host's name
    auth: Auth = Auth()
    ticket_key: str | None = None  # the file of the key that tickets are signed with
    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()
    insecure: bool = False  # whoever can connect, as the original
    tls_cert: str | None = None  # of all TCP doors
    tls_key: str | None = None  # None: in the same file
    tls_ca: str | None = None  # who signs the certificates of clients; None: they need none
    sessions: int = 32  # at once
    rate: int = 10  # opened within a second
    longest: int = 0  # seconds that a session may last; 0: any time
    scrollback: int = 256 << 10  # of a named session

    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSpec:
    """``pty-socket`` and its kin: the terminal of worker 1, for all clients the same.

    ``uids``, ``gids`` and ``insecure`` are those of ``forkpty-uid`` and so on.
    """

    socket: str = ""
    log: bool = False  # what the terminal shows, the log has too
    input: bool = False  # what the instance's own input says is typed too
    command: str = ""  # started on the terminal by /bin/sh -c
    uids: tuple[int, ...] = ()
    gids: tuple[int, ...] = ()
    insecure: bool = False

    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)
