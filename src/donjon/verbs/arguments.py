"""What the verbs' command lines have in common."""

from __future__ import annotations

import argparse

from donjon import verbs
from donjon.emperor.client import DEFAULT_SOCKET


def parser(verb: str, *, more: str = "") -> argparse.ArgumentParser:
    """Return a parser for a verb; wrong usage ends the process with status 2."""
    return argparse.ArgumentParser(
        prog=f"donjon {verb}",
        description=verbs.VERBS[verb][1] + ".",
        epilog=more or None,
        allow_abbrev=False,
    )


def add_json(to: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    to.add_argument("--json", action="store_true", help="print for programs")


def add_formats(to: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--openmetrics``, of which one can be asked for."""
    formats = to.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print for programs")
    formats.add_argument(
        "--openmetrics", action="store_true", help="print counters for Prometheus and its like"
    )


def add_control(to: argparse.ArgumentParser) -> None:
    """Add ``--control``, the socket of the Emperor to ask."""
    to.add_argument(
        "--control",
        metavar="SOCKET",
        default=None,
        help=f"control socket of the Emperor (default: {DEFAULT_SOCKET})",
    )
