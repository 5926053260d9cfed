# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""How the kernel treats a jail's processes beside others: limits, order of killing, keyring.

All is set with root's rights just before the drop and inherited by whatever the jail starts.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import ClassVar

from donjon import log, syscalls
from donjon.fd import Fd
from donjon.jail.spec import ResourceLimit
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

LIMITS: dict[str, int] = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
"""Names of setrlimit(2), as in ``rlimit-NAME``."""

_NAMES = {number: name for name, number in LIMITS.items()}

IO_CLASSES = {"realtime": 1, "best-effort": 2, "idle": 3}
_CLASS_SHIFT = 13  # linux/ioprio.h
ONE_PROCESS = 1  # IOPRIO_WHO_PROCESS


def parse_limit(text: str) -> tuple[int | None, int | None]:
    """Return soft and hard of ``SOFT[:HARD]``; one number is both. Raises ValueError."""
    soft, colon, hard = text.partition(":")
    low = _limit(soft)
    high = _limit(hard) if colon else low
    if high is not None and (low is None or low > high):
        raise ValueError("the soft limit is above the hard one")
    return low, high


def _limit(text: str) -> int | None:
    word = text.strip().lower()
    if word in ("unlimited", "infinity"):
        return None
    number, unit = (word[:-1], word[-1]) if word[-1:] in ("k", "m", "g") else (word, "")
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{text!r} is no limit: a number, one with K, M or G, or unlimited")
    value = int(number) << {"": 0, "k": 10, "m": 20, "g": 30}[unit]
    if value >= 1 << 63:
        raise ValueError(f"{text} is too large")
    return value


def parse_io(text: str) -> tuple[int, int]:
    """Return class and level of ``CLASS[:LEVEL]``. Raises ValueError."""
    name, colon, level = text.strip().partition(":")
    if name not in IO_CLASSES:
        raise ValueError(f"{name!r} is none of {', '.join(IO_CLASSES)}")
    if colon and not (level.isdigit() and int(level) <= 7):
        raise ValueError("the level is not between 0 (first) and 7 (last)")
    if colon and name == "idle":
        raise ValueError("idle has no level")
    return IO_CLASSES[name], int(level) if colon else (0 if name == "idle" else 4)


def _words(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitResource(Builtin):
    """setrlimit(2). Unlike ``max-fd`` and its kin it fails where it cannot be had."""

    limit: ResourceLimit

    def describe(self) -> str:
        one = self.limit
        hard = "" if one.soft == one.hard else f", and {_words(one.hard)} if asked for"
        return f"limit {_NAMES[one.kind]} to {_words(one.soft)}{hard}"

    def execute(self, context: Context) -> None:
        syscalls.fault("setrlimit")
        numbers = [
            resource.RLIM_INFINITY if one is None else one
            for one in (self.limit.soft, self.limit.hard)
        ]
        try:
            resource.setrlimit(self.limit.kind, (numbers[0], numbers[1]))
        except ValueError as error:  # how the module says EPERM
            raise PermissionError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOomScore(Builtin):
    """/proc/self/oom_score_adj: who is killed first when memory runs out (proc(5))."""

    score: int

    def describe(self) -> str:
        return f"set the OOM score to {self.score:+}"

    def execute(self, context: Context) -> None:
        with Fd(os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)) as file:
            os.write(file.fileno(), b"%d" % self.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetIoPriority(Builtin):
    """ioprio_set(2)."""

    kind: int
    level: int

    def describe(self) -> str:
        name = {number: name for name, number in IO_CLASSES.items()}[self.kind]
        return f"do input and output as {name}" + ("" if name == "idle" else f" {self.level}")

    def execute(self, context: Context) -> None:
        syscalls.ioprio_set(ONE_PROCESS, 0, io_value(self))


def take_io_priority(value: int) -> None:
    """Become what ioprio_get(2) said of another; who has no class goes by his nice value."""
    if value >> _CLASS_SHIFT:
        syscalls.ioprio_set(ONE_PROCESS, 0, value)


def io_value(step: SetIoPriority) -> int:
    """Return class and level as ioprio_set(2) takes them."""
    return step.kind << _CLASS_SHIFT | step.level


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeyring(Builtin):
    """A session keyring of the jail's own: keys of whoever started the Emperor stay outside.

    Without the call (ENOSYS), or where whoever started us filters it (EPERM), there is no keyring
    that a jail could reach either.
    """

    at_join: ClassVar[bool] = True

    def describe(self) -> str:
        return "take a session keyring of its own"

    def execute(self, context: Context) -> None:
        try:
            syscalls.join_session_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            log.debug(f"no session keyring of its own: {error.strerror}")
