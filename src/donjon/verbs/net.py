"""``donjon net``: the networks of vassals, and what passed through the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from donjon.emperor import client
from donjon.verbs import arguments, text

RULES = ("CHAIN", "PACKETS", "BYTES", "RULE")
HEAD = ("NAME", "NETWORK", "ADDRESS", "DEVICE", "OUT", "PACKETS", "IN", "PACKETS", "DROPPED")

PEERS = ("PEER", "LINK", "VASSALS", "FROM", "PACKETS", "TO", "PACKETS", "DROPPED", "WHY")


def main(verb: str, words: Sequence[str]) -> int:
    """Print one line a vassal that has a network of its own, or one a rule."""
    if words[:1] == ["capture"]:
        from donjon.verbs import capture  # noqa: PLC0415  (as metrics)

        return capture.main(verb, words[1:])
    more = "OUT is from the vassal, IN towards it. A large packet of an offload counts as one. "
    more += "donjon net capture NAME > FILE writes packets of a vassal: donjon net capture --help."
    parser = arguments.parser(verb, more=more)
    arguments.add_control(parser)
    arguments.add_formats(parser)
    parser.add_argument(
        "--router",
        metavar="ADDRESS",
        help="ask a tuntap-router at its tuntap-router-stats instead of an Emperor",
    )
    parser.add_argument("--rules", action="store_true", help="show what each rule counted")
    chosen = parser.parse_args(words)
    if chosen.router:
        from donjon.verbs import peers  # noqa: PLC0415  (few ask)

        peers.show(chosen.router, chosen)
        return 0
    with_rules = chosen.rules or chosen.json or chosen.openmetrics
    found = client.ask("net", socket=chosen.control, rules=with_rules)
    if chosen.openmetrics:
        from donjon.verbs import metrics  # noqa: PLC0415  (its library is slow to import)

        metrics.show(metrics.networks(found))
    elif chosen.json:
        text.as_json({key: value for key, value in found.items() if key != "ok"})
    elif chosen.rules:
        text.table(RULES, [_rule(one) for one in found.get("rules", ())])
    else:
        text.table(HEAD, [_row(one) for one in found["vassals"]])
        if found.get("peers"):
            text.line("")
            text.table(PEERS, [_peer(one) for one in found["peers"]])
    return 0


def _rule(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["chain"], str(row["packets"]), text.size(row["bytes"]), row["rule"]


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row["name"]), kind(row), " ".join(row["addresses"]) or "-", row["device"] or "-",
        *_passed(row["counters"], "out", "in"),
    )  # fmt: skip


def _peer(row: Mapping[str, Any]) -> tuple[str, ...]:
    passed = _passed(row["counters"], "from", "to")
    refused = f"{row['refused']} addresses are refused" if row["refused"] else ""
    why = "; ".join(filter(None, (row["why"], refused))) or "-"
    return (
        row["peer"], "up" if row["up"] else "down", str(len(row["vassals"])), *passed, why,
    )  # fmt: skip


def _passed(counters: Mapping[str, Any] | None, *ways: str) -> tuple[str, ...]:
    """Return bytes and packets of both ways, and what was dropped."""
    if counters is None:
        return ("-",) * 5
    words: list[str] = []
    for way in ways:
        words += [text.size(counters[way]["bytes"]), str(counters[way]["packets"])]
    drops = ", ".join(f"{count} {cause}" for cause, count in counters["drops"].items())
    return *words, drops or "0"


def kind(row: Mapping[str, Any]) -> str:
    """Return ``network`` as a file has it."""
    bridge = row["bridge"]
    return f"{row['network']}:{bridge}" if bridge else str(row["network"])
