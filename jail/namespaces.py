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
from donjon.jail import timens
from donjon.jail.spec import JailSpec, NetworkGrant
from donjon.jail.step import Builtin, Context
from donjon.netns import naming
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
    covers = spec.mask_paths or spec.readonly_paths
    if spec.rootfs or spec.binds or spec.tmpfs or covers or spec.pivot_root:
        words.add("fs")
    if spec.hostname is not None:
        words.add("uts")
    if spec.id_range is not None:
        words.add("user")
    return frozenset(words)


def late_words(spec: JailSpec) -> frozenset[str]:
    """Return the namespaces that clone3 would make too early, so that the process leaves for them.

    Offsets must be written before anybody is in a time namespace. The root of a cgroup namespace
    is the group in which its maker is, and a vassal's maker is in the Emperor's.
    """
    words = {"time"} if spec.time_offsets else set()
    if spec.cgroups and "cgroup" in spec.clone_flags:
        words.add("cgroup")
    return frozenset(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshare(Builtin):
    """unshare(2). A pid namespace begins with the next child, a time namespace at once."""

    words: tuple[str, ...]
    offsets: tuple[tuple[str, int], ...] = ()

    def describe(self) -> str:
        clocks = timens.describe(self.offsets)
        return f"leave the host's namespaces: {' '.join(self.words)}{clocks}"

    def execute(self, context: Context) -> None:
        syscalls.unshare(clone_flags(self.words))
        if "time" in self.words:
            timens.settle(self.offsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterNetwork(Builtin):
    """Be in the network namespace that was made for this vassal.

    Who clones it is in there already: a user namespace of the vassal's own has no power over it,
    and could not enter it any more.
    """

    grant: NetworkGrant

    def describe(self) -> str:
        return f"enter a network namespace made for it: {self.grant.describe()}"

    def execute(self, context: Context) -> None:
        if "net" not in context.born_in:
            raise JailError("only an Emperor makes the network of a vassal")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHostname(Builtin):
    """sethostname(2), in a uts namespace of the jail's own."""

    name: str

    def describe(self) -> str:
        return f"set the host name to {self.name}"

    def execute(self, context: Context) -> None:
        syscalls.sethostname(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinNetwork(Builtin):
    """setns(2) into the network namespace that the operator made under a name."""

    name: str

    def describe(self) -> str:
        return f"enter the network namespace {self.name} of ip netns"

    def execute(self, context: Context) -> None:
        with naming.open_named(self.name) as network:
            syscalls.setns(network.fileno(), syscalls.CLONE_NEWNET)
