"""``donjon check``: every problem of a file, with its line and what to do."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from donjon.config import launch as config_launch
from donjon.config import options
from donjon.config.entry import Entry
from donjon.config.launch import Advice
from donjon.config.outline import facts_of
from donjon.config.world import OutsideAccess
from donjon.emperor.plans import Plans, options_of
from donjon.errors import ConfigError, DonjonError, HookError, reason_of
from donjon.hooks import runner
from donjon.hooks.runner import HookStep
from donjon.jail import idgrant, netgrant
from donjon.jail import plan as jail_plan
from donjon.origin import Origin
from donjon.records import dataclass
from donjon.server import sockets
from donjon.verbs import applications, arguments, reading, text

EXTENSIONS = (".ini", ".xml", ".yaml", ".yml", ".json", ".js", ".toml")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong (``error``), or odd (``warning``), in a file."""

    file: str
    severity: str
    error: DonjonError

    @property
    def origin(self) -> Origin:
        """The place at fault; the file as a whole where none is known."""
        origin = self.error.origin
        return origin if origin and origin.source != "command line" else Origin(self.file)

    @property
    def place(self) -> str:
        """File and line, as editors and compilers write them."""
        return _place(self.origin)

    def __str__(self) -> str:
        what = self.error
        bare = DonjonError(what.what, reason=what.reason, hint=what.hint)
        option = f"{self.origin.option}: " if self.origin.option else ""
        return f"{self.place}: {self.severity}: {option}{bare}"

    def to_json(self) -> dict[str, object]:
        """Return the problem as values for programs."""
        origin = self.origin
        return {
            "file": origin.source,
            "line": origin.line,
            "option": origin.option,
            "severity": self.severity,
            "what": self.error.what,
            "reason": self.error.reason,
            "hint": self.error.hint,
        }


def _place(origin: Origin) -> str:
    return f"{origin.source}:{origin.line}" if origin.line else origin.source


def main(verb: str, words: Sequence[str]) -> int:
    """Print the problems of files; 1 if one of them would not start."""
    parser = arguments.parser(verb, more="The status is 1 if a file has an error, else 0.")
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="configuration, FILE[:SECTION], or directory"
    )
    parser.add_argument(
        "--customer",
        action="store_true",
        help="judge as an Emperor in tyrant mode does: no option of the operator's",
    )
    parser.add_argument("--strict", action="store_true", help="a warning is an error, too")
    reading.add_world(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    files = [file for given in chosen.files for file in _files(given)]
    found = {file: problems(file, chosen) for file in files}
    if chosen.json:
        text.as_json([each.to_json() for all_ in found.values() for each in all_])
    else:
        _print(found)
    bad = [each for all_ in found.values() for each in all_]
    return 1 if any(chosen.strict or each.severity == "error" for each in bad) else 0


def _files(given: str) -> list[str]:
    """Return the configurations of a directory, as an Emperor finds them, or the file itself."""
    if not os.path.isdir(given):
        return [given]
    names = sorted(os.listdir(given))
    return [os.path.join(given, name) for name in names if name.endswith(EXTENSIONS)]


def _print(found: dict[str, list[Problem]]) -> None:
    for file, all_ in found.items():
        for each in all_:
            text.line(str(each))
        if not all_:
            print(f"{text.printable(file)}: {text.paint('ok', text.GREEN)}")


def problems(file: str, chosen: argparse.Namespace) -> list[Problem]:
    """Return all that is wrong or odd with one file."""
    try:
        evaluation = reading.read(file, chosen)
    except OutsideAccess as error:
        error.hint = "--open allows it"
        return [Problem(file, "warning", error)]
    except DonjonError as error:
        return [Problem(file, "error", error)]
    except OSError as error:
        return [
            Problem(file, "error", ConfigError(f"cannot read {file}", reason=reason_of(error)))
        ]
    found = [Problem(file, "warning", ConfigError(each)) for each in evaluation.warnings]
    for each in config_launch.problems(evaluation.entries, customer=chosen.customer):
        found.append(Problem(file, "warning" if isinstance(each, Advice) else "error", each))
    found.extend(_jail_problems(file, _usable(evaluation.entries, found)))
    return _in_order(found)


def _usable(entries: Sequence[Entry], found: Sequence[Problem]) -> list[Entry]:
    """Return the entries that can be built: not at fault, and without a warning to repeat."""
    bad = {each.place for each in found if each.severity == "error"}
    return [each for each in entries if _place(each.origin) not in bad and _is_built(each.key)]


def _is_built(key: str) -> bool:
    row = options.find(key)
    return row is not None and row.built


def _jail_problems(file: str, entries: Sequence[Entry]) -> list[Problem]:
    """Return what the plan refuses: an unknown user, a missing root, hooks that are none."""
    found = []
    steps: list[HookStep] = []
    try:
        launch = config_launch.build(entries)
        facts = facts_of(launch)
        for hook in launch.hooks:
            try:
                steps += runner.steps([hook], facts)
            except HookError as error:
                found.append(Problem(file, "error", error))
        name = os.path.abspath(file)
        jail = idgrant.settle(launch.jail, name, preview=True)
        jail = netgrant.settle(jail, name, None, preview=True)
        if launch.emperor is not None:
            for plan in Plans.load(launch.emperor).plans.values():
                options_of(plan)
        jail_plan.build(jail, steps, root=True)
        found += [Problem(file, "error", each) for each in sockets.problems(launch.server)]
        found += [Problem(file, "warning", each) for each in applications.problems(launch)]
    except DonjonError as error:
        found.append(Problem(file, "error", error))
    return found


def _in_order(found: Sequence[Problem]) -> list[Problem]:
    """Return problems by file, in which they were met, and line."""
    files = list(dict.fromkeys(each.origin.source for each in found))
    return sorted(found, key=lambda each: (files.index(each.origin.source), each.origin.line))
