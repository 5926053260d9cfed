"""``donjon net capture``: packets of one vassal as a pcap file, for tcpdump and its like."""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
from collections.abc import Sequence
from typing import BinaryIO

from donjon.emperor import client
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.verbs import arguments

HEADER = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101)
"""pcap-savefile(5): times in nanoseconds, version 2.4, packets of LINKTYPE_RAW (IPv4 or IPv6)."""

_RECORD = 65535 + 16

DEFAULTS = {"packets": 100_000, "bytes": 64 << 20, "seconds": 60}


def main(verb: str, words: Sequence[str]) -> int:
    """Capture until a bound, the end of the vassal's network, or Ctrl-C."""
    chosen = _parser(verb).parse_args(words)
    bounds = {key: getattr(chosen, key) for key in DEFAULTS}
    with (
        client.capturing(chosen.name, socket=chosen.control, **bounds) as (stream, end),
        _file(chosen.write) as file,
    ):
        _copy(stream, file)
        counts = end()
    print(
        f"donjon: {counts['captured']} packets captured, {counts['lost']} lost to a slow reader",
        file=sys.stderr,
    )
    return 0


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = arguments.parser(verb, more="Packets towards the vassal are those that rules accept; "
                              "packets from it are all. Those of an offload are large, and their "
                              "checksums are still to be made.")  # fmt: skip
    parser.prog += " capture"
    parser.description = "Write packets of a vassal, both ways, as a pcap file"
    arguments.add_control(parser)
    for key, value in DEFAULTS.items():
        parser.add_argument(
            f"--{key}", type=int, default=value, metavar="N", help=f"at most (default: {value})"
        )
    parser.add_argument("-w", dest="write", metavar="FILE", help="write to FILE instead of stdout")
    parser.add_argument("name", metavar="NAME", help="a vassal: shop.ini, or shop")
    return parser


def _file(path: str | None) -> BinaryIO:
    """Open where packets go. Raises DonjonError."""
    if path is None:
        if sys.stdout.isatty():
            raise DonjonError(
                "packets are nothing for a terminal", hint="redirect output to a file, or -w FILE"
            )
        return os.fdopen(os.dup(1), "wb", buffering=0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with Fd(os.open(path, flags, 0o600)) as file:
            return os.fdopen(file.release(), "wb", buffering=0)
    except OSError as error:
        raise DonjonError(f"cannot write {path}", reason=reason_of(error)) from error


def _copy(stream: socket.socket, file: BinaryIO) -> None:
    """Write what comes until its end, or until Ctrl-C."""
    try:
        _write(file, HEADER)
        while record := stream.recv(_RECORD):
            _write(file, record)
    except KeyboardInterrupt:
        return


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
