"""The way into a running jail, walked by a child that never comes back (see ``join``).

From the moment in which it is in the jail's mount namespace nothing is imported any more: a module
would be a file of the jail's, run with rights that the jail does not have.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from donjon import syscalls
from donjon.errors import DonjonError, JailError, reason_of
from donjon.fd import Fd
from donjon.jail import capabilities, descriptors, init, standing, users
from donjon.jail.confined import Confinement
from donjon.jail.step import Context, Step
from donjon.records import dataclass, field

FAILED, NOT_EXECUTABLE, NOT_FOUND = 1, 126, 127
_TOLD_MAX = 4096  # bytes, what a pipe takes in one piece: pipe(7)


@dataclass(frozen=True, slots=True)
class Terminal:
    """How the newcomer gets a terminal of the jail's instead of the caller's input and output.

    ``take`` is called last before the command is executed; it needs the descriptor ``link``.
    """

    take: Callable[[], None]
    link: int


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be run inside, and the walls to raise before."""

    command: tuple[str, ...]
    environment: dict[str, str]
    walls: tuple[Step, ...]
    terminal: Terminal | None = None


@dataclass(slots=True)
class Opened:
    """What is opened before the first step, because later it could not be found.

    The pipe carries one line if the command did not begin. ``filtered`` is whether the process of
    the jail has a filter of system calls: its program cannot be read, so a wall must bring it.
    """

    filtered: bool = False
    pidfd: Fd | None = None
    root: Fd | None = None
    cgroups: list[Fd] = field(default_factory=list)
    reader: Fd | None = None
    writer: Fd | None = None

    def open(self, pid: int, facts: Confinement, shells: Sequence[str] = ()) -> None:
        """Open what leads into ``pid``, and into ``shells`` below its groups. Raises OSError."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self.root = Fd(os.open(f"/proc/{pid}/root", flags))
        for path in facts.cgroups:
            inner = _inner(path, shells)
            self.cgroups.append(Fd(os.open(inner, os.O_WRONLY | os.O_CLOEXEC)))
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            modes = [line.split()[1] for line in status if line.startswith("Seccomp:")]
        self.filtered = bool(modes) and modes[0] != "0"
        self.reader, self.writer = (Fd(number) for number in os.pipe2(os.O_CLOEXEC))

    def _inside(self) -> list[Fd]:
        """Return what the envoy needs."""
        return [one for one in (self.pidfd, self.root, *self.cgroups, self.writer) if one]

    def numbers(self) -> list[int]:
        """Return the descriptors that the envoy needs."""
        return [one.fileno() for one in self._inside()]

    def close_all_but_reader(self) -> None:
        """Close what is the envoy's."""
        for one in self._inside():
            one.close()

    def close(self) -> None:
        """Close everything."""
        self.close_all_but_reader()
        if self.reader is not None:
            self.reader.close()


def _inner(path: str, shells: Sequence[str]) -> str:
    """Return the same file of the group in ``shells`` that is below, itself where none is."""
    group, name = os.path.split(path)
    inner = [one for one in shells if os.path.realpath(os.path.dirname(one)) == group]
    return f"{inner[0]}/{name}" if inner else path


def read_told(opened: Opened) -> tuple[int, str] | None:
    """Return status and line of an envoy that failed, None where the command began."""
    assert opened.reader is not None
    told = os.read(opened.reader.fileno(), _TOLD_MAX).decode("utf-8", "replace")
    status, _, text = told.partition(" ")
    return (int(status), text) if told else None


def go(caller: int, facts: Confinement, opened: Opened, errand: Errand) -> NoReturn:
    """Be the envoy, then stand in for the newcomer. All signals are blocked."""
    try:
        sys.meta_path.clear()
        sys.path_hooks.clear()
        if errand.terminal is None:
            descriptors.seal(opened.numbers())
        else:
            _leave_standard()
            descriptors.seal((*opened.numbers(), errand.terminal.link))
        for words, act in _way(caller, facts, opened):
            _try(opened, words, act)
        with Fd(syscalls.pidfd_open(os.getpid())) as myself:
            child = os.fork()
            if child == 0:
                _newcomer(myself, facts, opened, errand)
        init.stand_in(child)
    except BaseException as error:
        _tell(opened, FAILED, f"cannot join the jail: {type(error).__name__}: {error}")
    os._exit(FAILED)


def _leave_standard() -> None:
    """Hold nothing of the caller's terminal."""
    with Fd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) as null:
        for number in range(3):
            os.dup2(null.fileno(), number)


def _try(opened: Opened, words: str, act: Callable[[], object]) -> None:
    """Do one thing. A failure is told, and the end."""
    try:
        act()
    except DonjonError as error:
        _tell(opened, FAILED, str(error))
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        _tell(opened, FAILED, f"cannot join the jail: cannot {words}: {reason}")
    else:
        return
    os._exit(FAILED)


def _tell(opened: Opened, status: int, text: str) -> None:
    assert opened.writer is not None
    line = f"{status} {text}".replace("\n", " ").encode("utf-8", "backslashreplace")
    os.write(opened.writer.fileno(), line[:_TOLD_MAX])


def _way(
    caller: int, facts: Confinement, opened: Opened
) -> Sequence[tuple[str, Callable[[], object]]]:
    """Return the steps, in their order."""
    assert opened.pidfd is not None
    assert opened.root is not None
    pidfd, root = opened.pidfd.fileno(), opened.root.fileno()
    return (
        ("hide from the jail", lambda: _die_with(caller)),
        ("leave the terminal", os.setsid),
        ("enter its control groups", lambda: _enter_cgroups(opened.cgroups)),
        ("take its priority", lambda: _take_priority(facts)),
        ("raise limits to its", lambda: _raise_limits(facts)),
        ("enter its namespaces", lambda: _enter_namespaces(pidfd, facts)),
        ("enter its root", lambda: _enter_root(root)),
        ("take its identity", lambda: _take_identity(facts)),
        ("die with the caller", lambda: _die_with(caller)),
    )


def _die_with(caller: int) -> None:
    """Be untraceable, and be killed when ``caller`` ends; a change of uid undoes both."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != caller:
        os._exit(FAILED)


def _enter_cgroups(doors: Sequence[Fd]) -> None:
    for door in doors:
        syscalls.fault("join_cgroup")
        os.write(door.fileno(), b"0")  # cgroups(7): 0 is the writer
        door.close()


def _take_priority(facts: Confinement) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, facts.nice)
    standing.take_io_priority(facts.io_priority)
    with Fd(os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)) as file:
        os.write(file.fileno(), str(facts.oom_score_adj).encode())


def _raise_limits(facts: Confinement) -> None:
    """Raise hard limits, which only root can; the newcomer then lowers them."""
    for kind, (_, wanted) in facts.limits:
        soft, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY and (wanted > hard or wanted == resource.RLIM_INFINITY):
            resource.setrlimit(kind, (soft, wanted))


def _enter_namespaces(pidfd: int, facts: Confinement) -> None:
    """Enter all at once; the user namespace first, which the kernel sees to (setns(2))."""
    if facts.namespaces:
        syscalls.setns(pidfd, facts.namespaces)
    if facts.namespaces & syscalls.CLONE_NEWUSER:
        users.become(users.Identity(0, 0, ()))


def _enter_root(root: int) -> None:
    """The root of the process may be another than that of its mount namespace."""
    os.fchdir(root)
    syscalls.fault("chroot")
    os.chroot(".")


def _take_identity(facts: Confinement) -> None:
    """Bounding set, ids, the other sets: the order of capabilities(7)."""
    sets = facts.capabilities
    capabilities.bound(cap for cap in range(64) if sets.bounding >> cap & 1)
    if sets.permitted | sets.inheritable:
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    users.become(facts.identity)
    syscalls.cap_ambient_clear_all()
    syscalls.capset(sets.effective, sets.permitted, sets.inheritable)
    for cap in range(64):
        if sets.ambient >> cap & 1:
            syscalls.cap_ambient_raise(cap)


def _newcomer(envoy: Fd, facts: Confinement, opened: Opened, errand: Errand) -> NoReturn:
    """Be in the jail's namespace of processes; raise the last walls, and execute."""
    try:
        syscalls.set_pdeathsig(signal.SIGKILL)
        if select.select([envoy], [], [], 0)[0]:
            os._exit(FAILED)  # it died before that
        for words, act in (
            ("take its limits", lambda: _take_limits(facts)),
            ("raise its walls", lambda: _raise_walls(facts, errand.walls)),
            ("have its filter of system calls", lambda: _check_filter(opened)),
        ):
            _try(opened, words, act)
        if errand.terminal is not None:
            _try(opened, "make a terminal there", errand.terminal.take)
        _execute(facts, opened, errand)
    except BaseException as error:
        _tell(opened, FAILED, f"cannot join the jail: {type(error).__name__}: {error}")
    os._exit(FAILED)


def _take_limits(facts: Confinement) -> None:
    for kind, limit in facts.limits:
        resource.setrlimit(kind, limit)


def _raise_walls(facts: Confinement, walls: Sequence[Step]) -> None:
    if facts.no_new_privs:
        syscalls.set_no_new_privs()
    context = Context()
    for step in walls:
        step.execute(context)


def _check_filter(opened: Opened) -> None:
    """Refuse to be less confined than the jail. A filter that forbids the question is one."""
    if not opened.filtered:
        return
    try:
        mode = syscalls.prctl(syscalls.PR_GET_SECCOMP)
    except OSError:
        return
    if not mode:
        raise JailError(
            "cannot join the jail", reason="no wall of its plan filters system calls, as it does"
        )


def _execute(facts: Confinement, opened: Opened, errand: Errand) -> None:
    """Become the command, in the directory of the jail's process if it can be entered."""
    try:
        os.chdir(facts.cwd)
    except OSError:
        os.chdir("/")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    name = errand.command[0]
    try:
        os.execvpe(name, errand.command, errand.environment)
    except FileNotFoundError:
        _tell(opened, NOT_FOUND, f"cannot run {name} in the jail: there is no such program")
    except OSError as error:
        _tell(opened, NOT_EXECUTABLE, f"cannot run {name} in the jail: {reason_of(error)}")
