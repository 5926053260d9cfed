# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""Resource limits and priority: setrlimit(2), setpriority(2).

The original sets all of them after the uid changed and only complains when that fails. What needs
root (a higher limit of open files, a negative nice value) is set here just before the uid changes.
"""

from __future__ import annotations

import os
import resource

from donjon import log, syscalls
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

NAMES = {
    resource.RLIMIT_AS: "bytes of address space",
    resource.RLIMIT_NPROC: "processes of this user",
    resource.RLIMIT_NOFILE: "open files",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit(Builtin):
    """setrlimit(2), soft and hard.

    Where the hard limit cannot be raised, the highest possible is taken.
    """

    kind: int
    value: int

    def describe(self) -> str:
        return f"allow at most {self.value} {NAMES[self.kind]}"

    def execute(self, context: Context) -> None:
        syscalls.fault("setrlimit")
        try:
            resource.setrlimit(self.kind, (self.value, self.value))
        except (ValueError, PermissionError):
            _, hard = resource.getrlimit(self.kind)
            resource.setrlimit(self.kind, (hard, hard))
            what = f"{self.value} {NAMES[self.kind]}"
            log.write(f"donjon: {self.origin}: {what} are too many, {hard} are allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCoreDumps(Builtin):
    """A limit of 1 byte: the kernel takes that, and not 0, to mean that no program gets the dump.

    core(5): the limit is not enforced for a core_pattern that begins with a pipe, and the memory
    of a jail would go to a program that is root on the host. 1 is the exception (fs/coredump.c).
    """

    def describe(self) -> str:
        return "forbid core dumps through the host's core_pattern"

    def execute(self, context: Context) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority(Builtin):
    """setpriority(2) of this process, and so of those it starts."""

    nice: int

    def describe(self) -> str:
        return f"run with nice value {self.nice}"

    def execute(self, context: Context) -> None:
        syscalls.fault("setpriority")
        os.setpriority(os.PRIO_PROCESS, 0, self.nice)
