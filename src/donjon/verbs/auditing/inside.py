"""What can be done from inside a jail: a child goes in, becomes its user, and tries.

The child joins the namespaces of a process that it holds by a descriptor, so that no other can
take its number. It drops everything before it looks at a file of the jail's: from then on it is
one of the jail's own processes, with its filter, and imports nothing. What it says is a line for
each attempt, ``NAME ERROR``, of names that are known here; anything else is ignored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Callable

from donjon import syscalls
from donjon.emperor.client import DEFAULT_SOCKET
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.jail import capabilities, seccomp, seccomp_profile, users
from donjon.records import dataclass
from donjon.verbs.auditing.checks import Verdict
from donjon.verbs.auditing.facts import Facts, Process, facts_of

AREA = "from inside"
_FLAGS = {
    "user": syscalls.CLONE_NEWUSER,
    "mnt": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "net": syscalls.CLONE_NEWNET,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "cgroup": syscalls.CLONE_NEWCGROUP,
}
_FILTER = "filter system calls: "
_JAIL, _WRITER = 50, 51  # descriptors of who goes in, and no others
_PATIENCE = 10.0  # seconds; a jail can stop what is in it


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that a jail should not let happen."""

    name: str
    weight: int
    act: Callable[[], object]
    advice: str


def _mount() -> None:
    syscalls.mount("none", "/tmp", "tmpfs")
    syscalls.umount2("/tmp", syscalls.MNT_DETACH)


def _unshare() -> None:
    syscalls.unshare(syscalls.CLONE_NEWUSER)


def _open(path: str, flags: int) -> Callable[[], None]:
    """Open a file; what a jail put there instead must not make anybody wait."""
    return lambda: os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))


def _vsock() -> None:
    socket.socket(40, socket.SOCK_STREAM).close()  # AF_VSOCK: the hypervisor's services


def _keyring() -> None:
    syscalls.join_session_keyring()


def _root_again() -> None:
    os.setresuid(0, 0, 0)


def _other_process() -> None:
    """Find a process of another user; the owner of its directory may be root all the same."""
    for name in os.listdir("/proc"):
        if name.isdigit() and _uid_of(name) != os.getuid():
            return
    raise FileNotFoundError(errno.ENOENT, "no other user's process")


def _uid_of(name: str) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended
        number = os.open(f"/proc/{name}/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = os.read(number, 4096).split(b"\n")
        finally:
            os.close(number)
        return next(int(line.split()[1]) for line in lines if line.startswith(b"Uid:"))
    return os.getuid()


ATTEMPTS = (
    Attempt("mount a file system", 5, _mount, "leave seccomp and cap out"),
    Attempt("make a user namespace", 4, _unshare, "leave seccomp out, or a user namespace"),
    Attempt("become root", 6, _root_again, "set uid"),
    Attempt("read the password hashes", 5, _open("/etc/shadow", os.O_RDONLY), "rootfs = host"),
    Attempt(
        "write a kernel setting", 5, _open("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        "rootfs = host",
    ),
    Attempt("trigger the kernel's keys", 2, _open("/proc/sysrq-trigger", os.O_WRONLY), "set uid"),
    Attempt("see other users' processes", 3, _other_process, "emperor-use-clone = pid"),
    Attempt("reach the Emperor's control socket", 3, _open(DEFAULT_SOCKET, os.O_PATH),
            "rootfs = host"),
    Attempt("reach the container daemon", 4, _open("/run/docker.sock", os.O_PATH),
            "rootfs = host"),
    Attempt("open a vsock to the hypervisor", 3, _vsock, "leave seccomp out"),
    Attempt("use the kernel's keyrings", 2, _keyring, "leave seccomp out"),
)  # fmt: skip
_BY_NAME = {attempt.name: attempt for attempt in ATTEMPTS}


def attempts(facts: Facts) -> list[Verdict]:
    """Return what came of each attempt; ``good`` is None for all if nobody could go in."""
    try:
        code = _filter_of(facts)
        said = _sent_in(facts.first, code)
    except (OSError, DonjonError) as error:
        why = reason_of(error) if isinstance(error, OSError) else str(error)
        return [Verdict(AREA, one.name, None, one.weight, why) for one in ATTEMPTS]
    results = dict(line.rpartition(" ")[::2] for line in said.splitlines())
    return [_verdict(one, results.get(one.name)) for one in ATTEMPTS]


def _verdict(attempt: Attempt, result: str | None) -> Verdict:
    if result is None or not (result == "done" or result in errno.errorcode.values()):
        return Verdict(AREA, attempt.name, None, attempt.weight, "nothing was heard of it")
    good = result != "done"
    detail = f"refused: {result}" if good else "it can"
    return Verdict(
        AREA, attempt.name, good, attempt.weight, detail, "" if good else attempt.advice
    )


def _filter_of(facts: Facts) -> bytes:
    """Return the jail's filter. Raises DonjonError if nobody should go in."""
    if os.geteuid() != 0:
        raise DonjonError("only root can go in")
    if not facts.processes:
        raise DonjonError("the jail has no process left")
    if not facts.processes[0].filtered:
        return b""
    lines = [step.partition(_FILTER)[2] for step in facts.plan if _FILTER in step]
    if not lines:
        raise DonjonError("its filter is not known here")
    return seccomp.program(seccomp_profile.parse(lines[-1]).refused())


def _sent_in(pid: int, code: bytes) -> str:
    """Start a child that tries inside; return what it tells."""
    with Fd(syscalls.pidfd_open(pid)) as jail:
        process = facts_of(pid)  # read while the descriptor holds the process
        if _ended(jail.fileno(), 0) or process is None:
            raise DonjonError("the jail ended")
        reader, writer = (Fd(number) for number in os.pipe())
        with reader, writer:
            child, number = syscalls.clone3(0)
            if child == 0:
                os._exit(_go_in(process, jail.fileno(), writer.fileno(), code))
            writer.close()
            with Fd(number) as own:
                if not _ended(own.fileno(), _PATIENCE):
                    syscalls.pidfd_send_signal(own.fileno(), signal.SIGKILL)
                os.waitid(os.P_PIDFD, own.fileno(), os.WEXITED)
            os.set_blocking(reader.fileno(), False)
            try:
                return os.read(reader.fileno(), 4096).decode("ascii", "replace")
            except BlockingIOError:
                return ""


def _ended(pidfd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _go_in(process: Process, jail: int, writer: int, code: bytes) -> int:
    """Join, and have a child that is in the pid namespace too try.

    Undumpable, so that no root of a user namespace can trace it while it still has rights.
    """
    try:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        os.dup2(jail, _JAIL)
        os.dup2(writer, _WRITER)
        syscalls.close_range(0, _JAIL - 1, 0)
        syscalls.close_range(_WRITER + 1, 0xFFFFFFFF, 0)
        flags = 0
        for name in process.own:
            flags |= _FLAGS[name]
        if flags:
            syscalls.setns(_JAIL, flags)
        child = os.fork()
        if child == 0:
            os.close(_JAIL)
            _drop(process, code)
            syscalls.set_pdeathsig(signal.SIGKILL)  # a change of uid takes it back
            _try_all(user_namespace="user" in process.own)
            os._exit(0)
        os.waitpid(child, 0)
    except (OSError, DonjonError):
        return 1  # said by silence
    return 0


def _drop(process: Process, code: bytes) -> None:
    """Be one of the jail's processes. In a user namespace its root stands for the host's uid."""
    inside = "user" in process.own
    uid, gid = (0, 0) if inside else (process.uids[0], process.gids[0])
    groups = () if inside else process.groups
    capabilities.bound(())
    os.chdir("/")
    users.become(users.Identity(uid, gid, groups))
    capabilities.hold((), ambient=False)
    syscalls.set_no_new_privs()
    if code:
        seccomp.install(code)


def _try_all(*, user_namespace: bool) -> None:
    for attempt in ATTEMPTS:
        error = errno.EPERM  # root of a user namespace is nobody outside
        if not (attempt.act is _root_again and user_namespace):
            error = _tried(attempt)
        result = errno.errorcode.get(error, "EIO") if error else "done"
        os.write(_WRITER, f"{attempt.name} {result}\n".encode("ascii"))


def _tried(attempt: Attempt) -> int:
    """Try in a child, so that no attempt changes the next; return the error, 0 for none."""
    child = os.fork()
    if child == 0:
        try:
            syscalls.set_pdeathsig(signal.SIGKILL)
            attempt.act()
        except OSError as error:
            os._exit(error.errno or errno.EIO)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
