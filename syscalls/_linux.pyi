"""Types of the calls: each is one system call, named and ordered as its manual page.

Every call raises OSError(errno, reason[, path[, path]]), also where the kernel does not have it
(ENOSYS). Calls that may block let go of the GIL and go on after a signal. Descriptors returned are
close-on-exec.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Final

from _typeshed import ReadableBuffer as Buffer

_Path = str | bytes | PathLike[str] | PathLike[bytes]

def inject(name: str, errno: int, after: int = 0, times: int = 1) -> None:
    """Make call ``name`` fail with ``errno`` after ``after`` more successes, ``times`` times.

    For tests. ``times`` -1 is for ever. Up to 16 faults; children inherit them.
    ``DONJON_INJECT=CALL:ERRNO[:AFTER[:TIMES]],...`` in the environment does the same at import,
    unless the program is set-user-id (AT_SECURE).
    """

def inject_clear() -> None:
    """Forget every injected fault."""

def fault(name: str) -> None:
    """Raise the injected fault of ``name``, if any: for steps that call ``os`` instead."""

Argument = int | bytes | tuple[int] | list[bytes]
Entry = tuple[str, tuple[Argument, ...], int, str]

def play(
    flags: int,
    tape: tuple[Entry, ...],
    error_fd: int,
    program: bytes,
    argv: tuple[bytes, ...],
    environment: tuple[bytes, ...],
    message: bytes,
    *,
    share: bool = False,
    cgroup: int = -1,
    deadline: int = 5000,
) -> tuple[int, int]:
    """clone3(2), the calls of a tape, execve(2): ``(pid, pidfd)``. No Python runs in the child.

    An entry is the call's name, its arguments, the register that its result goes to (-1: none; -2:
    none, and ENOSYS and EPERM are no failure), and what could not be done if it fails. An argument
    is a number, bytes for an address, a list of bytes for a filter of system calls, or ``(n,)``
    for what is in register n. A failure is that text (``message`` for the
    program) and the reason on ``error_fd``, and exit status 1. The program has the descriptors 0
    to 3 and no other, and no signal blocked or ignored.

    With ``share`` the child uses our memory, nothing is copied, and the call returns when the
    program was executed or the child is gone; it is killed after ``deadline`` milliseconds.
    """

def clone3(flags: int, *, exit_signal: int = -1, cgroup: int = -1) -> tuple[int, int]:
    """clone3(2) as fork(2): ``(pid, pidfd)`` in the parent, ``(0, -1)`` in the child.

    Only flags that leave the child a copy of this process are taken, others are ValueError.
    CLONE_PIDFD is always set; ``cgroup``, a directory of the v2 hierarchy, sets CLONE_INTO_CGROUP.
    ``exit_signal`` -1 is SIGCHLD, or 0 with CLONE_PARENT (the kernel gives the child the caller's
    own, and refuses another). Where clone3 is ENOSYS, clone(2) is taken for what it can do too: no
    cgroup and no time namespace.

    The caller has one thread. Handlers of os.register_at_fork() run, those of pthread_atfork(3)
    do not.
    """

def unshare(flags: int, /) -> None:
    """unshare(2)."""

def setns(fd: int, nstype: int = 0) -> None:
    """setns(2): ``fd`` is a namespace, or a pidfd with CLONE_NEW* in ``nstype``."""

def inotify_init1(flags: int = 0) -> int:
    """inotify_init1(2)."""

def inotify_add_watch(fd: int, path: _Path, mask: int) -> int:
    """inotify_add_watch(2): the watch descriptor."""

def inotify_rm_watch(fd: int, wd: int) -> None:
    """inotify_rm_watch(2)."""

def pidfd_open(pid: int, flags: int = 0) -> int:
    """pidfd_open(2)."""

def pidfd_send_signal(pidfd: int, sig: int, flags: int = 0) -> None:
    """pidfd_send_signal(2), with no siginfo."""

def pidfd_getfd(pidfd: int, targetfd: int, flags: int = 0) -> int:
    """pidfd_getfd(2)."""

def mount(
    source: _Path | None,
    target: _Path,
    filesystemtype: str | bytes | None = None,
    mountflags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """mount(2); None is NULL."""

def umount2(target: _Path, flags: int = 0) -> None:
    """umount2(2)."""

def pivot_root(new_root: _Path, put_old: _Path) -> None:
    """pivot_root(2)."""

def open_tree(dirfd: int, path: _Path, flags: int = 0) -> int:
    """open_tree(2)."""

def move_mount(
    from_dirfd: int, from_path: _Path, to_dirfd: int, to_path: _Path, flags: int = 0
) -> None:
    """move_mount(2)."""

def mount_setattr(
    dirfd: int,
    path: _Path,
    flags: int = 0,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2)."""

def fsopen(fsname: str, flags: int = 0) -> int:
    """fsopen(2)."""

def fsconfig(
    fd: int, cmd: int, key: str | None = None, value: _Path | None = None, aux: int = 0
) -> None:
    """fsconfig(2). After a failure, os.read(fd) gives the kernel's own words. The length of a
    FSCONFIG_SET_BINARY value is its own."""

def fsmount(fsfd: int, flags: int = 0, attr_flags: int = 0) -> int:
    """fsmount(2)."""

def openat2(dirfd: int, path: _Path, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2). EAGAIN, which any rename on the host can cause under RESOLVE_BENEATH and
    RESOLVE_IN_ROOT, is tried again up to 64 times."""

def loop_ctl_get_free(fd: int) -> int:
    """LOOP_CTL_GET_FREE of loop(4), on /dev/loop-control: the number of a free device."""

def loop_configure(fd: int, backing: int, flags: int, name: _Path | None = None) -> None:
    """LOOP_CONFIGURE of loop(4), Linux 5.8. EBUSY: somebody else took the device."""

def loop_clr_fd(fd: int) -> None:
    """LOOP_CLR_FD of loop(4)."""

def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2); ``last`` is included, 0xFFFFFFFF is all."""

def madvise(address: int, length: int, advice: int) -> None:
    """madvise(2) of this process's own memory. ``advice`` is MADV_MERGEABLE or MADV_UNMERGEABLE:
    others throw memory away and are ValueError."""

def set_memory_merge(on: bool, /) -> None:
    """PR_SET_MEMORY_MERGE of prctl(2), Linux 6.4: all memory of this process and its children."""

def capget(pid: int = 0) -> tuple[int, int, int]:
    """capget(2): (effective, permitted, inheritable), masks of 64 bits."""

def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread, masks of 64 bits."""

def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) with numbers; PR_GET_PDEATHSIG and PR_GET_CHILD_SUBREAPER return what they write.

    Options that take another pointer are ValueError: set_name() is the one that is needed.
    """

def capbset_drop(cap: int, /) -> None:
    """PR_CAPBSET_DROP of prctl(2)."""

def cap_ambient_raise(cap: int, /) -> None:
    """PR_CAP_AMBIENT_RAISE of prctl(2)."""

def cap_ambient_lower(cap: int, /) -> None:
    """PR_CAP_AMBIENT_LOWER of prctl(2)."""

def cap_ambient_clear_all() -> None:
    """PR_CAP_AMBIENT_CLEAR_ALL of prctl(2)."""

def set_no_new_privs() -> None:
    """PR_SET_NO_NEW_PRIVS of prctl(2); there is no way back."""

def set_pdeathsig(sig: int, /) -> None:
    """PR_SET_PDEATHSIG of prctl(2); 0 is none. A change of uid clears it, and fork."""

def get_pdeathsig() -> int:
    """PR_GET_PDEATHSIG of prctl(2); 0 is none."""

def set_cmdline(args: Sequence[bytes], /) -> None:
    """Show ``args`` in /proc/PID/cmdline: PR_SET_MM_MAP of prctl(2), with memory of our own.

    The first call reads /proc/self/stat. OSError where the kernel lacks CONFIG_CHECKPOINT_RESTORE,
    and for no arguments (EINVAL).
    """

def set_child_subreaper(on: bool, /) -> None:
    """PR_SET_CHILD_SUBREAPER of prctl(2)."""

def set_name(name: str | bytes, /) -> None:
    """PR_SET_NAME of prctl(2); the kernel keeps 15 bytes."""

def last_cap() -> int:
    """The highest capability of the running kernel, by PR_CAPBSET_READ (no /proc needed)."""

def landlock_abi() -> int:
    """The ABI of Landlock, from 1: landlock_create_ruleset(2)."""

def seccomp_action_avail(action: int, /) -> None:
    """SECCOMP_GET_ACTION_AVAIL of seccomp(2); OSError where ``action`` is not available."""

def seccomp_filter(program: Buffer, flags: int = 0) -> int:
    """SECCOMP_SET_MODE_FILTER of seccomp(2): ``program`` is an array of struct sock_filter.

    Returns 0; with SECCOMP_FILTER_FLAG_NEW_LISTENER a descriptor, close-on-exec.
    """

def seccomp_notif_recv(fd: int, /) -> tuple[int, int, int, int, tuple[int, ...]]:
    """SECCOMP_IOCTL_NOTIF_RECV of seccomp_unotify(2): ``(id, pid, nr, arch, args)``."""

def seccomp_notif_continue(fd: int, number: int) -> None:
    """SECCOMP_IOCTL_NOTIF_SEND of seccomp_unotify(2): let the call be made."""

def landlock_create_ruleset(
    handled_access_fs: int, handled_access_net: int = 0, scoped: int = 0
) -> int:
    """landlock_create_ruleset(2)."""

def landlock_add_path(ruleset_fd: int, parent_fd: int, allowed_access: int) -> None:
    """landlock_add_rule(2) with LANDLOCK_RULE_PATH_BENEATH."""

def landlock_restrict_self(ruleset_fd: int, flags: int = 0) -> None:
    """landlock_restrict_self(2) for this thread."""

def join_session_keyring() -> int:
    """KEYCTL_JOIN_SESSION_KEYRING of keyctl(2) without a name: a new keyring's number."""

def ioprio_set(which: int, who: int, ioprio: int) -> None:
    """ioprio_set(2)."""

def ioprio_get(which: int, who: int) -> int:
    """ioprio_get(2)."""

def tunsetiff(fd: int, name: str, flags: int) -> str:
    """TUNSETIFF of linux/if_tun.h: make or take a device; its name."""

def tungetiff(fd: int, /) -> tuple[str, int]:
    """TUNGETIFF: ``(name, flags)``."""

def tunsetoffload(fd: int, flags: int) -> None:
    """TUNSETOFFLOAD: what the reader accepts, of TUN_F_*."""

def tunsetvnethdrsz(fd: int, size: int) -> None:
    """TUNSETVNETHDRSZ: bytes of the virtio header before each packet."""

def sethostname(name: str | bytes, /) -> None:
    """sethostname(2)."""

def setdomainname(name: str | bytes, /) -> None:
    """setdomainname(2)."""

capability_names: Final[dict[str, int]]
"""Names of capabilities(7) without "cap_", in lower case, and their numbers."""

CLONE_NEWNS: Final[int]
CLONE_NEWCGROUP: Final[int]
CLONE_NEWUTS: Final[int]
CLONE_NEWIPC: Final[int]
CLONE_NEWUSER: Final[int]
CLONE_NEWPID: Final[int]
CLONE_NEWNET: Final[int]
CLONE_NEWTIME: Final[int]
CLONE_FS: Final[int]
CLONE_FILES: Final[int]
CLONE_SYSVSEM: Final[int]
CLONE_IO: Final[int]
CLONE_PARENT: Final[int]
CLONE_PIDFD: Final[int]
CLONE_CLEAR_SIGHAND: Final[int]
CLONE_INTO_CGROUP: Final[int]
MS_RDONLY: Final[int]
MS_NOSUID: Final[int]
MS_NODEV: Final[int]
MS_NOEXEC: Final[int]
MS_SYNCHRONOUS: Final[int]
MS_REMOUNT: Final[int]
MS_MANDLOCK: Final[int]
MS_DIRSYNC: Final[int]
MS_NOSYMFOLLOW: Final[int]
MS_NOATIME: Final[int]
MS_NODIRATIME: Final[int]
MS_BIND: Final[int]
MS_MOVE: Final[int]
MS_REC: Final[int]
MS_SILENT: Final[int]
MS_POSIXACL: Final[int]
MS_UNBINDABLE: Final[int]
MS_PRIVATE: Final[int]
MS_SLAVE: Final[int]
MS_SHARED: Final[int]
MS_RELATIME: Final[int]
MS_KERNMOUNT: Final[int]
MS_I_VERSION: Final[int]
MS_STRICTATIME: Final[int]
MS_LAZYTIME: Final[int]
MNT_FORCE: Final[int]
MNT_DETACH: Final[int]
MNT_EXPIRE: Final[int]
UMOUNT_NOFOLLOW: Final[int]
AT_FDCWD: Final[int]
AT_SYMLINK_NOFOLLOW: Final[int]
AT_SYMLINK_FOLLOW: Final[int]
AT_EMPTY_PATH: Final[int]
AT_NO_AUTOMOUNT: Final[int]
AT_RECURSIVE: Final[int]
OPEN_TREE_CLONE: Final[int]
OPEN_TREE_CLOEXEC: Final[int]
MOVE_MOUNT_F_SYMLINKS: Final[int]
MOVE_MOUNT_F_AUTOMOUNTS: Final[int]
MOVE_MOUNT_F_EMPTY_PATH: Final[int]
MOVE_MOUNT_T_SYMLINKS: Final[int]
MOVE_MOUNT_T_AUTOMOUNTS: Final[int]
MOVE_MOUNT_T_EMPTY_PATH: Final[int]
MOVE_MOUNT_SET_GROUP: Final[int]
MOVE_MOUNT_BENEATH: Final[int]
FSOPEN_CLOEXEC: Final[int]
FSMOUNT_CLOEXEC: Final[int]
FSCONFIG_SET_FLAG: Final[int]
FSCONFIG_SET_STRING: Final[int]
FSCONFIG_SET_BINARY: Final[int]
FSCONFIG_SET_PATH: Final[int]
FSCONFIG_SET_PATH_EMPTY: Final[int]
FSCONFIG_SET_FD: Final[int]
FSCONFIG_CMD_CREATE: Final[int]
FSCONFIG_CMD_RECONFIGURE: Final[int]
FSCONFIG_CMD_CREATE_EXCL: Final[int]
MOUNT_ATTR_RDONLY: Final[int]
MOUNT_ATTR_NOSUID: Final[int]
MOUNT_ATTR_NODEV: Final[int]
MOUNT_ATTR_NOEXEC: Final[int]
MOUNT_ATTR_RELATIME: Final[int]
MOUNT_ATTR__ATIME: Final[int]
MOUNT_ATTR_NOATIME: Final[int]
MOUNT_ATTR_STRICTATIME: Final[int]
MOUNT_ATTR_NODIRATIME: Final[int]
MOUNT_ATTR_IDMAP: Final[int]
MOUNT_ATTR_NOSYMFOLLOW: Final[int]
RESOLVE_NO_XDEV: Final[int]
RESOLVE_NO_MAGICLINKS: Final[int]
RESOLVE_NO_SYMLINKS: Final[int]
RESOLVE_BENEATH: Final[int]
RESOLVE_IN_ROOT: Final[int]
RESOLVE_CACHED: Final[int]
CLOSE_RANGE_UNSHARE: Final[int]
CLOSE_RANGE_CLOEXEC: Final[int]
PIDFD_NONBLOCK: Final[int]
PR_SET_PDEATHSIG: Final[int]
PR_GET_PDEATHSIG: Final[int]
PR_SET_DUMPABLE: Final[int]
PR_GET_DUMPABLE: Final[int]
PR_SET_KEEPCAPS: Final[int]
PR_GET_KEEPCAPS: Final[int]
PR_SET_NAME: Final[int]
PR_GET_SECCOMP: Final[int]
PR_SET_SECCOMP: Final[int]
PR_CAPBSET_READ: Final[int]
PR_CAPBSET_DROP: Final[int]
PR_GET_SECUREBITS: Final[int]
PR_SET_SECUREBITS: Final[int]
PR_SET_TIMERSLACK: Final[int]
PR_SET_CHILD_SUBREAPER: Final[int]
PR_GET_CHILD_SUBREAPER: Final[int]
PR_SET_NO_NEW_PRIVS: Final[int]
PR_GET_NO_NEW_PRIVS: Final[int]
PR_SET_THP_DISABLE: Final[int]
PR_CAP_AMBIENT: Final[int]
PR_CAP_AMBIENT_IS_SET: Final[int]
PR_CAP_AMBIENT_RAISE: Final[int]
PR_CAP_AMBIENT_LOWER: Final[int]
PR_CAP_AMBIENT_CLEAR_ALL: Final[int]
PR_SET_MDWE: Final[int]
PR_MDWE_REFUSE_EXEC_GAIN: Final[int]
PR_SET_MEMORY_MERGE: Final[int]
MADV_MERGEABLE: Final[int]
MADV_UNMERGEABLE: Final[int]
PR_GET_MEMORY_MERGE: Final[int]
SECBIT_NOROOT: Final[int]
SECBIT_NOROOT_LOCKED: Final[int]
SECBIT_NO_SETUID_FIXUP: Final[int]
SECBIT_NO_SETUID_FIXUP_LOCKED: Final[int]
SECBIT_KEEP_CAPS: Final[int]
SECBIT_KEEP_CAPS_LOCKED: Final[int]
SECBIT_NO_CAP_AMBIENT_RAISE: Final[int]
SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED: Final[int]
SECCOMP_RET_KILL_PROCESS: Final[int]
SECCOMP_RET_ERRNO: Final[int]
SECCOMP_RET_LOG: Final[int]
SECCOMP_RET_ALLOW: Final[int]
SECCOMP_RET_USER_NOTIF: Final[int]
SECCOMP_FILTER_FLAG_TSYNC: Final[int]
SECCOMP_FILTER_FLAG_TSYNC_ESRCH: Final[int]
SECCOMP_FILTER_FLAG_NEW_LISTENER: Final[int]
SIOCGIFCONF: Final[int]
SIOCGIFFLAGS: Final[int]
SIOCSIFFLAGS: Final[int]
IFF_UP: Final[int]
IFF_RUNNING: Final[int]
IFF_LOOPBACK: Final[int]
IFF_TUN: Final[int]
IFF_NO_PI: Final[int]
IFF_VNET_HDR: Final[int]
IFF_MULTI_QUEUE: Final[int]
TUN_F_CSUM: Final[int]
TUN_F_TSO4: Final[int]
TUN_F_TSO6: Final[int]
TUN_F_TSO_ECN: Final[int]
TUN_F_USO4: Final[int]
TUN_F_USO6: Final[int]
LO_FLAGS_AUTOCLEAR: Final[int]
LO_FLAGS_READ_ONLY: Final[int]
CGROUP_SUPER_MAGIC: Final[int]
CGROUP2_SUPER_MAGIC: Final[int]
PROC_SUPER_MAGIC: Final[int]
TMPFS_MAGIC: Final[int]
OVERLAYFS_SUPER_MAGIC: Final[int]
NSFS_MAGIC: Final[int]
CAP_CHOWN: Final[int]
CAP_DAC_OVERRIDE: Final[int]
CAP_DAC_READ_SEARCH: Final[int]
CAP_FOWNER: Final[int]
CAP_FSETID: Final[int]
CAP_KILL: Final[int]
CAP_SETGID: Final[int]
CAP_SETUID: Final[int]
CAP_SETPCAP: Final[int]
CAP_LINUX_IMMUTABLE: Final[int]
CAP_NET_BIND_SERVICE: Final[int]
CAP_NET_BROADCAST: Final[int]
CAP_NET_ADMIN: Final[int]
CAP_NET_RAW: Final[int]
CAP_IPC_LOCK: Final[int]
CAP_IPC_OWNER: Final[int]
CAP_SYS_MODULE: Final[int]
CAP_SYS_RAWIO: Final[int]
CAP_SYS_CHROOT: Final[int]
CAP_SYS_PTRACE: Final[int]
CAP_SYS_PACCT: Final[int]
CAP_SYS_ADMIN: Final[int]
CAP_SYS_BOOT: Final[int]
CAP_SYS_NICE: Final[int]
CAP_SYS_RESOURCE: Final[int]
CAP_SYS_TIME: Final[int]
CAP_SYS_TTY_CONFIG: Final[int]
CAP_MKNOD: Final[int]
CAP_LEASE: Final[int]
CAP_AUDIT_WRITE: Final[int]
CAP_AUDIT_CONTROL: Final[int]
CAP_SETFCAP: Final[int]
CAP_MAC_OVERRIDE: Final[int]
CAP_MAC_ADMIN: Final[int]
CAP_SYSLOG: Final[int]
CAP_WAKE_ALARM: Final[int]
CAP_BLOCK_SUSPEND: Final[int]
CAP_AUDIT_READ: Final[int]
CAP_PERFMON: Final[int]
CAP_BPF: Final[int]
CAP_CHECKPOINT_RESTORE: Final[int]
IN_ATTRIB: Final[int]
IN_CLOSE_WRITE: Final[int]
IN_CREATE: Final[int]
IN_DELETE: Final[int]
IN_DELETE_SELF: Final[int]
IN_IGNORED: Final[int]
IN_MODIFY: Final[int]
IN_MOVED_FROM: Final[int]
IN_MOVED_TO: Final[int]
IN_MOVE_SELF: Final[int]
IN_ONLYDIR: Final[int]
IN_Q_OVERFLOW: Final[int]
IN_UNMOUNT: Final[int]
