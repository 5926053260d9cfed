"""``donjon seccomp``: what a vassal that learned called, and the line that is enough."""

from __future__ import annotations

from collections.abc import Sequence

from donjon.emperor import client
from donjon.errors import DonjonError
from donjon.jail import seccomp_learn
from donjon.jail.seccomp_groups import GROUPS
from donjon.jail.seccomp_profile import Profile, parse
from donjon.verbs import arguments, text


def main(verb: str, words: Sequence[str]) -> int:
    """Print the groups that were used, and the line."""
    parser = arguments.parser(verb, more="The line is for a file of the operator's.")
    parser.add_argument("name", metavar="NAME", help="a vassal, or a record by its absolute path")
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    path = _path(chosen.name, chosen.control)
    lines = _read(path)
    profile = seccomp_learn.propose(lines)
    used = _by_group(lines)
    if chosen.json:
        text.as_json({"record": path, "seccomp": str(profile), "groups": used})
        return 0
    rows = [(name, " ".join(calls), _about(name)) for name, calls in used.items()]
    text.table(("GROUP", "CALLS", "WHAT FOR"), rows)
    print(f"seccomp = {profile}")
    return 0


def _path(name: str, control: str | None) -> str:
    if name.startswith("/"):
        return name
    row = client.ask("show", name=name, socket=control)["vassal"]
    for entry in row.get("entries", ()):
        profile = _profile(entry)
        if profile is not None and profile.learns:
            return seccomp_learn.path_of(profile.record, str(row["name"]))
    raise DonjonError(f"{name} does not learn", hint="seccomp = learn, and a reload")


def _profile(entry: dict[str, str]) -> Profile | None:
    return parse(entry["value"] or "") if entry["key"] == "seccomp" else None


def _read(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "it is written while the vassal runs"
        raise DonjonError(f"cannot read {path}", reason=reason, hint=hint) from error


def _by_group(lines: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in sorted(lines):
        call, _, group = line.partition(" ")
        if group in GROUPS and call not in found.get(group, ()):
            found.setdefault(group, []).append(call)
    return {name: found[name] for name in GROUPS if name in found}


def _about(name: str) -> str:
    return GROUPS[name].about
