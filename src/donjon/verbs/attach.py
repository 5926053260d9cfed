"""``donjon attach``: a terminal of a running vassal's jail, shown on this one.

No router is needed: the command enters the jail as that of ``donjon enter`` does, and makes its
terminal there. Without a terminal here, input and output are pipes, as for ``ssh HOST COMMAND``.
"""

from __future__ import annotations

import argparse
import functools
import os
import socket
import time
from collections.abc import Mapping, Sequence

from donjon import log
from donjon.emperor import client, doorway
from donjon.errors import DonjonError
from donjon.fork_pty import attach, shell
from donjon.fork_pty.answerback import Filter
from donjon.fork_pty.record import Record
from donjon.jail import envoy, join
from donjon.verbs import arguments, sessions

SHELL = ("/bin/sh",)
HUNG_UP = 129


def main(verb: str, words: Sequence[str]) -> int:
    """Run the command and return its exit status; 126 and 127 as a shell, 128+N for a signal."""
    parser = arguments.parser(
        verb,
        more="The command has a terminal of the jail's own, and everything else as with "
        "donjon enter. Without one it is a shell.",
    )
    arguments.add_control(parser)
    parser.add_argument("--record", metavar="DIR", help="write an asciicast of it to a file there")
    parser.add_argument("--record-keys", action="store_true", help="record what is typed as well")
    parser.add_argument("--no-answers", action="store_true",
                        help="take questions to this terminal out of the output")  # fmt: skip
    sessions.add(parser)
    parser.add_argument("name", metavar="NAME", help="a vassal")
    parser.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="and its arguments"
    )
    chosen = parser.parse_args(words)
    sessions.parse_rest(chosen, parser.prog)
    if os.geteuid() != 0:
        raise DonjonError("only root can attach to a jail")
    given = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if sessions.asked(chosen):
        return sessions.main(chosen, given)
    command = given or SHELL
    attaches = os.isatty(0) and os.isatty(1)
    if not attaches:
        _refuse_half_a_terminal()
    answer = client.ask_root("enter", name=chosen.name, socket=chosen.control)
    door = doorway.door(answer["door"])
    began, status = time.monotonic(), DonjonError.exit_status
    try:
        if attaches:
            status = _attach(door, command, chosen)
        else:
            status = join.run(door, command, _environment(chosen.name))
    except join.ExecError as error:
        status = error.exit_status
        raise
    finally:
        _say_left(chosen, time.monotonic() - began, status)
    return status


def _say_left(chosen: argparse.Namespace, seconds: float, status: int) -> None:
    """Tell the Emperor, for its log. The status stays the command's if he is gone."""
    try:
        client.ask("left", name=chosen.name, socket=chosen.control,
                   seconds=round(seconds, 1), status=status)  # fmt: skip
    except DonjonError as error:
        log.write(f"donjon: the Emperor does not know that you have left: {error}")


def _refuse_half_a_terminal() -> None:
    """A terminal of the operator's that a command of the jail's holds could be read by it."""
    held = [number for number in range(3) if os.isatty(number)]
    if held:
        names = ("input", "output", "errors")
        raise DonjonError(
            "cannot attach with half a terminal",
            reason=f"the jail would get yours as its {names[held[0]]}",
            hint="redirect all three of input, output and errors, or only errors",
        )


def _environment(name: str) -> Mapping[str, str]:
    """Return what the command finds; root's own variables are not for a jail."""
    own = {key: value for key, value in os.environ.items() if key in ("TERM", "TZ")}
    spoken = {k: v for k, v in os.environ.items() if k.startswith("LC_") or k == "LANG"}
    return {**own, **spoken, "PATH": shell.PATH, "HOME": "/", "DONJON_VASSAL": name}


def _attach(door: join.Door, command: Sequence[str], chosen: argparse.Namespace) -> int:
    rows, cols = shell.get_size(0)
    record = None
    if chosen.record:
        name = chosen.name.rpartition("/")[2]
        record = Record(chosen.record, name, rows, cols, with_keys=chosen.record_keys)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            take = functools.partial(shell.give_terminal, theirs.fileno(), rows, cols)
            terminal = envoy.Terminal(take, theirs.fileno())
            joined = join.start(door, command, _environment(chosen.name), terminal)
        with joined:
            master = shell.receive_terminal(ours)
            ended = True
            if master is not None:
                screen = Filter() if chosen.no_answers else None
                leader = shell.Leader(joined.leader())
                shell.let_go(ours)
                with master:
                    ended = attach.show(
                        master, joined.fileno(), leader, screen=screen, record=record
                    )
            if record is not None:
                record.close()
            return _status(joined) if ended else HUNG_UP


def _status(joined: join.Joined) -> int:
    """Wait for the end. Raises ExecError if the command did not begin."""
    while (status := joined.poll()) is None:
        os.waitid(os.P_PIDFD, joined.fileno(), os.WEXITED | os.WNOWAIT)
    return status
