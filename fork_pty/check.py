"""What cannot be served is refused while the configuration is read."""

from __future__ import annotations

from donjon.errors import OptionError
from donjon.fork_pty.spec import TICKET, RouterSpec, SharedSpec
from donjon.origin import Origin


def check(spec: RouterSpec) -> None:
    """Refuse what cannot be served. Raises OptionError."""
    for door in spec.doors:
        _check_address(door.address, door.origin, insecure=spec.insecure)
    if spec.auth.kind == TICKET:
        _check_tickets(spec, spec.origins.get("auth"))


def check_shared(spec: SharedSpec) -> None:
    """Refuse a door of a shared terminal that cannot be watched. Raises OptionError."""
    _check_address(spec.socket, spec.origins.get("socket"), insecure=spec.insecure)


def _check_address(address: str, origin: Origin | None, *, insecure: bool) -> None:
    if _is_inet(address) and not insecure:
        raise OptionError(
            f"a terminal on {address} would be the network's",
            origin=origin,
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
