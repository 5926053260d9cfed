"""What cannot be served is refused while the configuration is read."""

from __future__ import annotations

from donjon.errors import OptionError
from donjon.fork_pty.spec import PEER, TICKET, Door, RouterSpec, SharedSpec
from donjon.origin import Origin


def check(spec: RouterSpec) -> None:
    """Refuse what cannot be served. Raises OptionError."""
    for door in spec.doors:
        if _is_inet(door.address) and not spec.insecure:
            _check_network(spec, door)
    for name in ("tls_key", "tls_ca"):
        if getattr(spec, name) is not None and spec.tls_cert is None:
            option = f"forkpty-{name.replace('_', '-')}"
            raise OptionError(
                f"{option} without a certificate of its own",
                origin=spec.origins.get(name),
                hint="forkpty-tls-cert = FILE",
            )
    if spec.auth.kind == TICKET:
        _check_tickets(spec, spec.origins.get("auth"))


def _check_network(spec: RouterSpec, door: Door) -> None:
    if spec.tls_cert is None:
        raise OptionError(
            f"a terminal on {door.address} would be the network's",
            origin=door.origin,
            reason="TCP has neither a login of the kernel's nor encryption",
            hint="forkpty-tls-cert = FILE and forkpty-auth = ticket or pam:SERVICE, a unix socket,"
            " or forkpty-insecure = true as the original",
        )
    if spec.auth.kind == PEER:
        raise OptionError(
            f"a terminal on {door.address} would be anybody's",
            origin=door.origin,
            reason="the kernel does not know who connects by TCP",
            hint="forkpty-auth = ticket or pam:SERVICE",
        )


def check_shared(spec: SharedSpec) -> None:
    """Refuse a door of a shared terminal that cannot be watched. Raises OptionError."""
    if _is_inet(spec.socket) and not spec.insecure:
        raise OptionError(
            f"a terminal on {spec.socket} would be the network's",
            origin=spec.origins.get("socket"),
            reason="TCP has neither a login of the kernel's nor encryption",
            hint="use a unix socket, or forkpty-insecure = true as the original",
        )


def _check_tickets(spec: RouterSpec, origin: Origin | None) -> None:
    if spec.ticket_key is None:
        raise OptionError(
            "forkpty-auth = ticket needs a key", origin=origin, hint="forkpty-ticket-key = FILE"
        )
    if spec.processes > 1:
        raise OptionError(
            "forkpty-auth = ticket needs one router",
            origin=origin,
            reason="a ticket would be good once at each of them",
            hint="forkptyrouter-processes = 1",
        )


def _is_inet(address: str) -> bool:
    return ":" in address and not address.startswith(("@", "fd://", "\\0"))
