"""A hook as written in a configuration."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from donjon.jail.phase import Phase
from donjon.origin import DEFAULT, Origin


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


@dataclass(frozen=True, slots=True)
class Hook:
    """One line of a configuration that belongs to a phase."""

    phase: Phase
    kind: Kind
    text: str
    origin: Origin = DEFAULT
