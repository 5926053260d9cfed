"""Namespaces, each really made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from donjon import syscalls
from donjon.verbs.finding import Finding, judged
from donjon.verbs.probes import trial

AREA = "namespaces"

TYPES = (
    ("mount", syscalls.CLONE_NEWNS, True),
    ("pid", syscalls.CLONE_NEWPID, True),
    ("network", syscalls.CLONE_NEWNET, True),
    ("host name (uts)", syscalls.CLONE_NEWUTS, True),
    ("ipc", syscalls.CLONE_NEWIPC, True),
    ("user", syscalls.CLONE_NEWUSER, False),
    ("cgroup", syscalls.CLONE_NEWCGROUP, False),
    ("time", 0, False),
)
FILES = {"mount": "mnt", "network": "net", "host name (uts)": "uts"}


def findings() -> Iterator[Finding]:
    """Yield one finding a type, and whether they work together."""
    for name, flag, needed in TYPES:
        attempt = trial.nothing if flag else _time
        problem = trial.failure(attempt, flags=flag)
        yield judged(AREA, name, problem, needed=needed, remedy=_remedy(name, problem))
    together = (
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWPID
        | syscalls.CLONE_NEWNET
        | syscalls.CLONE_NEWUTS
        | syscalls.CLONE_NEWIPC
    )
    for name, attempt in TOGETHER:
        problem = trial.failure(attempt, flags=together)
        yield judged(
            AREA,
            name,
            problem,
            needed=True,
            remedy="a host, or a container with --privileged, whose /proc is not covered",
        )


def _remedy(name: str, problem: str | None) -> str:
    if problem is None:
        return ""
    file = FILES.get(name, name)
    if not os.path.exists(f"/proc/self/ns/{file}"):
        return "a kernel that has it (CONFIG_NAMESPACES and CONFIG_*_NS)"
    if name == "user":
        return "sysctl user.max_user_namespaces (and kernel.unprivileged_userns_clone, apparmor)"
    return "root with CAP_SYS_ADMIN, and user.max_*_namespaces above 0 (sysctl)"


def _time() -> None:
    syscalls.unshare(syscalls.CLONE_NEWTIME)


def _proc() -> None:
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV)


def _new_root() -> None:
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", "/proc", "tmpfs")  # any directory that is always there
    os.chdir("/proc")
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)


TOGETHER: tuple[tuple[str, Callable[[], None]], ...] = (
    ("five at once, with a /proc of their own", _proc),
    ("another root (pivot_root)", _new_root),
)
