"""A hook as written in a configuration."""

from __future__ import annotations

import enum

from donjon.jail.phase import Phase
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass


class Kind(enum.Enum):
    """The families, in the order in which they run inside one phase (uwsgi-facts 2.1)."""

    HOOK = "hook"  # action:arguments
    MOUNT = "mount"  # arguments of the mount action
    UMOUNT = "umount"
    EXEC = "exec"  # a line for /bin/sh
    CALL = "call"  # a C function of this process
    CALL1 = "call1"  # with the vassal's name
    CALL2 = "call2"  # name, pid
    CALL3 = "call3"  # name, uid, gid
    CALL4 = "call4"  # name, pid, uid, gid

    __hash__ = object.__hash__  # by identity, as they compare; enum's own is a call of Python


@dataclass(frozen=True, slots=True)
class Hook:
    """One line of a configuration that belongs to a phase."""

    phase: Phase
    kind: Kind
    text: str
    origin: Origin = DEFAULT
