"""``donjon logs``: what a vassal wrote, and writes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from donjon.emperor import client
from donjon.verbs import arguments, text

LINES = 20


def main(verb: str, words: Sequence[str]) -> int:
    """Print the last lines of a vassal's log; with ``-f`` each new one until interrupted."""
    parser = arguments.parser(verb)
    parser.add_argument("name", metavar="NAME", help="a vassal")
    parser.add_argument("-n", "--lines", type=_count, default=LINES, help="how many (default: 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with each new line")
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    if chosen.follow:
        return _follow(chosen)
    answer = client.ask("logs", name=chosen.name, socket=chosen.control, lines=chosen.lines)
    if chosen.json:
        text.as_json(answer["lines"])
        return 0
    for each in answer["lines"]:
        text.line(each)
    return 0


def _follow(chosen: argparse.Namespace) -> int:
    for each in client.follow(chosen.name, socket=chosen.control, lines=chosen.lines):
        if chosen.json:
            text.as_json(each)
        else:
            text.line(each)
        sys.stdout.flush()
    return 0


def _count(word: str) -> int:
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word} is no number of lines")
    return int(word)
