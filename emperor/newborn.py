"""The first moments of a vassal: from clone3(2) to its own program.

It runs in a process that was cloned from the spawner and may already be in new namespaces and in
its cgroup. The order is the original's (uwsgi-facts 1.4): die with the Emperor, root of the user
namespace, capability bound, tyrant's drop, environment, descriptors, start hook, as-vassal hooks,
then the program. A failure is one line on the error pipe and the end of the process.

PR_SET_PDEATHSIG is cleared by a change of uid (prctl(2)), so it is set again after each; where
that is not enough the end of file on the control socket ends the vassal, and the janitor kills
what remains.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Mapping
from typing import NoReturn

from donjon import log, syscalls
from donjon.emperor.birth import EMPEROR_FD, ERROR_FD, FIRST_FREE_FD, LAUNCH_FD, Birth
from donjon.emperor.orders import Order
from donjon.errors import DonjonError, HookError
from donjon.hooks import runner
from donjon.hooks.action import Facts
from donjon.jail import capabilities, mountmaps, mounts, template
from donjon.jail.phase import Phase
from donjon.jail.step import Context

Entry = Callable[[Birth], NoReturn]

EXILE = 26
"""Exit code that says: this vassal cannot be started, do not try again (uwsgi-facts 7.6)."""

ERROR_LIMIT = 4096
_SAFE = 64  # received descriptors are moved here before the fixed numbers are filled
_STANDARD = ("stdin", "log", "log", "control", "launch", "error")


def live(order: Order, fds: list[int], entry: Entry) -> NoReturn:
    """Become the vassal. Never returns."""
    status = 1
    try:
        named = arrange(order, fds)
        settle(order, named)
        prepare(order)
        if order.command:
            execute(order)
        elif order.birth is not None:
            entry(order.birth)
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except DonjonError as error:
        status = error.exit_status
        report(str(error))
    except OSError as error:
        report(f"cannot start: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except BaseException as error:
        report(f"cannot start: {type(error).__name__}: {error}")
    os._exit(status)


def report(text: str) -> None:
    """Say why it fails on the error pipe, or in the log when that is closed already."""
    try:
        os.write(ERROR_FD, text.replace("\n", " ").encode("utf-8", "replace")[:ERROR_LIMIT])
    except OSError:
        log.write(text)


def arrange(order: Order, fds: list[int]) -> dict[str, list[int]]:
    """Put the descriptors where the vassal expects them and close every other one."""
    named: dict[str, list[int]] = {}
    keep = []
    for role, fd in zip(order.roles, fds, strict=True):
        moved = _move_up(fd)
        named.setdefault(role, []).append(moved)
        keep.append(moved)
    if "stdin" not in named:
        named["stdin"] = [_move_up(os.open("/dev/null", os.O_RDONLY))]
        keep.append(named["stdin"][0])
    for number, role in enumerate(_STANDARD):
        if role in named:
            os.dup2(named[role][0], number, inheritable=number <= EMPEROR_FD)
        elif number > 2:
            _close_quietly(number)
    keep = [fd for fd in keep if _needed_later(fd, named)]
    if order.birth is not None and order.birth.launch.jail.rootfs:
        keep += template.descriptors()
    keep += mountmaps.descriptors()
    _close_between(FIRST_FREE_FD, sorted(keep))
    return named


def _needed_later(fd: int, named: dict[str, list[int]]) -> bool:
    return any(fd in named.get(role, ()) for role in ("tasks", "go", "answer"))


def _move_up(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SAFE)


def _close_between(first: int, keep: list[int]) -> None:
    """Close every descriptor from ``first`` on but those in ``keep``."""
    for fd in keep:
        if fd > first:
            syscalls.close_range(first, fd - 1, 0)
        first = fd + 1
    syscalls.close_range(first, 0xFFFFFFFF, 0)


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # it was not open


def settle(order: Order, named: dict[str, list[int]]) -> None:
    """Die with the Emperor, be in the cgroups, have a session, identity and directory of its
    own."""
    die_with_emperor(order)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()  # kill(0, …) must not reach another vassal
    for fd in named.get("tasks", ()):
        os.write(fd, b"0")  # cgroups(7): 0 is the writer
        os.close(fd)
    os.chdir(order.cwd)  # as the Emperor, which may go where the vassal's user may not
    for fd in named.get("go", ()):
        wait_for_maps(fd)
    if order.birth is not None:
        change_environment(order.birth.environment)
        with contextlib.suppress(OSError):  # a kernel without CONFIG_CHECKPOINT_RESTORE
            syscalls.set_cmdline([os.fsencode(word) for word in order.birth.argv])
    if order.cap is not None:
        bound_capabilities(order.cap)
    drop(order)


def change_environment(wanted: Mapping[str, str]) -> None:
    """Make ``wanted`` the environment. What is right is not touched, nor its pages copied."""
    for key in [key for key in os.environ if key not in wanted]:
        del os.environ[key]
    for key, value in wanted.items():
        if os.environ.get(key) != value:
            os.environ[key] = value


def wait_for_maps(fd: int) -> None:
    """Wait until the Emperor wrote the id maps, then be root of the user namespace."""
    if os.read(fd, 1) != b"g":
        raise DonjonError("the Emperor gave no user id map")
    os.close(fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def die_with_emperor(order: Order) -> None:
    """Ask for SIGKILL when the Emperor dies, and see whether it is dead already."""
    syscalls.set_pdeathsig(signal.SIGKILL)
    if os.getppid() not in (0, order.emperor_pid):  # 0: its parent is outside its pid namespace
        os._exit(1)


def bound_capabilities(allowed: frozenset[int]) -> None:
    """Keep only ``allowed`` (and CAP_SETPCAP, as the original does) in every set of this
    process."""
    keep = allowed | {syscalls.CAP_SETPCAP}
    for capability in range(syscalls.last_cap() + 1):
        if capability not in keep:
            syscalls.capbset_drop(capability)
    mask = sum(1 << capability for capability in keep)
    effective, permitted, inheritable = syscalls.capget()
    syscalls.capset(effective & mask, permitted & mask, inheritable & mask)


def drop(order: Order) -> None:
    """Become the owner of the configuration (tyrant), before anything of his is looked at."""
    if order.gid is not None:
        os.setgroups([])
        os.setresgid(order.gid, order.gid, order.gid)
    if order.uid is not None:
        os.setresuid(order.uid, order.uid, order.uid)
        # capabilities(7): only a change from uid 0 clears them, and an Emperor need not be root
        capabilities.hold((), ambient=False)
        if order.evaluate is None:
            # credentials(7): the change made the process undumpable, and its /proc/self root's.
            # An evaluator stays so: what a configuration executes must not reach into it.
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        die_with_emperor(order)


def prepare(order: Order) -> None:
    """Run the start hook (its result is ignored) and the as-vassal hooks (a failure is the
    end)."""
    birth = order.birth
    if birth is None:
        return
    if order.start_hook:
        environment = {**os.environ, "UWSGI_VASSALS_DIR": order.vassals_directory}
        wait_for_program((order.start_hook, birth.name), environment)
    context = Context(name=birth.name, born_in=birth.born_in, variables=vassal_variables(order))
    if order.hooks and "fs" in birth.born_in:
        private = mounts.MakePrivate(phase=Phase.AS_VASSAL)  # or a mount would show on the host
        run_hook(private.execute, context, private.describe())
    for step in runner.steps(order.hooks, Facts()):
        run_hook(step.execute, context, step.describe())


def run_hook(execute: Callable[[Context], None], context: Context, words: str) -> None:
    """Run one hook; whatever the system says against it is a HookError."""
    try:
        execute(context)
    except OSError as error:
        raise HookError(f"cannot {words}", reason=error.strerror or str(error)) from error


def vassal_variables(order: Order) -> dict[str, str]:
    """The variables hooks can use for the vassal they run for."""
    name = order.birth.name if order.birth else ""
    return {
        "UWSGI_VASSAL_CONFIG": name,
        "UWSGI_VASSAL_PID": str(os.getpid()),
        "UWSGI_VASSAL_UID": str(os.getuid()),
        "UWSGI_VASSAL_GID": str(os.getgid()),
    }


def wait_for_program(argv: tuple[str, ...], environment: dict[str, str]) -> int:
    """Run a program without a shell and return its status; 127 when it cannot be run."""
    pid = os.fork()
    if pid == 0:
        try:
            os.execvpe(argv[0], list(argv), environment)
        except OSError as error:
            log.write(f"cannot run {argv[0]}: {error.strerror}")
        os._exit(127)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def execute(order: Order) -> None:
    """Replace this process: the override wrappers, then the wrapper or our binary, then the
    fallbacks."""
    binary = order.wrapper or order.command[0]
    reasons = []
    for program in (*order.wrapper_override, binary, *order.wrapper_fallback):
        try:
            os.execvp(program, list(order.command))
        except OSError as error:
            reasons.append(f"{program}: {error.strerror}")
    report(f"cannot run {'; '.join(reasons)}")
    os._exit(EXILE)


__all__ = ["EMPEROR_FD", "ERROR_FD", "LAUNCH_FD", "Entry", "live"]
