"""Sessions of ``donjon attach`` that outlive it: begun, come back to, watched, listed.

They are held outside of the jail by the Emperor's porter (``emperor.terminals``); this is a client
of the operators' door of a vassal.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

from donjon.emperor import client as control
from donjon.errors import DonjonError, UsageError
from donjon.fork_pty import client, protocol
from donjon.fork_pty.client import Wish
from donjon.fork_pty.protocol import Answers, ProtocolError, Word
from donjon.verbs import text

NAME = "main"
"""The session that is meant where none is named."""

DOINGS = {
    "keep": "begin a session that goes on without us, or come back to it; Ctrl-\\ leaves",
    "watch": "look on at such a session, type nothing; Ctrl-C leaves",
    "take": "come back to it and drive, whoever drives now",
}  # fmt: skip
PATIENCE = 10.0
"""Seconds for the list of sessions."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add what asks for a session, before NAME."""
    group = parser.add_mutually_exclusive_group()
    for name, about in DOINGS.items():
        group.add_argument(f"--{name}", action="store_const", const=NAME,
                           help=f"{about}; behind NAME with a session's name")  # fmt: skip
    group.add_argument("--list", action="store_true", help="list such sessions")


def parse_rest(chosen: argparse.Namespace, prog: str) -> None:
    """Take what asks for a session out of what stands behind NAME."""
    rest = chosen.command
    if not rest or not rest[0].startswith("--") or rest[0] == "--":
        return
    parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False, add_help=False)
    group = parser.add_mutually_exclusive_group()
    for name in DOINGS:
        group.add_argument(f"--{name}", nargs="?", const=NAME, metavar="SESSION")
    group.add_argument("--list", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    before = {name: getattr(chosen, name) for name in (*DOINGS, "list")}
    parser.parse_args(rest, chosen)
    found = [name for name in before if getattr(chosen, name)]
    if any(before.values()) or len(found) > 1:
        raise UsageError("one of --keep, --watch, --take and --list can be asked for")


def asked(chosen: argparse.Namespace) -> str:
    """Return what is wanted of sessions, "" for nothing."""
    return next((name for name in (*DOINGS, "list") if getattr(chosen, name)), "")


def main(chosen: argparse.Namespace, command: Sequence[str]) -> int:
    """Do what is asked; return the program's status, 0 for one that goes on."""
    doing = asked(chosen)
    if chosen.record or chosen.record_keys:
        raise DonjonError(
            f"--{doing} does not write a record here",
            hint="the Emperor keeps them: emperor-terminals-record = DIR",
        )
    if command and doing != "keep":
        raise UsageError(f"--{doing} begins nothing, so there is no COMMAND")
    path = control.ask_root("desk", name=chosen.name, socket=chosen.control)["path"]
    if doing == "list":
        return _list(path)
    hello: dict[str, object] = {
        "session": getattr(chosen, doing), "keep": doing == "keep", "watch": doing == "watch",
        "take": doing == "take", "term": os.environ.get("TERM", "")[:64],
    }  # fmt: skip
    if doing == "take":
        hello["keep"] = True
    if command:
        hello["command"] = list(command)
    if len(json.dumps(hello)) > protocol.CONTROL_MAX - 64:
        raise DonjonError("the command is too long for a kept session", hint="put it in a file")
    return client.connect(path, Wish(filtered=chosen.no_answers, hello=hello))


def _list(path: str) -> int:
    rows = [
        [str(row["name"]), str(row["number"]), f"{row['seconds']} s", f"{row['silent']} s",
         str(len(row["clients"]))]
        for row in sessions(path)
    ]  # fmt: skip
    text.table(("session", "number", "age", "silent", "clients"), rows)
    return 0


def sessions(path: str) -> list[dict[str, Any]]:
    """Return the sessions behind an operators' door. Raises DonjonError."""
    answers, found = Answers(), []
    with client.dial(path) as link:
        link.settimeout(PATIENCE)
        try:
            link.sendall(protocol.said(Word.HELLO, list=True))
            while data := link.recv(client.PIECE):
                for word, body in answers.feed(data):
                    news = json.loads(body) if word == Word.NEWS else {}
                    if news.get("news") == "refused":
                        raise DonjonError("the router refuses", reason=str(news.get("why")))
                    if news.get("news") == "session":
                        found.append(news)
        except (OSError, ValueError, ProtocolError) as error:
            raise DonjonError("cannot list sessions", reason=str(error)) from error
    return found
