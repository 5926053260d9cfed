"""System calls, file systems and devices."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

from donjon import syscalls
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.jail import libseccomp
from donjon.verbs.finding import Finding, Level, judged
from donjon.verbs.probes import filesystems, trial

AREA = "kernel"
OLDER = "a kernel of {} or newer; in a container, a seccomp profile that lets it through"


def findings() -> Iterator[Finding]:
    """Yield what the kernel offers and what this process may."""
    system = os.uname()
    yield Finding(AREA, "release", Level.OK, f"{system.sysname} {system.release} {system.machine}")
    yield _root()
    yield _capabilities()
    for name, version, needed, attempt in CALLS:
        remedy = OLDER.format(version)
        yield judged(AREA, name, trial.failure(attempt), needed=needed, remedy=remedy)
    yield _overlay()
    yield from filesystems.findings()
    yield _landlock()
    yield _seccomp()
    yield _libseccomp()
    yield _same_page_merging()
    yield _tun()


def _root() -> Finding:
    uid = os.geteuid()
    return judged(
        AREA,
        "root",
        None if uid == 0 else f"this is uid {uid}",
        needed=True,
        remedy="run as root: an Emperor changes uids and makes namespaces",
    )


def _capabilities() -> Finding:
    permitted = syscalls.capget()[1]
    last = syscalls.last_cap()
    known = syscalls.capability_names.items()
    lacking = [name for name, cap in known if cap <= last and not permitted >> cap & 1]
    if not lacking:
        return Finding(AREA, "capabilities", Level.OK, "all")
    short = "none" if not permitted else "without " + " ".join(lacking)
    serious = {"sys_admin", "setuid", "setgid", "setpcap", "sys_chroot"}.intersection(lacking)
    return judged(
        AREA,
        "capabilities",
        short,
        needed=bool(serious),
        remedy="start with all, as root has them",
    )


# -- calls ----------------------------------------------------------------------------------------


def _clone3() -> None:
    pid, pidfd = syscalls.clone3(0)
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)


def _sibling() -> None:
    maker, pidfd = syscalls.clone3(0)
    if maker == 0:
        os._exit(_make_sibling())
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if ended is not None and ended.si_status:
        raise OSError(ended.si_status, os.strerror(ended.si_status))
    os.waitpid(-1, 0)


def _make_sibling() -> int:
    """Make a child of our parent; return 0 in both, or the error."""
    try:
        syscalls.clone3(syscalls.CLONE_PARENT | syscalls.CLONE_NEWPID)
    except OSError as error:
        return error.errno or 1
    return 0


def _openat2() -> None:
    flags = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    syscalls.openat2(syscalls.AT_FDCWD, "/", os.O_PATH, 0, flags)


def _mount_by_descriptor() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    tree = syscalls.open_tree(syscalls.AT_FDCWD, "/", syscalls.OPEN_TREE_CLONE)
    syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attr_set=syscalls.MOUNT_ATTR_RDONLY)


def _file_system_by_descriptor() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    context = syscalls.fsopen("tmpfs")
    syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
    syscalls.fsmount(context)


def _pidfd() -> None:
    syscalls.pidfd_send_signal(syscalls.pidfd_open(os.getpid()), 0)


def _close_range() -> None:
    syscalls.close_range(1000, 1001, syscalls.CLOSE_RANGE_CLOEXEC)


def _command_line() -> None:
    syscalls.set_cmdline([b"donjon"])


CALLS: tuple[tuple[str, str, bool, Callable[[], None]], ...] = (
    ("clone3", "5.3", True, _clone3),
    ("clone3 with CLONE_PARENT", "5.3", True, _sibling),
    ("openat2", "5.6", False, _openat2),
    ("pidfd", "5.3", True, _pidfd),
    ("close_range", "5.11", True, _close_range),
    ("mount by descriptor (open_tree, mount_setattr)", "5.12", False, _mount_by_descriptor),
    ("mount by descriptor (fsopen, fsmount)", "5.2", False, _file_system_by_descriptor),
    ("command line of one's own (PR_SET_MM_MAP)", "3.18", False, _command_line),
)
"""Name, the kernel that brought it, whether the main job needs it, and how it is tried.

Without the calls by descriptor mounts are made by mount(2), see ``jail.oldmounts``.
"""


# -- the rest -------------------------------------------------------------------------------------


def _overlay() -> Finding:
    def attempt() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        with tempfile.TemporaryDirectory() as place:
            syscalls.mount("tmpfs", place, "tmpfs")
            for name in ("lower", "upper", "work", "whole"):
                os.mkdir(f"{place}/{name}")
            layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
            try:
                syscalls.mount("overlay", f"{place}/whole", "overlay", 0, layers)
                syscalls.umount2(f"{place}/whole", syscalls.MNT_DETACH)
            finally:
                syscalls.umount2(place, syscalls.MNT_DETACH)

    return judged(
        AREA,
        "overlayfs",
        trial.failure(attempt),
        needed=False,
        remedy="modprobe overlay; without it a root cannot be layered",
    )


def _landlock() -> Finding:
    name = "landlock"
    try:
        return Finding(AREA, name, Level.OK, f"ABI {syscalls.landlock_abi()}")
    except OSError as error:
        remedy = "kernel 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and landlock in lsm="
        return Finding(AREA, name, Level.WARN, reason_of(error), remedy)


def _seccomp() -> Finding:
    problem = None
    try:
        for action in (syscalls.SECCOMP_RET_ERRNO, syscalls.SECCOMP_RET_KILL_PROCESS):
            syscalls.seccomp_action_avail(action)
    except OSError as error:
        problem = reason_of(error)
    remedy = "a kernel with CONFIG_SECCOMP_FILTER"
    return judged(AREA, "seccomp filters", problem, needed=False, remedy=remedy)


def _libseccomp() -> Finding:
    problem = None
    try:
        libseccomp.native()
    except DonjonError as error:
        problem = error.reason
    remedy = "install libseccomp2; without it seccomp = off in every jail"
    return judged(AREA, "libseccomp", problem, needed=True, remedy=remedy)


def _same_page_merging() -> Finding:
    name, switch = "KSM", "/sys/kernel/mm/ksm/run"
    try:
        with open(switch, encoding="ascii") as file:
            running = file.read().strip() == "1"
    except OSError:
        return Finding(AREA, name, Level.WARN, "absent", "a kernel with CONFIG_KSM")
    problem = None if running else "off: equal pages of vassals are not merged"
    return judged(AREA, name, problem, needed=False, remedy=f"echo 1 > {switch}")


def _tun() -> Finding:
    path = "/dev/net/tun"
    try:
        with Fd(os.open(path, os.O_RDWR | os.O_CLOEXEC)):
            return Finding(AREA, path, Level.OK)
    except OSError as error:
        remedy = "modprobe tun; without it there is no router for the packets of jails"
        return Finding(AREA, path, Level.WARN, reason_of(error), remedy)
