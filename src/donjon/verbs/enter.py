"""``donjon enter``: a command in the jail of a running vassal, as confined as the vassal is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from donjon.emperor import client, doorway
from donjon.errors import DonjonError
from donjon.jail import join
from donjon.verbs import arguments

SHELL = ("/bin/sh",)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = ("TERM", "LANG", "LANGUAGE", "TZ")
"""Variables of the caller's that say nothing about him; with them those of the locale."""


def main(verb: str, words: Sequence[str]) -> int:
    """Run the command and return its exit status; 126 and 127 as a shell, 128+N for a signal."""
    parser = arguments.parser(
        verb,
        more="The command has the vassal's namespaces, root, control groups, user, capabilities "
        "and limits, and this terminal's input and output. Without one it is a shell.",
    )
    arguments.add_control(parser)
    parser.add_argument("name", metavar="NAME", help="a vassal")
    parser.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="and its arguments"
    )
    chosen = parser.parse_args(words)
    if os.geteuid() != 0:
        raise DonjonError("only root can enter a jail")
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    answer = client.ask_root("enter", name=chosen.name, socket=chosen.control)
    return join.run(doorway.door(answer["door"]), command or SHELL, _environment(chosen.name))


def _environment(name: str) -> dict[str, str]:
    """Return what the command finds; root's own variables are not for a jail."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in PASSED_ON or key.startswith("LC_")
    }
    return {**kept, "PATH": PATH, "HOME": "/", "DONJON_VASSAL": name}
