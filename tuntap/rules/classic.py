"""The chains of ``tuntap-router-firewall-in`` and ``-out``: ``ACTION [SRC[/N] DST[/N]]``.

Each value is a rule of its chain, the first that matches decides, and what none matches is allowed
(TUN-04 .. TUN-07). An action alone is for every packet; 0.0.0.0 is any address of either family,
whatever its mask. Bits beyond a mask are ignored, as in the original; its slips are not kept
(uwsgi-facts 5.5): /0 is every address of the family, and a rule without its destination, or with
an action that is neither allow nor deny, is an error instead of nothing or of "allow".
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from donjon.origin import Origin
from donjon.tuntap.rules.addresses import whole
from donjon.tuntap.rules.model import Addresses, Direction, Rule, Ruleset, Verdict
from donjon.tuntap.rules.parser import MAX_RULES
from donjon.tuntap.rules.tokens import MAX_LINE, RuleError, shown

ACTIONS = {"allow": Verdict.ACCEPT, "deny": Verdict.DROP}
_HINT = "ACTION [SRC[/N] DST[/N]], as: deny 192.168.0.0/24 0.0.0.0"

Line = tuple[str, Origin]


def chains(incoming: Iterable[Line], outgoing: Iterable[Line]) -> Ruleset:
    """Return both chains. Raises RuleError.

    ``incoming`` and ``outgoing``: the values of the two options, in their order.
    """
    rules = [rule(Direction.IN, text, origin) for text, origin in incoming]
    rules += [rule(Direction.OUT, text, origin) for text, origin in outgoing]
    if len(rules) > MAX_RULES:
        raise RuleError(f"more than {MAX_RULES} rules", origin=rules[MAX_RULES].origin)
    return Ruleset(tuple(rules), dict.fromkeys(Direction, Verdict.ACCEPT))


def rule(direction: Direction, text: str, origin: Origin) -> Rule:
    """Return one rule of a chain. Raises RuleError."""
    words = text.split()
    if len(text) > MAX_LINE or len(words) not in {1, 3}:
        raise RuleError(
            f"expected an action, a source and a destination, found {shown(text)!r}",
            origin=origin,
            hint=_HINT,
        )
    if words[0] not in ACTIONS:
        raise RuleError(
            f"expected 'allow' or 'deny', found {shown(words[0])!r}", origin=origin, hint=_HINT
        )
    ends = [_end(word, origin) for word in words[1:]] or [None, None]
    return Rule(
        direction,
        ACTIONS[words[0]],
        origin,
        " ".join([direction.name.lower(), *words]),
        source=ends[0],
        destination=ends[1],
    )


def _end(word: str, origin: Origin) -> Addresses | None:
    """Return the addresses of ``A[/N]``, or None for any."""
    try:
        network = _network(word)
    except ValueError:
        raise RuleError(
            f"expected an address with or without /LENGTH, found {shown(word)!r}",
            origin=origin,
            hint=_HINT,
        ) from None
    return Addresses((whole(network),)) if network else None


def _network(word: str) -> IPv4Network | IPv6Network | None:
    """Return a network, or None for any. Raises ValueError; a mask is a number of bits."""
    address, slash, length = word.partition("/")
    if slash and not (length.isascii() and length.isdigit()):
        raise ValueError(length)
    network = ip_network(word, strict=False)
    if network.version == 6 and network.network_address.ipv4_mapped is not None:
        raise ValueError(word)
    return None if address == "0.0.0.0" else network
