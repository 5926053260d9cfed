"""``donjon audit``: how tight a running jail is, seen from outside and tried from inside."""

from __future__ import annotations

from collections.abc import Sequence

from donjon.emperor import client
from donjon.errors import DonjonError
from donjon.verbs import arguments, text
from donjon.verbs.auditing import checks, facts, inside
from donjon.verbs.auditing.checks import Verdict

_MARKS = {True: ("ok", text.GREEN), False: ("weak", text.RED), None: ("?", text.YELLOW)}


def main(verb: str, words: Sequence[str]) -> int:
    """Print the verdicts and the score; 1 if it is below what was asked for."""
    more = "NAME may be the pid of an instance that has no Emperor."
    parser = arguments.parser(verb, more=more)
    parser.add_argument("name", metavar="NAME", help="a vassal: shop.ini, or shop")
    parser.add_argument(
        "--at-least", metavar="N", type=int, default=0, help="fail if the score is below N"
    )
    parser.add_argument("--outside", action="store_true", help="look only, send nobody in")
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    seen = _gather(chosen.name, chosen.control)
    verdicts = checks.judge(seen)
    if not chosen.outside:
        verdicts += inside.attempts(seen)
    points = checks.score(verdicts)
    if chosen.json:
        found = [one.to_json() for one in verdicts]
        pids = [one.pid for one in seen.processes]
        text.as_json(
            {"score": points, "word": checks.word(points), "pids": pids, "findings": found}
        )
    else:
        _print(verdicts, points)
    return 0 if points >= chosen.at_least else 1


def _gather(name: str, control: str | None) -> facts.Facts:
    if name.isdecimal():
        return facts.gather(int(name))
    row = client.ask("show", name=name, socket=control)["vassal"]
    if int(row["pid"]) <= 0:
        raise DonjonError(f"{name} does not run", hint=f"donjon show {name} says why")
    return facts.gather(int(row["pid"]), tuple(row.get("plan", ())))


def _print(verdicts: Sequence[Verdict], points: int) -> None:
    area = ""
    for one in verdicts:
        if one.area != area:
            area = one.area
            print(text.paint(area, text.BOLD))
        mark, colour = _MARKS[one.good]
        detail = f": {text.printable(one.detail)}" if one.detail else ""
        print(f"  {text.paint(mark.ljust(4), colour)} {one.weight:>2}  {one.name}{detail}")
        if one.advice:
            print(f"           -> {one.advice}")
    print(f"score {points} of 100: {checks.word(points)}")
