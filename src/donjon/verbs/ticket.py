"""``donjon ticket``: sign what gives a terminal of one instance, once, for a short time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from donjon.errors import UsageError
from donjon.fork_pty import ticket
from donjon.fork_pty.peer import Role
from donjon.verbs import arguments

SECONDS = 60


def main(verb: str, words: Sequence[str]) -> int:
    """Print the ticket."""
    parser = arguments.parser(
        verb,
        more="The router has forkpty-auth = ticket and the same key. NAME is the vassal's name "
        "without its ending, or the host's name where there is no Emperor.",
    )
    parser.add_argument(
        "--key", metavar="FILE", required=True, help="the key of forkpty-ticket-key"
    )
    parser.add_argument("--user", metavar="WHO", default="-", help="whom the audit names")
    parser.add_argument(
        "--role", choices=list(Role), action="append", help="drive if none is given"
    )
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"{SECONDS} if not given")
    parser.add_argument("name", metavar="NAME", help="the instance")
    chosen = parser.parse_args(words)
    if not 0 <= chosen.seconds <= ticket.LONGEST:
        raise UsageError(f"a ticket is good for 0 to {ticket.LONGEST} seconds")
    roles = tuple(Role(role) for role in chosen.role or [Role.DRIVE])
    expires = time.time() + chosen.seconds
    wanted = ticket.Ticket(chosen.name, chosen.user, roles, expires)
    print(ticket.issue(wanted, ticket.read_key(chosen.key)))
    return 0
