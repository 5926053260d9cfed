"""What was asked of a jail of FreeBSD. It knows nothing of Linux, and runs where that is not."""

from __future__ import annotations

from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass


@dataclass(frozen=True, slots=True)
class OldJail:
    """``jail = ROOTFS [HOSTNAME] [JAILNAME]`` of FreeBSD's jail(2)."""

    path: str
    hostname: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class JailParameter:
    """``jail2 = KEY[=VALUE]`` of FreeBSD's jail_set(2); a flag's value may be None."""

    key: str
    value: str | None = None
    origin: Origin = DEFAULT
