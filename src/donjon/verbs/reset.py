"""``donjon reset``: take away what a jail wrote over its layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from donjon.config import launch as config_launch
from donjon.emperor import client
from donjon.errors import DonjonError, JailError
from donjon.jail import overlay, rootspec
from donjon.verbs import arguments, reading


def main(verb: str, words: Sequence[str]) -> int:
    """Empty the upper layer of a vassal that is stopped, or of a file."""
    parser = arguments.parser(verb, more="The rootfs must be overlay:LOWER:UPPER.")
    parser.add_argument("name", metavar="NAME", nargs="?", help="a vassal: shop.ini, or shop")
    parser.add_argument("--file", metavar="FILE", help="a configuration instead of a vassal")
    reading.add_world(parser)
    arguments.add_control(parser)
    chosen = parser.parse_args(words)
    if bool(chosen.name) == bool(chosen.file):
        parser.error("name a vassal, or give --file FILE")
    if chosen.file:
        who = chosen.file
        root = config_launch.build(reading.read(chosen.file, chosen).entries).jail.rootfs
    else:
        row = client.ask("show", name=chosen.name, socket=chosen.control)["vassal"]
        who, root = str(row["name"]), _root_of(row)
    upper = _upper(who, root)
    if os.geteuid() != 0:
        raise JailError(f"cannot reset {upper}", reason="only root may")
    overlay.to_base(upper)
    print(f"{who} begins at its base: {upper} is empty")
    return 0


def _root_of(row: dict[str, Any]) -> str | None:
    """Return what a vassal that does not run asks for. Raises DonjonError for one that runs."""
    if int(row["pid"]) > 0:
        raise DonjonError(
            f"cannot reset {row['name']}", reason="it runs", hint=f"donjon stop {row['name']}"
        )
    if "entries" not in row:
        raise DonjonError(
            f"cannot reset {row['name']}",
            reason="the Emperor could not read its file",
            hint="donjon reset --file FILE",
        )
    found = [one["value"] for one in row["entries"] if one["key"] == "rootfs"]
    return found[-1] if found else None


def _upper(who: str, root: str | None) -> str:
    try:
        kind = rootspec.parse(root) if root else None
    except ValueError as error:
        raise DonjonError(f"rootfs {root} of {who}", reason=str(error)) from error
    if not isinstance(kind, rootspec.OverlayRoot) or kind.upper is None:
        raise DonjonError(
            f"{who} has nothing to reset",
            reason=f"its rootfs is {root or 'the host'}, which keeps no changes of its own",
            hint="rootfs = overlay:LOWER:UPPER does",
        )
    return kind.upper
