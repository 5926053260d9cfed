"""What customers may use: hosting plans, frozen idlers, merged memory, descriptors that tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Option
from donjon.config.options.rows import Rows, add
from donjon.origin import Origin

if TYPE_CHECKING:
    from donjon.config.builder import Builder

AREA = "resources"

_emperor = Rows(AREA, "emperor", operator=True)
_server = Rows(AREA, "server")


def _name(text: str) -> str:
    if not values.word(text).replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError("not the name of a plan: letters, digits, - _ .")
    return text


def _assignment(text: str) -> tuple[str, str]:
    """Read ``PATTERN PLAN``."""
    pattern, plan = values.pair(text)
    return pattern, _name(plan)


def _directory(text: str) -> str:
    """Read a relative path below the root of a hierarchy."""
    parts = values.word(text).split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("not a relative path without . and ..")
    return text


def _plan(builder: Builder, value: str, origin: Origin) -> None:
    builder.plan, builder.plan_origin = value, origin


PLANS = (
    Option(
        name="plan",
        help="The hosting plan of this vassal.",
        area=AREA,
        parse=_name,
        apply=_plan,
        metavar="NAME",
        operator=True,
        ours=True,
        example="gold",
    ),
    _emperor.text(
        "plan-file",
        "The file with a section plan:NAME for each hosting plan; else the Emperor's own.",
        metavar="FILE",
        example="/etc/donjon/plans.ini",
        ours=True,
    ),
    Option(
        name="plan-assign",
        help="Give vassals whose name fits a plan, whatever their files say; the last one counts.",
        area=AREA,
        parse=_assignment,
        apply=add("emperor", "plan_assign"),
        metavar='"PATTERN PLAN"',
        repeats=True,
        operator=True,
        ours=True,
        example="shop*.ini gold",
    ),
    _emperor.text(
        "plan-cgroup",
        "Where in each hierarchy the groups of plans are made.",
        metavar="DIR",
        parse=_directory,
        example="donjon",
        ours=True,
    ),
)


OPTIONS = (*PLANS,)
