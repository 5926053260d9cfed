# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""The filter of system calls, the last thing that a jail takes on in the drop phase.

A profile (``seccomp = default +ipc -exec``) is a choice of the groups of ``seccomp_groups``. It is
compiled once in the process that makes plans and travels as bytes; a birth pays one seccomp(2).
All that the jail's processes ever start inherits it.

The kernel answers calls that a program always lets through from a bitmap (5.11), so what is left
of the cost is a birth's.
"""

from __future__ import annotations

import errno
import functools
import struct
from typing import TYPE_CHECKING, ClassVar

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail.seccomp_groups import GROUPS, YOUNGEST, Group
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass, field

if TYPE_CHECKING:
    from donjon.jail.libseccomp import Rule

_X32 = 0x40000000


@functools.cache
def program(refused: tuple[str, ...]) -> bytes:
    """Return the program that refuses these groups. Raises JailError without libseccomp."""
    from donjon.jail import libseccomp  # noqa: PLC0415  (ctypes is for who makes plans alone)

    rules: list[Rule] = []
    whole = {call for name in refused for call in GROUPS[name].calls}
    for name in refused:
        rules += _rules(GROUPS[name], whole)
    body = libseccomp.compile_rules(syscalls.SECCOMP_RET_ALLOW, rules)
    return _unknown_calls(libseccomp.native()) + body


def _rules(group: Group, whole: set[str]) -> list[Rule]:
    """Return a group's rules; a call of ``whole`` is refused whatever its arguments are."""
    from donjon.jail import libseccomp  # noqa: PLC0415  (as above)

    rules = []
    for call in group.calls:
        number = libseccomp.number_of(call)
        if number is not None:
            error = errno.ENOSYS if call in group.absent else group.error
            rules.append(libseccomp.Rule(number, syscalls.SECCOMP_RET_ERRNO | error))
    for when in group.when:
        number = libseccomp.number_of(when.call)
        if number is not None and when.call not in whole:
            error = errno.ENOSYS if when.call in group.absent else group.error
            rules.append(libseccomp.Rule(number, syscalls.SECCOMP_RET_ERRNO | error, when.tests))
    return rules


def _unknown_calls(native: int) -> bytes:
    """Return the head of every program: a call younger than the table does not exist.

    libseccomp has no rule for a range of numbers. Other machines' calls fall through to its part.
    """
    return b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 4),  # load seccomp_data.arch
            (0x15, 0, 4, native),  # another machine: to the end
            (0x20, 0, 0, 0),  # load seccomp_data.nr
            (0x35, 2, 0, _X32),  # x32: to the end
            (0x25, 0, 1, YOUNGEST),
            (0x06, 0, 0, syscalls.SECCOMP_RET_ERRNO | errno.ENOSYS),
        )
    )


def install(code: bytes) -> None:
    """Filter the calls of this process, all its threads, and of all that it starts."""
    left = syscalls.seccomp_filter(code, syscalls.SECCOMP_FILTER_FLAG_TSYNC)
    if left:
        raise JailError(
            "system calls cannot be filtered", reason=f"thread {left} has a filter of its own"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterCalls(Builtin):
    """The filter of a profile."""

    at_join: ClassVar[bool] = True
    profile: str
    code: bytes = field(repr=False)

    def describe(self) -> str:
        return f"filter system calls: {self.profile}"

    def execute(self, context: Context) -> None:
        install(self.code)
