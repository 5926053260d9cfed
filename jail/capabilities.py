# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""Capabilities: one list, and all five sets of capabilities(7) in accord with it.

A forked vassal lives on its effective set, an executed one on what execve(2) computes from
inheritable, ambient and bounding set. So all are set. Order: the bounding set while there is
CAP_SETPCAP, then PR_SET_KEEPCAPS, then the uid (which clears the effective set), then the list,
then the ambient set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

from donjon import log, syscalls
from donjon.errors import JailError
from donjon.jail.step import Builtin, Context
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

_HIGHEST = 63  # the sets have 64 bits: linux/capability.h


def number(word: str) -> int | None:
    """Return the capability that ``word`` names, with or without ``cap_``, or None."""
    name = word.strip().lower().removeprefix("cap_")
    if name.isascii() and name.isdigit():
        return int(name) if int(name) <= _HIGHEST else None
    return syscalls.capability_names.get(name)


def parse(text: str, origin: Origin = DEFAULT) -> frozenset[int]:
    """Return the capabilities of a comma list. Raises JailError for an unknown or missing name."""
    found = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        cap = number(word)
        if cap is None:
            raise JailError(f"unknown capability {word!r}", origin=origin)
        found.add(cap)
    if not found:
        raise JailError("no capability is named", origin=origin)
    return frozenset(found)


def names(caps: Iterable[int]) -> str:
    """Return names for a person, numbers where the kernel is newer than the names."""
    by_number = {value: name for name, value in syscalls.capability_names.items()}
    return " ".join(by_number.get(cap, str(cap)) for cap in sorted(caps)) or "none"


def mask(caps: Iterable[int]) -> int:
    """Return the bits of ``caps``, as /proc/PID/status shows them."""
    bits = 0
    for cap in caps:
        bits |= 1 << cap
    return bits


def lacking(caps: Collection[int]) -> frozenset[int]:
    """Return those of ``caps`` that this process cannot hand on."""
    if not caps:
        return frozenset()
    _, permitted, _ = syscalls.capget()
    return frozenset(cap for cap in caps if not permitted >> cap & 1)


def bound(keep: Iterable[int]) -> None:
    """Drop every capability from the bounding set but ``keep``. Needs CAP_SETPCAP."""
    kept = frozenset(keep)
    for cap in range(syscalls.last_cap() + 1):
        if cap not in kept:
            syscalls.capbset_drop(cap)


def hold(caps: Iterable[int], *, ambient: bool, locks: int = 0) -> None:
    """Make the effective, permitted, inheritable and, if wanted, ambient set ``caps``.

    ``locks`` are securebits to set and lock; CAP_SETPCAP is needed for them and is kept so long.
    """
    bits = mask(caps)
    setpcap = 1 << syscalls.CAP_SETPCAP
    if locks and not syscalls.capget()[1] & setpcap:
        log.debug("securebits stay as they are: setpcap is gone")
        locks = 0
    now = bits | (setpcap if locks else 0)
    syscalls.cap_ambient_clear_all()
    syscalls.capset(now, now, bits)
    if ambient:
        for cap in sorted(caps):
            syscalls.cap_ambient_raise(cap)
    if locks:
        held = syscalls.prctl(syscalls.PR_GET_SECUREBITS) & ~syscalls.SECBIT_KEEP_CAPS
        syscalls.prctl(syscalls.PR_SET_SECUREBITS, held | locks)
        syscalls.capset(bits, bits, bits)


LOCKS = {
    "noroot": syscalls.SECBIT_NOROOT | syscalls.SECBIT_NOROOT_LOCKED,
    "no-setuid-fixup": syscalls.SECBIT_NO_SETUID_FIXUP | syscalls.SECBIT_NO_SETUID_FIXUP_LOCKED,
    "no-keep-caps": syscalls.SECBIT_KEEP_CAPS_LOCKED,
    "no-ambient-raise": (
        syscalls.SECBIT_NO_CAP_AMBIENT_RAISE | syscalls.SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED
    ),
}
"""Words of ``securebits``: each a bit of capabilities(7) in its safer state, and its lock."""

JAIL_LOCKS = LOCKS["noroot"] | LOCKS["no-keep-caps"] | LOCKS["no-ambient-raise"]
"""A jail's: executing a program as uid 0, or changing the uid, gives it nothing."""


def parse_locks(text: str) -> int:
    """Return the bits of a list of words, 0 for ``off``. Raises ValueError."""
    bits = 0
    for word in text.replace(",", " ").split():
        if word not in LOCKS and text.strip() != "off":
            raise ValueError(f"{word!r} is none of {', '.join(LOCKS)}, off")
        bits |= LOCKS.get(word, 0)
    return bits


def lock_names(bits: int) -> list[str]:
    """Return the words for securebits that are set and locked."""
    return [word for word, lock in LOCKS.items() if bits & lock == lock]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound(Builtin):
    """``emperor-cap``: all that this process and its programs can ever have (uwsgi-facts 1.4).

    CAP_SETPCAP stays, as in the original, so that the vassal can give up more by itself.
    """

    caps: frozenset[int]

    def describe(self) -> str:
        return f"limit all capabilities to {names(self.caps | {syscalls.CAP_SETPCAP})}"

    def execute(self, context: Context) -> None:
        caps = self.caps | {syscalls.CAP_SETPCAP}
        bound(caps)
        _, permitted, inheritable = syscalls.capget()
        kept = permitted & mask(caps)
        syscalls.capset(kept, kept, inheritable & kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeDrop(Builtin):
    """The bounding set, while there is the right to it, and what is kept past setuid."""

    caps: frozenset[int]
    bounding: bool
    keep: bool

    def describe(self) -> str:
        parts = []
        if self.bounding:
            parts.append(f"limit the bounding set to {names(self.caps)}")
        if self.keep:
            parts.append("keep capabilities when the uid changes")
        return ", ".join(parts)

    def execute(self, context: Context) -> None:
        if self.bounding:
            bound(self.caps)
        if self.keep:
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Builtin):
    """The sets that the application has, and what uid 0 means from now on."""

    caps: frozenset[int]
    ambient: bool
    locks: int = 0

    def describe(self) -> str:
        executed = ", also in programs it executes" if self.ambient else ""
        what = (
            f"the capabilities {names(self.caps)} and no other" if self.caps else "no capability"
        )
        locked = f", lock {' '.join(lock_names(self.locks))}" if self.locks else ""
        return f"keep {what}{executed}{locked}"

    def execute(self, context: Context) -> None:
        hold(self.caps, ambient=self.ambient, locks=self.locks)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoNewPrivileges(Builtin):
    """PR_SET_NO_NEW_PRIVS: set-user-id programs and file capabilities give nothing any more."""

    at_join: ClassVar[bool] = True

    def describe(self) -> str:
        return "give up gaining privileges by executing programs"

    def execute(self, context: Context) -> None:
        syscalls.set_no_new_privs()
