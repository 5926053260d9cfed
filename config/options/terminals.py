"""Shells that reach an instance, and the terminal of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Apply, Option
from donjon.config.options.rows import Rows, unbuilt
from donjon.fork_pty.spec import PAM, PEER, TICKET, Auth, Door
from donjon.origin import Origin

if TYPE_CHECKING:
    from donjon.config.builder import Builder

AREA = "terminals"

_router = Rows(AREA, "terminals")
_server = Rows(AREA, "server")
_pty = Rows(AREA, "pty")


def _door(*, framed: bool) -> Apply:
    def apply(builder: Builder, value: str, origin: Origin) -> None:
        builder.terminals.append("doors", Door(value, framed, origin), origin)

    return apply


def _auth(text: str) -> Auth:
    """Return how clients are known. Raises ValueError."""
    kind, _, service = text.partition(":")
    if kind == PAM and service:
        return Auth(PAM, service)
    if text in (PEER, TICKET):
        return Auth(text)
    raise ValueError(f"not {PEER}, {TICKET} or {PAM}:SERVICE")


def _address(name: str, about: str, alias: str, *, framed: bool) -> Option:
    return Option(
        name=name,
        help=about,
        area=AREA,
        aliases=(alias,),
        parse=values.word,
        apply=_door(framed=framed),
        metavar="ADDRESS",
        repeats=True,
        example="/run/shell.sock",
    )


ROUTER = (
    _address(
        "forkptyrouter",
        "Give a shell to who connects; bytes are the terminal's.",
        "forkpty-router",
        framed=False,
    ),
    _address(
        "forkptyurouter",
        "Give a shell to who connects; clients speak in packets, and tell their window's size.",
        "forkpty-urouter",
        framed=True,
    ),
    _router.text(
        "forkptyrouter-command",
        "Run this instead of /bin/sh; with a blank in it, by /bin/sh -c.",
        "forkpty-router-command",
        "forkptyrouter-cmd",
        "forkpty-router-cmd",
        field="command",
        metavar="COMMAND",
        example="/bin/bash",
    ),
    _router.number(
        "forkptyrouter-rows", "The rows of a terminal whose client does not say.", field="rows",
        parse=values.integer(1, 65535), example="50",
    ),
    _router.number(
        "forkptyrouter-cols", "The columns of a terminal whose client does not say.",
        field="cols", parse=values.integer(1, 65535), example="132",
    ),
    _router.number(
        "forkptyrouter-processes", "How many processes serve terminals.",
        "forkptyrouter-workers", field="processes", parse=values.integer(1, 64), example="2",
    ),
    _router.number(
        "forkptyrouter-timeout",
        "End a session that is silent for so long; 0 for never. 60 if not given.",
        field="timeout",
        metavar="SECONDS",
        example="3600",
    ),
    _router.number(
        "forkptyrouter-events", "How many events a router takes from the kernel at once.",
        field="events", parse=values.integer(1, 65536), example="128",
    ),
    _router.text(
        "forkptyrouter-stats",
        "Tell statistics of the router as JSON to who connects there.",
        "forkptyrouter-stats-server",
        "forkptyrouter-ss",
        field="stats",
        metavar="ADDRESS",
        example="/run/shell-stats.sock",
    ),
    _router.flag("forkptyrouter-cheap", "Say in the statistics that it is cheap.", field="cheap"),
)  # fmt: skip

OURS = (
    _router.text(
        "forkpty-auth",
        "Who may have a shell: those the kernel names (peer: root, the own user, forkpty-uid, "
        "forkpty-gid), the holder of a ticket, or who logs in by PAM.",
        field="auth",
        parse=_auth,
        metavar="peer|ticket|pam:SERVICE",
        example="pam:donjon",
        ours=True,
    ),
    _router.text(
        "forkpty-ticket-key", "The file of the key that tickets are signed with: donjon ticket.",
        field="ticket_key", metavar="FILE", example="/etc/donjon/shop.key", ours=True,
    ),
    _router.several(
        "forkpty-uid", "Let this user have a shell as well.", field="uids",
        parse=values.integer(0, (1 << 32) - 2), metavar="UID", example="1000", ours=True,
    ),
    _router.several(
        "forkpty-gid", "Let users of this group have a shell as well.", field="gids",
        parse=values.integer(0, (1 << 32) - 2), metavar="GID", example="1000", ours=True,
    ),
    _router.text(
        "forkpty-tls-cert",
        "Speak TLS on TCP, with the certificates in this file (PEM, its own first); clients log "
        "in as well.",
        field="tls_cert",
        metavar="FILE",
        example="/etc/donjon/shells.pem",
        ours=True,
    ),
    _router.text(
        "forkpty-tls-key", "The file of its key, where that is another.", field="tls_key",
        metavar="FILE", example="/etc/donjon/shells.key", ours=True,
    ),
    _router.text(
        "forkpty-tls-ca",
        "Let in by TLS only who shows a certificate that one in this file has signed.",
        field="tls_ca",
        metavar="FILE",
        example="/etc/donjon/panels.pem",
        ours=True,
    ),
    _router.flag(
        "forkpty-insecure",
        "Be as open as the original: any user of the host may connect, and TCP is plain.",
        field="insecure",
        ours=True,
    ),
    _router.number(
        "forkpty-sessions", "How many sessions a router has at once; 32 if not given.",
        field="sessions", parse=values.integer(1, 65536), example="100", ours=True,
    ),
    _router.number(
        "forkpty-rate", "How many sessions a router opens within a second; 10 if not given.",
        field="rate", parse=values.integer(1, 65536), example="50", ours=True,
    ),
    _router.number(
        "forkpty-longest", "End a session after so long; 0 for never.", field="longest",
        metavar="SECONDS", example="28800", ours=True,
    ),
    _router.number(
        "forkpty-scrollback", "How much of a named session is shown to who comes back to it.",
        field="scrollback", parse=values.size(), metavar="BYTES", example="1M", ours=True,
    ),
)  # fmt: skip

SHARED = (
    _pty.text(
        "pty-socket",
        "Put worker 1 on a terminal, and show it to all who connect here.",
        field="socket",
        metavar="ADDRESS",
        example="/run/worker.sock",
    ),
    _pty.flag("pty-log", "Write what that terminal shows to the log as well.", field="log"),
    _pty.flag(
        "pty-input", "Take what the input of the instance says as typed there too.", field="input"
    ),
    _pty.text(
        "pty-exec", "Start a command on that terminal, by /bin/sh -c.", field="command",
        metavar="COMMAND", example="exec python3",
    ),
)  # fmt: skip

CLIENT = (
    _server.text(
        "pty-connect",
        "Serve nothing: show the terminal at this address on this one.",
        metavar="ADDRESS",
        example="/run/shell.sock",
    ),
    _server.text(
        "pty-uconnect",
        "The same in packets, for a forkptyurouter: the window's size is told.",
        metavar="ADDRESS",
        example="/run/shell.sock",
    ),
    _server.flag(
        "pty-no-isig",
        "Hand Ctrl-C, Ctrl-Z and Ctrl-\\ on too, not heeding them here.",
    ),
)

OPTIONS = (
    *ROUTER,
    *SHARED,
    *CLIENT,
    *OURS,
    *unbuilt(
        AREA,
        required="forkptyrouter-zerg pam pam-user",
    ),
    *unbuilt(
        AREA,
        required="forkptyrouter-fallback forkptyrouter-harakiri",
        harmless=True,
    ),
)
