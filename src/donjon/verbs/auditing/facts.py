"""What /proc tells about a running jail, gathered once; nothing is judged here.

All is read from the host's side. The jail's processes may end or change meanwhile: one that is
gone is left out, and nothing that a jail can write (a command line, a name) is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from donjon.errors import DonjonError
from donjon.records import dataclass

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
_SETS = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/PID/mountinfo: proc_pid_mountinfo(5)."""

    number: int
    point: str
    options: frozenset[str]
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the jail."""

    pid: int
    uids: tuple[int, ...]  # real, effective, saved, of the file system; as the host sees them
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    caps: dict[str, int]  # by the names of /proc/PID/status
    no_new_privs: bool
    filtered: bool
    own: frozenset[str]  # namespaces that are not ours
    core: str  # soft limit
    oom_score_adj: int
    foreign: tuple[str, ...]  # open files and directories on mounts that are not the jail's


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A jail: its first process, and all below."""

    first: int
    processes: tuple[Process, ...]
    mounts: tuple[Mount, ...]
    own_root: bool
    cgroups: dict[str, str]  # path by controller, "" for version 2
    parents_cgroups: dict[str, str]
    limits: dict[str, str]  # of control groups, by the file's name
    plan: tuple[str, ...] = ()

    def planned(self, words: str) -> bool:
        """Whether a step of the plan says these words."""
        return any(words in step for step in self.plan)


def gather(pid: int, plan: tuple[str, ...] = ()) -> Facts:
    """Return the facts about the jail whose first process is ``pid``. Raises DonjonError."""
    try:
        mounts = tuple(_mounts(pid))
        own_root = not os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))
        cgroups = _cgroups(pid)
        parents_cgroups = _cgroups(_parent(pid))
    except FileNotFoundError as error:
        raise DonjonError(f"there is no process {pid}") from error
    except PermissionError as error:
        raise DonjonError(f"cannot look at process {pid}", hint="audit needs root") from error
    numbers = frozenset(mount.number for mount in mounts)
    found = [_process(one, numbers) for one in _tree(pid)]
    return Facts(
        first=pid,
        processes=tuple(one for one in found if one is not None),
        mounts=mounts,
        own_root=own_root,
        cgroups=cgroups,
        parents_cgroups=parents_cgroups,
        limits=_limits(cgroups),
        plan=plan,
    )


def facts_of(pid: int) -> Process | None:
    """Return the facts about one process, None if it ended."""
    try:
        return _process(pid, frozenset(mount.number for mount in _mounts(pid)))
    except OSError:
        return None


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        words = [_read(f"/proc/{pid}/task/{task}/children").split() for task in tasks]
    except OSError:
        return  # it ended
    for children in words:
        for child in children:
            yield from _tree(int(child))


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _process(pid: int, mounts: frozenset[int]) -> Process | None:
    try:
        lines = [line.partition(":") for line in _read(f"/proc/{pid}/status").splitlines()]
        fields = {name: value.split() for name, _, value in lines}
        return Process(
            pid=pid,
            uids=tuple(map(int, fields["Uid"])),
            gids=tuple(map(int, fields["Gid"])),
            groups=tuple(map(int, fields["Groups"])),
            caps={name: int(fields[name][0], 16) for name in _SETS},
            no_new_privs=fields["NoNewPrivs"] == ["1"],
            filtered=fields["Seccomp"] == ["2"],
            own=frozenset(_own_namespaces(pid)),
            core=_core_limit(pid),
            oom_score_adj=int(_read(f"/proc/{pid}/oom_score_adj")),
            foreign=tuple(_foreign(pid, mounts)),
        )
    except (OSError, LookupError):
        return None  # it ended


def _own_namespaces(pid: int) -> Iterator[str]:
    for name in NAMESPACES:
        if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
            yield name


def _core_limit(pid: int) -> str:
    for line in _read(f"/proc/{pid}/limits").splitlines():
        if line.startswith("Max core file size"):
            return line.split()[4]
    return "unlimited"


def _foreign(pid: int, mounts: frozenset[int]) -> Iterator[str]:
    """Yield what is open on a mount that the jail does not have, terminals and pipes apart."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{number}")
            info = _read(f"/proc/{pid}/fdinfo/{number}")
        except OSError:
            continue  # closed meanwhile
        if not link.startswith("/") or link.startswith(("/dev/null", "/dev/pts", "/memfd:")):
            continue
        mount = next(line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:"))
        if int(mount) not in mounts and int(number) > 2:
            yield f"{number} of {pid}: {link}"


def _mounts(pid: int) -> Iterator[Mount]:
    for line in _read(f"/proc/{pid}/mountinfo").splitlines():
        words = line.split(" ")
        kind = words[words.index("-", 6) + 1]
        yield Mount(int(words[0]), words[4], frozenset(words[5].split(",")), kind)


def _parent(pid: int) -> int:
    lines = _read(f"/proc/{pid}/status").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:")) or pid


def _cgroups(pid: int) -> dict[str, str]:
    found = {}
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.removeprefix("name=").split(","):
            found[controller] = path
    return found


_LIMIT_FILES = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max",),
}


def _limits(cgroups: dict[str, str]) -> dict[str, str]:
    """Return what the jail's groups limit, looked up where hierarchies are usually mounted."""
    found = {}
    for controller, names in _LIMIT_FILES.items():
        places = [
            f"/sys/fs/cgroup/{controller}{cgroups.get(controller, '')}",
            f"/sys/fs/cgroup/unified{cgroups.get('', '')}",
            f"/sys/fs/cgroup{cgroups.get('', '')}",
        ]
        for path in (f"{place}/{name}" for place in places for name in names):
            try:
                value = _read(path).strip()
            except OSError:
                continue
            unlimited = value == "max" or (value.isdigit() and int(value) >= 1 << 60)
            if not unlimited:
                found[controller] = value
    return found
