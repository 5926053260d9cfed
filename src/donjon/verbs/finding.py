"""What a probe of the host found."""

from __future__ import annotations

import enum
import errno
import os

from donjon.records import dataclass

DENIED = (os.strerror(errno.EPERM), os.strerror(errno.EACCES))


class Level(enum.Enum):
    """How a finding bears on the main job."""

    OK = "ok"
    WARN = "warn"  # runs without, with less
    MISSING = "missing"  # does not run


@dataclass(frozen=True, slots=True)
class Finding:
    """One ability of the host. ``remedy`` says how to get it, or what to use instead."""

    area: str
    name: str
    level: Level
    detail: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the finding as values for programs."""
        return {
            "area": self.area,
            "name": self.name,
            "level": self.level.value,
            "detail": self.detail,
            "remedy": self.remedy,
        }


def judged(
    area: str, name: str, problem: str | None, *, needed: bool, remedy: str = "", good: str = ""
) -> Finding:
    """Return OK where there is no problem, else MISSING where it is needed and WARN where not."""
    if problem is None:
        return Finding(area, name, Level.OK, good)
    if problem in DENIED and os.geteuid() != 0:
        remedy = "run as root"
    return Finding(area, name, Level.MISSING if needed else Level.WARN, problem, remedy)
