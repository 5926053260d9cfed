"""``donjon doctor``: what this host allows, and how to get the rest.

Nothing is guessed from version numbers: each ability is tried, in a child where a try leaves a
trace (``probes``). A finding that the main job cannot do without is ``missing``, one that narrows
it is ``warn``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from donjon.verbs import arguments, text
from donjon.verbs.finding import Finding, Level
from donjon.verbs.probes import cgroups, kernel, namespaces, python

COLOURS = {Level.OK: text.GREEN, Level.WARN: text.YELLOW, Level.MISSING: text.RED}
WIDTH = max(len(level.value) for level in Level)


def main(verb: str, words: Sequence[str]) -> int:
    """Print findings; 0 if the main job can run, else 1."""
    more = "The status is 0 if an Emperor can keep jailed applications here, else 1."
    parser = arguments.parser(verb, more=more)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    found = list(findings())
    able = all(each.level is not Level.MISSING for each in found)
    if chosen.json:
        text.as_json({"able": able, "findings": [each.to_json() for each in found]})
    else:
        _print(found, able=able)
    return 0 if able else 1


def findings() -> Iterator[Finding]:
    """Yield every finding, by area."""
    yield from kernel.findings()
    yield from namespaces.findings()
    yield from cgroups.findings()
    yield from python.findings()


def _print(found: Sequence[Finding], *, able: bool) -> None:
    area = ""
    for each in found:
        if each.area != area:
            area = each.area
            print(text.paint(area, text.BOLD))
        mark = text.paint(each.level.value.ljust(WIDTH), COLOURS[each.level])
        detail = f": {text.printable(each.detail)}" if each.detail else ""
        print(f"  {mark}  {each.name}{detail}")
        if each.remedy and each.level is not Level.OK:
            print(f"  {' ' * WIDTH}  -> {each.remedy}")
    print("the main job can run here" if able else "the main job cannot run here")
