"""``donjon reload``, ``stop`` and ``start``: an order for each vassal named."""

from __future__ import annotations

from collections.abc import Sequence

from donjon import log
from donjon.emperor import client
from donjon.errors import DonjonError
from donjon.verbs import arguments, text


def main(verb: str, words: Sequence[str]) -> int:
    """Give the order; 1 if one of the vassals could not be told, the others are."""
    parser = arguments.parser(verb)
    parser.add_argument("names", metavar="NAME", nargs="*", default=[], help="vassals")
    parser.add_argument("--all", action="store_true", help="every vassal")
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    if bool(chosen.names) == chosen.all:
        parser.error("name vassals, or give --all")
    names = chosen.names
    if chosen.all:
        names = [row["name"] for row in client.ask("ls", socket=chosen.control)["vassals"]]
    answers = [_tell(verb, name, chosen.control) for name in names]
    if chosen.json:
        text.as_json(answers)
    else:
        _print(answers)
    return 0 if all(answer["ok"] for answer in answers) else 1


def _tell(verb: str, name: str, control: str | None) -> dict[str, object]:
    try:
        answer = client.ask(verb, name=name, socket=control)
    except DonjonError as error:
        return {"name": name, "ok": False, "text": str(error)}
    return {"name": name, "ok": True, "text": answer["done"]}


def _print(answers: Sequence[dict[str, object]]) -> None:
    for answer in answers:
        shown = text.printable(str(answer["text"]))
        if answer["ok"]:
            print(shown)
        else:
            log.write(f"donjon: {shown}")
