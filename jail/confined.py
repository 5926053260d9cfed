"""How a running process is confined, as the kernel tells it: what who joins its jail must become.

Everything is read from outside, before anything is joined, and only then is the pidfd asked
whether it still was that process. Numbers of users are those that count inside its user namespace.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import standing, users
from donjon.jail.idmap import Extent
from donjon.records import dataclass

KINDS = {
    "user": syscalls.CLONE_NEWUSER,
    "mnt": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "uts": syscalls.CLONE_NEWUTS,
    "ipc": syscalls.CLONE_NEWIPC,
    "net": syscalls.CLONE_NEWNET,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "time": syscalls.CLONE_NEWTIME,
}
"""Names of /proc/PID/ns and the flags of setns(2)."""

_LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max core file size": resource.RLIMIT_CORE,
    "Max resident set": resource.RLIMIT_RSS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
}
"""Names in /proc/PID/limits, which root may read where it may not use prlimit(2)."""

_NAME_WIDTH = 26  # of the first column: fs/proc/base.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The five sets, as masks."""

    effective: int
    permitted: int
    inheritable: int
    bounding: int
    ambient: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Everything that is read off a process.

    ``namespaces`` are flags of those in which it is and we are not; ``cgroups`` the files through
    which its control groups are entered, of those in which we are not.
    """

    namespaces: int
    cgroups: tuple[str, ...]
    identity: users.Identity
    capabilities: Capabilities
    no_new_privs: bool
    limits: tuple[tuple[int, tuple[int, int]], ...]
    nice: int
    io_priority: int  # as ioprio_get(2) returns it
    oom_score_adj: int
    cwd: str


def read(pid: int) -> Confinement:
    """Return the confinement of ``pid``. Raises OSError, or JailError for what nobody can join.

    The caller holds a pidfd and sees to it that the process did not end meanwhile.
    """
    status = _status(pid)
    return Confinement(
        namespaces=_foreign_namespaces(pid),
        cgroups=tuple(_foreign_cgroups(pid)),
        identity=_identity(pid, status),
        capabilities=Capabilities(
            effective=int(status["CapEff"], 16),
            permitted=int(status["CapPrm"], 16),
            inheritable=int(status["CapInh"], 16),
            bounding=int(status["CapBnd"], 16),
            ambient=int(status["CapAmb"], 16),
        ),
        no_new_privs=status["NoNewPrivs"] == "1",
        limits=tuple(_limits(pid)),
        nice=os.getpriority(os.PRIO_PROCESS, pid),
        io_priority=syscalls.ioprio_get(standing.ONE_PROCESS, pid),
        oom_score_adj=int(_text(f"/proc/{pid}/oom_score_adj")),
        cwd=os.readlink(f"/proc/{pid}/cwd"),
    )


def started(pid: int) -> int:
    """Return when ``pid`` started, in clock ticks: it tells processes of one number apart."""
    return int(_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])


def only_child(pid: int) -> int:
    """Return the child of a process that only stands in for it. Raises JailError."""
    found = _text(f"/proc/{pid}/task/{pid}/children").split()
    if len(found) != 1:
        raise JailError(f"process {pid} has {len(found)} children, and one is the jail's first")
    return int(found[0])


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _status(pid: int) -> dict[str, str]:
    pairs = (line.partition(":") for line in _text(f"/proc/{pid}/status").splitlines())
    return {key: value.strip() for key, _, value in pairs}


def _limits(pid: int) -> Iterator[tuple[int, tuple[int, int]]]:
    for line in _text(f"/proc/{pid}/limits").splitlines()[1:]:
        kind = _LIMITS.get(line[:_NAME_WIDTH].strip())
        if kind is not None:
            soft, hard = line[_NAME_WIDTH:].split()[:2]
            yield kind, (_limit(soft), _limit(hard))


def _limit(word: str) -> int:
    return resource.RLIM_INFINITY if word == "unlimited" else int(word)


def _foreign_namespaces(pid: int) -> int:
    flags = 0
    for name, flag in KINDS.items():
        if not os.path.lexists(f"/proc/self/ns/{name}"):
            continue  # this kernel has no such kind
        ours, theirs = (os.stat(f"/proc/{who}/ns/{name}") for who in ("self", pid))
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
            flags |= flag
    return flags


def _identity(pid: int, status: Mapping[str, str]) -> users.Identity:
    """Return who it is, in numbers that count inside."""
    uids, gids = (set(map(int, status[name].split())) for name in ("Uid", "Gid"))
    if len(uids) != 1 or len(gids) != 1:
        raise JailError(f"process {pid} has several uids or gids at once", reason="it is changing")
    groups = tuple(map(int, status["Groups"].split()))
    uid_map, gid_map = (_extents(pid, name) for name in ("uid_map", "gid_map"))
    return users.Identity(
        _inside(uid_map, uids.pop()),
        _inside(gid_map, gids.pop()),
        tuple(_inside(gid_map, group) for group in groups),
    )


def _extents(pid: int, name: str) -> list[Extent]:
    rows = (line.split() for line in _text(f"/proc/{pid}/{name}").splitlines())
    return [Extent(*map(int, row)) for row in rows]


def _inside(extents: list[Extent], outside: int) -> int:
    for one in extents:
        if one.outside <= outside < one.outside + one.count:
            return one.inside + outside - one.outside
    raise JailError(f"id {outside} of the host has no name in the user namespace of the jail")


def _foreign_cgroups(pid: int) -> Iterator[str]:
    ours = set(_text("/proc/self/cgroup").splitlines())
    mounted = _hierarchies()
    for line in _text(f"/proc/{pid}/cgroup").splitlines():
        if line in ours:
            continue
        _, controllers, path = line.split(":", 2)
        where = mounted.get(controllers)
        directory = where and _below(*where, path)
        if directory is None:
            raise JailError(
                f"cannot enter the control group {path} of the jail",
                reason=f"the hierarchy {controllers or 'of version 2'} does not show it here",
            )
        yield f"{directory}/{'tasks' if controllers else 'cgroup.procs'}"


def _hierarchies() -> dict[str, tuple[str, str]]:
    """Return mount point and root of each hierarchy, by its name in /proc/PID/cgroup."""
    found: dict[str, tuple[str, str]] = {}
    names = {line.split(":", 2)[1] for line in _text("/proc/self/cgroup").splitlines()}
    for line in _text("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        root, point = fields.split()[3:5]
        if kind == "cgroup2":
            found.setdefault("", (point, root))
        elif kind == "cgroup":
            has = set(options.split(","))
            for name in names - {""}:
                if set(name.split(",")) <= has:
                    found.setdefault(name, (point, root))
    return found


def _below(point: str, root: str, path: str) -> str | None:
    """Return where ``path`` of a hierarchy is, None if its mount does not show it."""
    if "/.." in path:
        return None  # outside our cgroup namespace: cgroup_namespaces(7)
    if root == "/":
        return point + path.rstrip("/")
    if path == root or path.startswith(root + "/"):
        return point + path[len(root) :]
    return None
