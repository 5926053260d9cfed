# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""Namespaces by the words that options use, and the steps that enter them.

A word may have several spellings (uwsgi-facts 3.1); each kind has one canonical word here, the one
that ``JailSpec`` and ``born_in`` use.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail.spec import JailSpec
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

WORDS: dict[str, int] = {
    "fs": syscalls.CLONE_NEWNS,
    "ipc": syscalls.CLONE_NEWIPC,
    "pid": syscalls.CLONE_NEWPID,
    "uts": syscalls.CLONE_NEWUTS,
    "net": syscalls.CLONE_NEWNET,
    "user": syscalls.CLONE_NEWUSER,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "time": syscalls.CLONE_NEWTIME,
    "files": syscalls.CLONE_FILES,
    "io": syscalls.CLONE_IO,
    "sysvsem": syscalls.CLONE_SYSVSEM,
    "parent": syscalls.CLONE_PARENT,
}
"""Canonical words and their flags: clone(2), unshare(2)."""

ALIASES = {"ns": "fs", "mount": "fs", "mnt": "fs"}
NAMESPACES = frozenset({"fs", "ipc", "pid", "uts", "net", "user", "cgroup", "time"})
"""The words that stand for a namespace; the others only stop sharing a table."""


def canonical(words: Iterable[str]) -> frozenset[str]:
    """Return the canonical spelling of ``words``. Raises JailError for an unknown one."""
    return _canonical(words if isinstance(words, frozenset) else tuple(words))


@functools.lru_cache(maxsize=64)
def _canonical(words: Collection[str]) -> frozenset[str]:
    found = set()
    for word in words:
        name = ALIASES.get(word, word)
        if name not in WORDS:
            raise JailError(
                f"unknown namespace {word!r}",
                reason=f"the words are {' '.join(sorted(WORDS))} (and {' '.join(ALIASES)} for fs)",
            )
        found.add(name)
    return frozenset(found)


def clone_flags(words: Iterable[str]) -> int:
    """Return the flags of clone3(2) for ``words``. Raises JailError for an unknown one."""
    flags = 0
    for name in canonical(words):
        flags |= WORDS[name]
    return flags


def implied_words(spec: JailSpec) -> frozenset[str]:
    """Return the namespaces without which the mounts and names of ``spec`` would be the host's."""
    words = set()
    if spec.rootfs or spec.binds or spec.tmpfs or spec.pivot_root:
        words.add("fs")
    if spec.hostname is not None:
        words.add("uts")
    return frozenset(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshare(Builtin):
    """unshare(2). A pid namespace begins with the next child."""

    words: tuple[str, ...]

    def describe(self) -> str:
        return f"leave the host's namespaces: {' '.join(self.words)}"

    def execute(self, context: Context) -> None:
        syscalls.unshare(clone_flags(self.words))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHostname(Builtin):
    """sethostname(2), in a uts namespace of the jail's own."""

    name: str

    def describe(self) -> str:
        return f"set the host name to {self.name}"

    def execute(self, context: Context) -> None:
        syscalls.sethostname(self.name)
