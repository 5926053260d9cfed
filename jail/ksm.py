"""Kernel samepage merging: which memory the kernel may merge, and what that saves (ksm.rst).

Since Linux 6.4 a process says once that all its memory may be merged, for its children too
(PR_SET_MEMORY_MERGE). Before, each mapping has to be named (MADV_MERGEABLE): a ``Merger`` reads
/proc/self/maps and advises what is new in it; where nothing changed it makes no system call but
those that read the file.

The kernel merges across all processes that allow it, whoever they belong to. Whether a page was
merged can be measured (a write to it takes longer), so one process can learn what another holds.
Only who trusts each other may be merged; that is decided by who calls this.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from donjon import syscalls
from donjon.jail.cgroup_text import number
from donjon.records import dataclass

CONTROL = "/sys/kernel/mm/ksm"
PAGE = os.sysconf("SC_PAGE_SIZE")
_MAPS = "/proc/self/maps"
_NOT_OURS = ("[vvar", "[vdso]", "[vsyscall]")


@dataclass(frozen=True, slots=True)
class Status:
    """What ksmd does on this host: pages that are shared, and how many sites share them more."""

    run: int
    pages_shared: int
    pages_sharing: int
    profit: int  # bytes, less what the bookkeeping takes; may be negative

    @property
    def saved(self) -> int:
        """Bytes saved, as the manual counts them: pages_sharing times the size of a page."""
        return self.pages_sharing * PAGE

    def to_json(self) -> dict[str, int]:
        """Return it as values for programs."""
        return {
            "run": self.run,
            "pages_shared": self.pages_shared,
            "pages_sharing": self.pages_sharing,
            "saved": self.saved,
            "profit": self.profit,
        }

    def collectd(self, host: str, interval: int = 60) -> str:
        """Return the line that collectd's exec plugin takes (spec KSM-06)."""
        return f"PUTVAL {host}/ksm/gauge-saved interval={interval} N:{self.saved}"


def status(control: str = CONTROL) -> Status | None:
    """Return what ksmd does, None on a kernel without it."""
    run = number(f"{control}/run")
    if run is None:
        return None
    return Status(
        run,
        number(f"{control}/pages_shared") or 0,
        number(f"{control}/pages_sharing") or 0,
        _signed(f"{control}/general_profit"),
    )


def _signed(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def merged(pids: Iterable[int]) -> int:
    """Return the bytes that these processes have in merged pages (proc(5))."""
    return PAGE * sum(number(f"/proc/{pid}/ksm_merging_pages") or 0 for pid in pids)


def merge_all() -> bool:
    """Let all memory of this process be merged, and its children's. False where the kernel is
    older than that, or forbids it."""
    try:
        syscalls.set_memory_merge(True)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
            raise
        return False
    return True


class Merger:
    """Advises the mappings of this process that are new since the last time."""

    def __init__(self) -> None:
        """Know of none yet."""
        self._maps = b""
        self._advised: set[bytes] = set()

    def scan(self) -> int:
        """Advise what is new; return how many mappings that were."""
        with open(_MAPS, "rb") as file:
            maps = file.read()
        if maps == self._maps:
            return 0
        self._maps = maps
        wanted = set(_mergeable(maps))
        new = wanted - self._advised
        for span in new:
            _advise(span)
        self._advised = wanted
        return len(new)


def _mergeable(maps: bytes) -> Iterable[bytes]:
    """Yield ``START-END`` of private writable mappings: proc_pid_maps(5)."""
    for line in maps.splitlines():
        span, mode, rest = line.split(b" ", 2)
        if mode[:2] == b"rw" and mode[3:4] == b"p" and not rest.endswith(_NOT_OURS_BYTES):
            yield span


_NOT_OURS_BYTES = tuple(name.encode() for name in _NOT_OURS)


def _advise(span: bytes) -> None:
    """Advise one mapping; one that is gone meanwhile, or of a kind that is never merged, is not
    missed."""
    start, _, end = span.partition(b"-")
    first = int(start, 16)
    try:
        syscalls.madvise(first, int(end, 16) - first, syscalls.MADV_MERGEABLE)
    except OSError as error:
        if error.errno not in (errno.ENOMEM, errno.EINVAL, errno.EAGAIN):
            raise
