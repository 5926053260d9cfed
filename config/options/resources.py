"""What customers may use: hosting plans, frozen idlers, merged memory, descriptors that tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.config.options import values
from donjon.config.options.option import Option, Takes
from donjon.config.options.rows import Rows, add, put
from donjon.origin import Origin
from donjon.server.spec import FdWatch

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


def _descriptor(text: str) -> tuple[int, int, str]:
    """Read ``FD[:BYTES][ MESSAGE]``."""
    number, _, message = text.strip().partition(" ")
    fd, _, count = number.partition(":")
    if not fd.isdecimal() or not (count or "1").isdecimal():
        raise ValueError("not FD[:BYTES MESSAGE]")
    if not 1 <= int(count or "1") <= 65536:
        raise ValueError("not between 1 and 65536 bytes")
    return int(fd), int(count or "1"), message.strip()


def _alarm_fd(text: str) -> tuple[str, tuple[int, int, str]]:
    """Read ``ALARM FD[:BYTES][ MESSAGE]``."""
    alarm, _, rest = values.word(text).strip().partition(" ")
    return alarm, _descriptor(rest)


def _reload_fd(name: str, about: str, *, brutal: bool) -> Option:
    def factory(value: tuple[int, int, str], origin: Origin) -> FdWatch:
        fd, count, message = value
        return FdWatch(fd, brutal=brutal, count=count, message=message, origin=origin)

    return _server.several(
        name,
        about,
        field="fd_watches",
        factory=factory,
        parse=_descriptor,
        metavar='"FD[:BYTES MESSAGE]"',
        example="9:8 OUT OF MEMORY !!!",
    )


DESCRIPTORS = (
    _server.several(
        "alarm-fd",
        "Raise an alarm when a descriptor is readable; BYTES are read from it.",
        field="fd_watches",
        factory=lambda value, origin: FdWatch(
            value[1][0], alarm=value[0], count=value[1][1], message=value[1][2], origin=origin
        ),
        parse=_alarm_fd,
        metavar='"ALARM FD[:BYTES MESSAGE]"',
        example="outofmemory 9:8 OUT OF MEMORY !!!",
    ),
    _reload_fd(
        "reload-on-fd", "Reload when a descriptor is readable; BYTES are read.", brutal=False
    ),
    _reload_fd(
        "brutal-reload-on-fd",
        "Reload brutally when a descriptor is readable; BYTES are read.",
        brutal=True,
    ),
)

IDLE = (
    _server.number(
        "idle-freeze",
        "Freeze an on-demand vassal after so long without a request; a connection thaws it.",
        metavar="SECONDS",
        example="60",
        ours=True,
    ),
)


def _frequency(text: str) -> int:
    """Read a number, or a word that only says yes or no."""
    if values.is_plain_true(text):
        return 1
    return values.integer(1)(text) if values.boolean(text) else 0


MERGING = (
    Option(
        name="ksm",
        help="Let the kernel merge equal pages (KSM); where each process must look itself, "
        "it does so every N requests or seconds.",
        area=AREA,
        takes=Takes.OPTIONAL,
        parse=_frequency,
        apply=put("server", "ksm"),
        metavar="[N]",
        example="10",
    ),
    _emperor.several(
        "ksm-trust",
        "Vassals whose name fits may merge pages with each other; without it none may.",
        field="ksm_trust",
        metavar="PATTERN",
        example="blog*.ini",
        ours=True,
    ),
)

OPTIONS = (*PLANS, *DESCRIPTORS, *IDLE, *MERGING)
