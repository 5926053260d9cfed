"""Tickets: what an operator signs so that somebody may have a terminal for a short time.

A ticket is ``v1.BODY.SIGNATURE``, both base64url without padding: BODY is JSON, SIGNATURE its
HMAC-SHA256 (RFC 2104) with the key that the operator's panel and the router of one instance
share. It names the instance, so that it opens no other one, and it is good once.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os

from donjon.errors import DonjonError, reason_of
from donjon.fork_pty.peer import Role
from donjon.records import dataclass

VERSION = "v1"
KEY_MIN = 32
KEY_MAX = 4096
TEXT_MAX = 2048
LONGEST = 24 * 3600
"""Seconds that a ticket may be good for, whoever signed it."""

KNOWN_MAX = 10_000
"""Tickets that were used and have not expired: beyond it none is good any more."""


class TicketError(Exception):
    """A ticket that is not good; the text says why."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """``instance`` is whose terminal, ``user`` whom the audit names, ``expires`` a Unix time."""

    instance: str
    user: str
    roles: tuple[Role, ...]
    expires: float
    number: str = ""


def read_key(path: str) -> bytes:
    """Return the key in a file of its owner's alone. Raises DonjonError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode, key = os.fstat(fd).st_mode, os.read(fd, KEY_MAX).strip()
        finally:
            os.close(fd)
    except OSError as error:
        raise DonjonError(
            f"cannot read the key of tickets {path}", reason=reason_of(error)
        ) from error
    if mode & 0o007:
        raise DonjonError(f"the key of tickets {path} is everybody's", hint=f"chmod o= {path}")
    if len(key) < KEY_MIN:
        raise DonjonError(
            f"the key of tickets {path} has {len(key)} bytes",
            reason=f"{KEY_MIN} are the least",
            hint=f"head -c 32 /dev/urandom | base64 > {path}",
        )
    return key


def issue(ticket: Ticket, key: bytes) -> str:
    """Return the text of a ticket, with a number that no other has."""
    body = json.dumps(
        {
            "instance": ticket.instance,
            "user": ticket.user,
            "roles": list(ticket.roles),
            "expires": ticket.expires,
            "number": _encode(os.urandom(12)),
        },
        separators=(",", ":"),
    ).encode()
    head = f"{VERSION}.{_encode(body)}"
    return f"{head}.{_encode(_sign(head, key))}"


class Gate:
    """Says which tickets are good at one instance, each once."""

    def __init__(self, instance: str, key: bytes) -> None:
        """Know no ticket yet."""
        self._instance = instance
        self._key = key
        self._used: dict[str, float] = {}

    def admit(self, text: str, now: float) -> Ticket:
        """Return the ticket, which is used from now on. Raises TicketError."""
        ticket = verify(text, self._key)
        if ticket.instance != self._instance:
            raise TicketError("a ticket of another instance")
        if ticket.expires <= now:
            raise TicketError("an expired ticket")
        if not ticket.expires - now <= LONGEST:  # NaN too
            raise TicketError("a ticket for too long a time")
        self._used = {number: till for number, till in self._used.items() if till > now}
        if ticket.number in self._used:
            raise TicketError("a ticket that was used")
        if len(self._used) >= KNOWN_MAX:
            raise TicketError("too many tickets at once")
        self._used[ticket.number] = ticket.expires
        return ticket

    def remembers(self, now: float) -> bool:
        """Whether it knows a ticket that would still be good otherwise."""
        return any(till > now for till in self._used.values())


def verify(text: str, key: bytes) -> Ticket:
    """Return what was signed with ``key``. Raises TicketError."""
    head, _, signature = text.rpartition(".")
    try:
        genuine = hmac.compare_digest(_decode(signature), _sign(head, key))
    except ValueError:
        genuine = False
    if len(text) > TEXT_MAX or not genuine or not head.startswith(f"{VERSION}."):
        raise TicketError("not a ticket of this instance's operator")
    try:
        body = json.loads(_decode(head.partition(".")[2]))
        roles = tuple(map(Role, body["roles"]))
        return Ticket(
            str(body["instance"]), str(body["user"]), roles, float(body["expires"]),
            str(body["number"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise TicketError("a ticket that its signer wrote wrongly") from error


def _sign(head: str, key: bytes) -> bytes:
    return hmac.digest(key, head.encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
