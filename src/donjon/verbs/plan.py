"""``donjon plan``: the steps of a start, in order, each with the line that asked for it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from typing import Any

from donjon.config import launch as config_launch
from donjon.config.outline import steps_of
from donjon.config.spec import EmperorSpec, Launch
from donjon.emperor import client, plans
from donjon.jail import idgrant, netgrant
from donjon.jail import plan as jail_plan
from donjon.jail.plan import Plan
from donjon.jail.spec import JailSpec
from donjon.records import replace
from donjon.verbs import arguments, reading, text


def main(verb: str, words: Sequence[str]) -> int:
    """Print the plan of a file; with ``--diff`` what it changes, and 1 if it changes anything."""
    parser = arguments.parser(verb, more="Nothing is done, and no privilege is needed.")
    parser.add_argument("file", metavar="FILE", help="configuration, as FILE[:SECTION]")
    parser.add_argument(
        "--clone",
        metavar="WORDS",
        default="",
        help="namespaces the process is born in, as emperor-use-clone: pid,net,uts",
    )
    parser.add_argument(
        "--plans", metavar="FILE", help="file of hosting plans, to show what FILE's is made of"
    )
    parser.add_argument("--diff", metavar="NAME", help="compare with the running vassal NAME")
    reading.add_world(parser)
    arguments.add_control(parser)
    arguments.add_json(parser)
    chosen = parser.parse_args(words)
    launch = config_launch.build(reading.read(chosen.file, chosen).entries)
    if chosen.plans:
        launch = _furnished(launch, chosen.file, chosen.plans)
    name = os.path.abspath(chosen.file.partition(":")[0])
    jail = idgrant.settle(launch.jail, name, preview=True)
    launch = replace(launch, jail=netgrant.settle(jail, name, None, preview=True))
    if chosen.diff:
        return _diff(chosen.diff, chosen.control, launch)
    plan = plan_of(launch, frozenset(filter(None, chosen.clone.split(","))))
    if chosen.json:
        text.as_json(plan.to_json())
    else:
        _print(plan)
    return 0


def plan_of(launch: Launch, born_in: frozenset[str]) -> Plan:
    """Return the plan as root would carry it out. Raises JailError and HookError."""
    jail_plan.clone_flags(born_in)
    hooks = steps_of(launch, root=True)
    if launch.jail.own_network:
        born_in |= {"net"}
    return jail_plan.build(launch.jail, hooks, born_in=born_in, root=True)


def _furnished(launch: Launch, file: str, path: str) -> Launch:
    """Return the Launch with the hosting plan that its file names, as an Emperor gives it."""
    spec = EmperorSpec(plan_file=path)
    hosting = plans.Plans.load(spec).plan_of(spec, file, launch)
    name = os.path.basename(file)
    jail = plans.furnish(launch.jail, hosting, name, directory=spec.plan_cgroup)
    return replace(launch, jail=jail)


def _print(plan: Plan) -> None:
    rows = [(step.phase.value, step.origin, step.describe()) for step in plan.steps]
    if rows:
        text.table(("PHASE", "ASKED FOR BY", "STEP"), rows)
    else:
        print("nothing to do before the application starts")


def _as_given(jail: JailSpec, running: Mapping[str, Any]) -> JailSpec:
    """Return the jail with the addresses that a running one has: the ledger keeps them for it."""
    grant = jail.network_grant
    if grant is None or (grant.kind, grant.bridge) != (
        running.get("network"),
        running.get("bridge"),
    ):
        return jail
    addresses, routers = tuple(running["addresses"]), tuple(running["routers"])
    if not {ip_interface(one).ip for one in grant.addresses} <= {
        ip_interface(one).ip for one in addresses
    }:
        return jail
    return replace(jail, network_grant=replace(grant, addresses=addresses, routers=routers))


def _diff(name: str, control: str | None, launch: Launch) -> int:
    running = client.ask("show", name=name, socket=control)["vassal"]
    born_in = frozenset(running.get("clone", ()))
    launch = replace(launch, jail=_as_given(launch.jail, running.get("network") or {}))
    # without who asked: a step that moved to another line is the same step
    new = [f"{each.phase.value}: {each.describe()}" for each in plan_of(launch, born_in).steps]
    old = running.get("plan", [])
    changed = False
    for each in difflib.unified_diff(old, new, f"running {name}", "file", lineterm="", n=0):
        text.line(each)
        changed = True
    return 1 if changed else 0
