"""The numbers behind words of the language: protocols, ICMP types, verdicts, states.

Sources: IANA's protocol numbers; RFC 792, 950, 1256, 2710, 3810, 4443 and 4861; the words are
those of nft(8).
"""

from __future__ import annotations

from donjon.tuntap.rules.model import Direction, State, Verdict

DIRECTIONS = {"in": Direction.IN, "out": Direction.OUT}

VERDICTS = {
    "accept": Verdict.ACCEPT,
    "allow": Verdict.ACCEPT,
    "drop": Verdict.DROP,
    "deny": Verdict.DROP,
    "reject": Verdict.REJECT,
}

STATES = {
    "new": State.NEW,
    "established": State.ESTABLISHED,
    "related": State.RELATED,
    "invalid": State.INVALID,
}

TCP = 6
UDP = 17
ICMP = 1
ICMPV6 = 58

PROTOCOLS = {
    "icmp": ICMP,
    "igmp": 2,
    "tcp": TCP,
    "udp": UDP,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": ICMPV6,
    "sctp": 132,
    "udplite": 136,
}

ICMP_TYPES = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}

ICMPV6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "mld2-listener-report": 143,
}

SECOND_NS = 1_000_000_000

UNITS = {
    "second": SECOND_NS,
    "minute": 60 * SECOND_NS,
    "hour": 3600 * SECOND_NS,
    "day": 86400 * SECOND_NS,
}
