"""What a router takes off before its first packet, one named phase after the other.

Afterwards it has its socket, the sources of the host's addresses, and what it is handed. It has no
file, no network, no capability, no user, and the system calls of ``seal.c``. A pid namespace would
be for children, which it cannot have.
"""

from __future__ import annotations

import os
import resource

from donjon import syscalls

NOBODY = 0x7FFFFFF0
"""The uid and gid of routers: one that nobody else has, so that nobody may signal them."""

_SPACES = (
    syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)

MOST_DESCRIPTORS = 70000
"""Each port is one, and each that connects."""

LARGEST_MEMORY = 64 << 20

EMPTY = "size=4k"
"""Of a root in which there is nothing."""


def close_all_but(last: int) -> None:
    """Keep descriptors up to ``last``."""
    syscalls.close_range(last + 1, 0xFFFFFFFF)


def leave_namespaces(*, network: bool = True) -> None:
    """Be in empty network, mount, IPC, host name and cgroup namespaces; in the same network
    without ``network``."""
    syscalls.unshare(_SPACES if network else _SPACES & ~syscalls.CLONE_NEWNET)


def leave_files(options: str = EMPTY) -> None:
    """Have an empty root, which keeps nothing of the host's reachable; without ``options`` of its
    own it is read-only."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    kept_from = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("none", "/proc", "tmpfs", kept_from, options)
    os.chdir("/proc")
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")
    if options == EMPTY:
        flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
        syscalls.mount(None, "/", None, flags | kept_from)


def limit_resources() -> None:
    """Have many descriptors, no core, no children, and little of what else there is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, MOST_DESCRIPTORS) if hard != resource.RLIM_INFINITY else MOST_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_MEMORY, LARGEST_MEMORY))


def leave_privileges(user: int = NOBODY) -> None:
    """Have ``user``, who has nothing, no capability, and no way to gain one."""
    for capability in range(syscalls.last_cap() + 1):
        syscalls.capbset_drop(capability)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    syscalls.capset(0, 0, 0)
    syscalls.set_no_new_privs()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def seal(program: bytes) -> None:
    """Have the system calls of ``program`` alone."""
    syscalls.seccomp_filter(program, syscalls.SECCOMP_FILTER_FLAG_TSYNC)
