"""Changing what a running vassal may use: values of its control groups, limits of its processes.

No process is restarted. A value that was asked for and is not any more gets the kernel's default
back. What the kernel refuses (less memory than is in use, on version 1) is told, and everything
else is still changed.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator, Sequence

from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import cgroup_files, cgroups
from donjon.jail.limits import NAMES
from donjon.jail.spec import CgroupOption, JailSpec

LIVE_LIMITS = {resource.RLIMIT_NOFILE: "max_fd", resource.RLIMIT_NPROC: "limit_nproc"}
"""Limits that prlimit(2) can change for processes that run, and the fields that hold them."""

ROUNDS = 8
"""Looks at a group for processes forked meanwhile: what they inherited may be the old limit."""


def change(old: JailSpec, new: JailSpec, paths: Iterable[str]) -> list[str]:
    """Make what differs true for all that runs in ``paths``; return what could not be done."""
    problems = []
    groups = list(paths)
    if old.cgroup_options != new.cgroup_options:
        for path in groups:
            problems += [str(error) for error in _rewrite(path, old, new)]
    return problems + limit(old, new, groups)


def limit(old: JailSpec, new: JailSpec, paths: Sequence[str]) -> list[str]:
    """Give the processes in ``paths`` the limits that differ; return what could not be done."""
    problems = []
    for kind, field in LIVE_LIMITS.items():
        value = getattr(new, field)
        if getattr(old, field) != value:
            most = resource.getrlimit(kind)[1]  # what a vassal without a limit inherits
            problems += _limit(paths, kind, most if value is None else value)
    return problems


def _rewrite(path: str, old: JailSpec, new: JailSpec) -> list[JailError]:
    driver = cgroups.driver_of(path)
    if driver is None or not os.path.isdir(path):
        return []
    options = (*taken_back(old.cgroup_options, new.cgroup_options), *new.cgroup_options)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with Fd(os.open(path, flags)) as directory:
        return cgroups.write_options(path, options, driver, directory.fileno())


def taken_back(old: Iterable[CgroupOption], new: Iterable[CgroupOption]) -> Iterator[CgroupOption]:
    """Return what undoes options that are not asked for any more."""
    kept = {_target(option) for option in new}
    for option in old:
        undo = cgroup_files.default(option)
        if _target(option) not in kept and undo is not None:
            yield undo


def _target(option: CgroupOption) -> tuple[str, str]:
    """Return the file, and the device where a file has a line for each."""
    is_io = option.key == "io.max"
    return option.key, option.value.split()[0] if is_io else ""


def _limit(paths: Sequence[str], kind: int, value: int) -> list[str]:
    """Limit every process of the groups; one is enough to say that it cannot be done."""
    seen: set[int] = set()
    for _ in range(ROUNDS):
        found = {pid for path in paths for pid in pids_of(path)} - seen
        if not found:
            return []
        seen |= found
        for pid in found:
            try:
                resource.prlimit(pid, kind, (value, value))
            except ProcessLookupError:
                continue
            except OSError as error:
                what = "no limit" if value == resource.RLIM_INFINITY else str(value)
                return [f"cannot allow {what} {NAMES[kind]}: {reason_of(error)}"]
    return []


def pids_of(path: str) -> list[int]:
    """Return the processes of a group: all that may be changed are in it."""
    try:
        with open(f"{path}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    except OSError:
        return []
