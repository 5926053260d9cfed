"""Which ids of the host the ids of a user namespace are (user_namespaces(7)).

Two kinds of maps are made. Without ``id-range`` only root inside exists, and is one unprivileged
id outside. With it ids 0 to SIZE-1 inside are BASE to BASE+SIZE-1 outside; of a customer's jail
the ids of its owner stay what they are, so that his files are his inside too.
"""

from __future__ import annotations

import os

from donjon import syscalls
from donjon.fd import Fd
from donjon.records import dataclass

SIZE = 65536
"""Ids that a customer gets unless ``id-range-size`` says otherwise: all that have 16 bits."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """``id-range``, as asked for.

    ``base`` is None for ``auto``; ``name`` is whom the range belongs to, "" for the vassal.
    """

    base: int | None = None
    size: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """A line of uid_map or gid_map."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class IdMap:
    """The two maps of a user namespace. Root of the host is in none of them."""

    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]

    @property
    def root(self) -> tuple[int, int]:
        """Who root inside is on the host."""
        return _outside(self.uids, 0), _outside(self.gids, 0)

    @property
    def has_root_only(self) -> bool:
        """Whether no other id exists inside."""
        return all(len(half) == 1 and half[0].count == 1 for half in (self.uids, self.gids))

    def uid(self, inside: int) -> int:
        """Return the host's uid for one inside, -1 where there is none."""
        return _outside(self.uids, inside)

    def gid(self, inside: int) -> int:
        """Return the host's gid for one inside, -1 where there is none."""
        return _outside(self.gids, inside)

    def names_hosts_root(self) -> bool:
        """Whether an id inside would be the host's root."""
        return any(extent.outside <= 0 for extent in (*self.uids, *self.gids))

    def write(self, process: int) -> None:
        """Write both maps of a process, whose directory in /proc is given. Raises OSError."""
        for name, half in (("gid_map", self.gids), ("uid_map", self.uids)):
            syscalls.fault(name)
            text = "".join(f"{one.inside} {one.outside} {one.count}\n" for one in half)
            with Fd(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=process)) as file:
                os.write(file.fileno(), text.encode())


def of_root(uid: int, gid: int) -> IdMap:
    """Return the map in which there is root only."""
    return IdMap((Extent(0, uid, 1),), (Extent(0, gid, 1),))


def of_range(base: int, size: int, *, owner: tuple[int, int] | None = None) -> IdMap:
    """Return the map of a range, in which uid and gid of ``owner`` are themselves."""
    uid, gid = owner or (-1, -1)
    return IdMap(_extents(base, size, uid), _extents(base, size, gid))


def _extents(base: int, size: int, own: int) -> tuple[Extent, ...]:
    if own <= 0:
        return (Extent(0, base, size),)
    if own >= size:
        return (Extent(0, base, size), Extent(own, own, 1))
    parts = (
        Extent(0, base, own),
        Extent(own, own, 1),
        Extent(own + 1, base + own + 1, size - own - 1),
    )
    return tuple(part for part in parts if part.count)


def _outside(half: tuple[Extent, ...], inside: int) -> int:
    for extent in half:
        if extent.inside <= inside < extent.inside + extent.count:
            return extent.outside + inside - extent.inside
    return -1
