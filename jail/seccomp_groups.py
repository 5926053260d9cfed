"""The table of system calls: each in one group by purpose, each group with a sentence.

A profile is a choice of groups. What web applications never call is refused in every jail; what is
refused is refused with EPERM, or with ENOSYS where programs have another way for kernels without
the call. A call that is younger than this table (``YOUNGEST``) is ENOSYS too, whatever it is.

A call may be refused by its arguments alone (``When``): a filter sees the registers, not what they
point to. That is why clone3 is no call for a jail; the C library and ``syscalls.clone3`` take
clone(2) then, whose flags are a register.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
import termios

from donjon import syscalls
from donjon.records import dataclass


class Level(enum.IntEnum):
    """Which profiles let a group through; each those of the levels above it too."""

    BASIC = 0  # always: no program runs without
    STRICT = 1
    DEFAULT = 2
    REFUSED = 3  # only where it is asked for, or a capability of the jail needs it


class Compare(enum.IntEnum):
    """How an argument is compared: enum scmp_compare of seccomp.h."""

    LT = 2
    EQ = 4
    GT = 6
    MASKED_EQ = 7  # ``a`` is the mask, ``b`` what is left
    NE = 1


@dataclass(frozen=True, slots=True)
class Test:
    """A comparison of argument number ``at``."""

    at: int
    how: Compare
    a: int
    b: int = 0

    def holds(self, args: tuple[int, ...]) -> bool:
        """Whether a call with ``args`` passes."""
        value = args[self.at]
        if self.how is Compare.MASKED_EQ:
            return value & self.a == self.b
        return {
            Compare.LT: value < self.a,
            Compare.EQ: value == self.a,
            Compare.GT: value > self.a,
            Compare.NE: value != self.a,
        }[self.how]


@dataclass(frozen=True, slots=True)
class When:
    """A call that belongs to a group when all ``tests`` hold."""

    call: str
    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that serve one purpose."""

    name: str
    level: Level
    about: str
    calls: tuple[str, ...] = ()
    when: tuple[When, ...] = ()
    error: int = errno.EPERM
    absent: tuple[str, ...] = ()  # of these calls the error is ENOSYS


NUMBERS = {
    "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454,
    "futex_wait": 455, "futex_requeue": 456, "statmount": 457, "listmount": 458,
    "lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462,
    "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466,
    "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469, "listns": 470,
}  # fmt: skip
"""Calls that libseccomp 2.5 has no name for; from 424 on numbers are those of every machine."""

YOUNGEST = max(NUMBERS.values())

_SPACES = {
    "mount": syscalls.CLONE_NEWNS,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "uts": syscalls.CLONE_NEWUTS,
    "ipc": syscalls.CLONE_NEWIPC,
    "user": syscalls.CLONE_NEWUSER,
    "pid": syscalls.CLONE_NEWPID,
    "net": syscalls.CLONE_NEWNET,
}
_LOW = 0xFFFFFFFF  # the kernel takes the lower half of these arguments (CVE-2023-1523)


def _with_flags(call: str, *flags: int) -> tuple[When, ...]:
    return tuple(When(call, (Test(0, Compare.MASKED_EQ, flag, flag),)) for flag in flags)


def _with_mode(call: str, at: int) -> tuple[When, ...]:
    bits = (stat.S_ISUID, stat.S_ISGID)
    return tuple(When(call, (Test(at, Compare.MASKED_EQ, bit, bit),)) for bit in bits)


def _creating(call: str, flags: int, mode: int) -> tuple[When, ...]:
    """Files that are made with the mode; it means nothing to a call that makes none."""
    tests = [
        (Test(flags, Compare.MASKED_EQ, making, making), Test(mode, Compare.MASKED_EQ, bit, bit))
        for making in (os.O_CREAT, os.O_TMPFILE & ~os.O_DIRECTORY)
        for bit in (stat.S_ISUID, stat.S_ISGID)
    ]
    return tuple(When(call, row) for row in tests)


def _other_families(call: str) -> tuple[When, ...]:
    """AF_UNIX 1, AF_INET 2, AF_INET6 10 and AF_NETLINK 16 are left, of the last NETLINK_ROUTE."""
    single = [Test(0, Compare.EQ, family) for family in (0, *range(3, 10), *range(11, 16))]
    rows = [(test,) for test in (*single, Test(0, Compare.GT, 16))]
    return (
        *(When(call, row) for row in rows),
        When(call, (Test(0, Compare.EQ, 16), Test(2, Compare.NE, 0))),
    )


def _group(
    name: str,
    level: Level,
    about: str,
    calls: str = "",
    *,
    when: tuple[When, ...] = (),
    error: int = errno.EPERM,
    absent: tuple[str, ...] = (),
) -> Group:
    return Group(name, level, about, tuple(calls.split()), when, error, absent)


_ROWS = (
    _group(
        "basic", Level.BASIC, "Memory, threads, signals, open descriptors, the clock: no program"
        " runs without.",
        "read write readv writev pread64 pwrite64 preadv preadv2 pwritev pwritev2 lseek close"
        " close_range dup dup2 dup3 fcntl pipe pipe2 exit exit_group restart_syscall rt_sigreturn"
        " rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack"
        " pause futex futex_wait futex_wake futex_requeue futex_waitv get_robust_list"
        " set_robust_list rseq set_tid_address arch_prctl get_thread_area set_thread_area mmap"
        " munmap mremap mprotect brk madvise mincore msync map_shadow_stack mseal membarrier"
        " getpid getppid gettid getrandom clock_gettime clock_getres clock_nanosleep nanosleep"
        " time gettimeofday sched_yield getcpu sendmsg recvmsg uname sysinfo getuid geteuid"
        " getgid getegid getgroups getresuid getresgid",
    ),
    _group(
        "files", Level.STRICT, "Open, read, write, make, rename and remove files and directories.",
        "open openat openat2 creat stat lstat fstat newfstatat statx access faccessat faccessat2"
        " readlink readlinkat getdents getdents64 getcwd chdir fchdir statfs fstatfs truncate"
        " ftruncate fallocate fadvise64 readahead sendfile copy_file_range splice tee vmsplice"
        " fsync fdatasync sync syncfs sync_file_range flock umask rename renameat renameat2 link"
        " linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir mknod mknodat utime utimes"
        " utimensat futimesat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat"
        " memfd_create cachestat name_to_handle_at ioctl",
    ),
    _group(
        "attributes", Level.STRICT, "Extended attributes of files.",
        "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr"
        " llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat"
        " file_getattr file_setattr",
    ),
    _group(
        "process", Level.STRICT, "Start processes and threads, signal them, wait for them.",
        "fork vfork clone wait4 waitid kill tgkill tkill rt_sigqueueinfo rt_tgsigqueueinfo"
        " pidfd_open pidfd_send_signal getpgid getpgrp setpgid getsid setsid getrusage times prctl"
        " unshare",
    ),
    _group("exec", Level.STRICT, "Execute other programs.", "execve execveat"),
    _group(
        "identity", Level.STRICT, "Change one's own user, groups and capabilities, as far as the"
        " jail left any.",
        "setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capget"
        " capset",
    ),
    _group(
        "events", Level.STRICT, "Wait for descriptors, timers, signals and changes of files.",
        "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait"
        " epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime"
        " timerfd_gettime timer_create timer_settime timer_gettime timer_getoverrun timer_delete"
        " alarm getitimer setitimer inotify_init inotify_init1 inotify_add_watch"
        " inotify_rm_watch",
    ),
    _group(
        "network", Level.STRICT, "Sockets: unix, IPv4, IPv6, and the addresses of this host.",
        "socket socketpair bind connect listen accept accept4 getsockname getpeername getsockopt"
        " setsockopt shutdown sendto recvfrom sendmmsg recvmmsg",
    ),
    _group(
        "limits", Level.STRICT, "Look at scheduling, and lower one's own limits.",
        "getrlimit setrlimit prlimit64 getpriority ioprio_get sched_getaffinity sched_setaffinity"
        " sched_getparam sched_getscheduler sched_getattr sched_get_priority_max"
        " sched_get_priority_min sched_rr_get_interval",
    ),
    _group(
        "memory", Level.STRICT, "Lock memory, and protect it by keys.",
        "mlock mlock2 munlock mlockall munlockall pkey_alloc pkey_free pkey_mprotect"
        " remap_file_pages",
    ),
    _group(
        "sandbox", Level.STRICT, "Give up more: a program's own filters and rules.",
        "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    _group(
        "ipc", Level.DEFAULT, "Queues, semaphores and shared memory of System V and POSIX.",
        "shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl"
        " mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    ),
    _group(
        "aio", Level.DEFAULT, "Input and output by the older asynchronous interface.",
        "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    ),
    _group(
        "priority", Level.DEFAULT, "Change how the scheduler treats a process.",
        "setpriority ioprio_set sched_setparam sched_setscheduler sched_setattr",
    ),
    _group(
        "numa", Level.DEFAULT, "Say on which node memory shall lie.",
        "mbind get_mempolicy set_mempolicy set_mempolicy_home_node",
    ),
    _group(
        "setid", Level.DEFAULT, "Make files set-user-id or set-group-id.",
        when=(*_with_mode("chmod", 1), *_with_mode("fchmod", 1), *_with_mode("fchmodat", 2),
              *_with_mode("fchmodat2", 2), *_with_mode("creat", 1), *_with_mode("mknod", 1),
              *_with_mode("mknodat", 2), *_creating("open", 1, 2), *_creating("openat", 2, 3),
              When("openat2", ())),  # its mode is where no filter can look
        absent=("openat2",),
    ),
    _group(
        "introspection", Level.DEFAULT, "Ask for mounts and security modules by the newer calls.",
        "statmount listmount lsm_get_self_attr lsm_list_modules lsm_set_self_attr",
    ),
    _group(
        "secret", Level.DEFAULT, "Memory that the kernel itself cannot see.", "memfd_secret"
    ),
    _group(
        "mount", Level.REFUSED, "Mount and unmount file systems, and change the root.",
        "mount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsconfig fsmount"
        " fspick mount_setattr",
    ),
    _group("chroot", Level.REFUSED, "Change the root directory.", "chroot"),
    _group(
        "namespaces", Level.REFUSED, "Make namespaces and enter those of others.",
        "setns listns clone3",
        when=(*_with_flags("unshare", *_SPACES.values(), syscalls.CLONE_NEWTIME),
              *_with_flags("clone", *_SPACES.values())),
        absent=("clone3",),
    ),
    _group("keys", Level.REFUSED, "The kernel's keyrings.", "add_key request_key keyctl"),
    _group("bpf", Level.REFUSED, "Load programs into the kernel.", "bpf"),
    _group("perf", Level.REFUSED, "Measure by the performance counters.", "perf_event_open"),
    _group(
        "userfault", Level.REFUSED, "Handle page faults of the kernel's own accesses.",
        "userfaultfd",
    ),
    _group(
        "uring", Level.REFUSED, "Input and output by io_uring, which no filter sees into.",
        "io_uring_setup io_uring_enter io_uring_register", error=errno.ENOSYS,
    ),
    _group("boot", Level.REFUSED, "Restart the machine, or another kernel.",
           "reboot kexec_load kexec_file_load"),
    _group("modules", Level.REFUSED, "Load and unload kernel modules.",
           "init_module finit_module delete_module"),
    _group(
        "trace", Level.REFUSED, "Look into other processes, take their descriptors, move their"
        " memory.",
        "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp"
        " pidfd_getfd move_pages migrate_pages",
    ),
    _group("handles", Level.REFUSED, "Open files by handle, past every directory.",
           "open_by_handle_at"),
    _group("clock", Level.REFUSED, "Set the clock.",
           "settimeofday clock_settime clock_adjtime adjtimex"),
    _group("hardware", Level.REFUSED, "Ports of devices and segments of the processor.",
           "ioperm iopl modify_ldt"),
    _group(
        "admin", Level.REFUSED, "Swap, quotas, accounting, the host's names, hanging up.",
        "swapon swapoff acct quotactl quotactl_fd sethostname setdomainname vhangup",
    ),
    _group(
        "merging", Level.REFUSED, "Let the kernel merge equal pages with those of others, who can"
        " then tell by a write what is in them.",
        when=(When("madvise", (Test(2, Compare.EQ, syscalls.MADV_MERGEABLE),)),
              When("prctl", (Test(0, Compare.EQ, syscalls.PR_SET_MEMORY_MERGE),))),
    ),
    _group("log", Level.REFUSED, "Read and clear the kernel's log.", "syslog"),
    _group("fanotify", Level.REFUSED, "Watch whole mounts.", "fanotify_init fanotify_mark"),
    _group(
        "families", Level.REFUSED, "Sockets of every other family: vsock, packet, alg, bluetooth"
        " and the like, and netlink but for routes.",
        when=(*_other_families("socket"), *_other_families("socketpair")),
    ),
    _group(
        "personality", Level.REFUSED, "Change how programs are executed: older kernels' ways, no"
        " random addresses.",
        when=(When("personality", (Test(0, Compare.LT, _LOW),)),
              When("personality", (Test(0, Compare.GT, _LOW),))),
    ),
    _group(
        "terminals", Level.REFUSED, "Type into a terminal, or give it another line discipline.",
        when=tuple(
            When("ioctl", (Test(1, Compare.MASKED_EQ, _LOW, number),))
            for number in (termios.TIOCSTI, termios.TIOCLINUX, termios.TIOCSETD)
        ),
    ),
    _group(
        "obsolete", Level.REFUSED, "What no C library calls any more.",
        "_sysctl afs_syscall create_module get_kernel_syms query_module nfsservctl getpmsg putpmsg"
        " security tuxcall uselib ustat sysfs vserver lookup_dcookie epoll_ctl_old epoll_wait_old",
        error=errno.ENOSYS,
    ),
)  # fmt: skip

GROUPS: dict[str, Group] = {group.name: group for group in _ROWS}

FOR_CAPABILITY: dict[int, tuple[str, ...]] = {
    syscalls.CAP_SYS_ADMIN: ("mount", "namespaces", "admin", "fanotify"),
    syscalls.CAP_SYS_CHROOT: ("chroot",),
    syscalls.CAP_SYS_PTRACE: ("trace",),
    syscalls.CAP_SYS_MODULE: ("modules",),
    syscalls.CAP_SYS_BOOT: ("boot",),
    syscalls.CAP_SYS_TIME: ("clock",),
    syscalls.CAP_SYS_RAWIO: ("hardware",),
    syscalls.CAP_SYS_PACCT: ("admin",),
    syscalls.CAP_SYS_TTY_CONFIG: ("admin", "terminals"),
    syscalls.CAP_SYSLOG: ("log",),
    syscalls.CAP_DAC_READ_SEARCH: ("handles",),
    syscalls.CAP_NET_ADMIN: ("families",),
    syscalls.CAP_NET_RAW: ("families",),
    syscalls.CAP_BPF: ("bpf",),
    syscalls.CAP_PERFMON: ("perf",),
}
"""What a capability would be worth nothing without: whoever gives it gives these groups."""
