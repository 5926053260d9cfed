"""``donjon net --router``: the statistics of a ``tuntap-router`` without an Emperor."""

from __future__ import annotations

import argparse
import json
from typing import Any

from donjon.errors import DonjonError, reason_of
from donjon.origin import Origin
from donjon.tuntap import endpoint
from donjon.verbs import text

HEAD = ("ADDRESS", "PID", "OUT", "IN", "DROPPED")
PATIENCE = 5.0
"""Seconds for each part of an answer."""

MOST = 64 << 20
"""Bytes of an answer."""


def show(address: str, chosen: argparse.Namespace) -> None:
    """Print a line a peer, or as ``chosen`` has it. Raises DonjonError."""
    found = read(address)
    if chosen.openmetrics:
        from donjon.verbs import metrics  # noqa: PLC0415  (its library is slow to import)

        metrics.show(metrics.router(found))
    elif chosen.json:
        text.as_json(found)
    elif chosen.rules:
        rows = [(one["identity"], one["packets"], one["bytes"]) for one in found["rules"]]
        text.table(("RULE", "PACKETS", "BYTES"), rows)
    else:
        text.table(HEAD, [_row(one) for one in found["peers"]])


def read(address: str) -> dict[str, Any]:
    """Return the statistics that are served at an address. Raises DonjonError."""
    data = b""
    try:
        with endpoint.connect(address, Origin("command line"), PATIENCE) as stream:
            stream.settimeout(PATIENCE)
            while len(data) <= MOST and (block := stream.recv(1 << 16)):
                data += block
        found = json.loads(data)
    except OSError as error:
        raise DonjonError(f"no statistics from {address}", reason=reason_of(error)) from error
    except ValueError as error:
        raise DonjonError(f"no statistics from {address}", reason="it is no JSON") from error
    if not isinstance(found, dict) or "peers" not in found or "firewall" not in found:
        raise DonjonError(
            f"no statistics from {address}",
            reason="it is no router of ours",
            hint="tuntap-router-stats = ADDRESS",
        )
    return found


def _row(peer: dict[str, Any]) -> tuple[str, ...]:
    return (
        " ".join(peer["addresses"]) or "-",
        str(peer["pid"] or "-"),
        str(peer["out_packets"]),
        str(peer["in_packets"]),
        ", ".join(f"{count} {cause}" for cause, count in peer["drops"].items()) or "0",
    )
