"""A program on a pseudoterminal of its own.

The terminal is a new one of the devpts that is mounted here, its far end opened by the kernel
itself (TIOCGPTPEER, ioctl_tty(2)): a path below /dev/pts is nothing that we rely on. Between fork
and exec the child does nothing that can be refused but what is written in ``_become``.

A program dies with its router (PR_SET_PDEATHSIG). When its terminal is hung up it gets SIGHUP, as
do its jobs; whoever of its session is there ``GRACE`` seconds later is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import NoReturn

from donjon import syscalls
from donjon.fd import Fd
from donjon.records import dataclass

GRACE = 2.0
"""Seconds between SIGHUP and SIGKILL."""

SHELL = "/bin/sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TERM"})
"""Variables of the instance's that a program finds; with them those of the locale."""

PTMX = os.makedev(5, 2)  # Documentation/admin-guide/devices.txt
TIOCGPTPEER = 0x5441  # asm-generic/ioctls.h
TIOCSPTLCK = 0x40045431
TIOCSIG = 0x40045436  # linux/tty.h, ioctl_tty(2): only for the next three
FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})
SIGNALS = FROM_TERMINAL | {signal.SIGHUP, signal.SIGKILL, signal.SIGUSR1, signal.SIGUSR2,
                           signal.SIGTERM, signal.SIGCONT, signal.SIGWINCH}  # fmt: skip
"""What a client may send."""

_TERMINAL = b"t"
_ENDED = os.WEXITED | os.WNOHANG
_WINSIZE = struct.Struct("HHHH")
_EVERY = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


@dataclass(slots=True)
class Terminal:
    """Both ends of a pseudoterminal."""

    master: Fd
    slave: Fd


def open_terminal(rows: int, cols: int) -> Terminal:
    """Make a terminal of that size. Raises OSError, also for a /dev/ptmx that is none."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = Fd(os.open("/dev/ptmx", flags))
    try:
        _check_ptmx(master.fileno())
        fcntl.ioctl(master.fileno(), TIOCSPTLCK, struct.pack("i", 0))
        slave = Fd(fcntl.ioctl(master.fileno(), TIOCGPTPEER, flags))
    except OSError:
        master.close()
        raise
    set_size(slave.fileno(), rows, cols)
    return Terminal(master, slave)


def _check_ptmx(fd: int) -> None:
    """Refuse what somebody put in its place. Raises OSError."""
    if os.fstat(fd).st_rdev != PTMX:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), "/dev/ptmx")


def set_size(fd: int, rows: int, cols: int) -> None:
    """Tell a terminal its size; its foreground jobs get SIGWINCH if that is new."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, _WINSIZE.pack(rows & 0xFFFF, cols & 0xFFFF, 0, 0))


def get_size(fd: int) -> tuple[int, int]:
    """Return rows and columns of a terminal. Raises OSError."""
    rows, cols, _, _ = _WINSIZE.unpack(fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, cols


def signal_terminal(fd: int, number: int) -> None:
    """Send one of ``FROM_TERMINAL`` to the foreground of a near end's terminal."""
    fcntl.ioctl(fd, TIOCSIG, number)


def words(command: str) -> tuple[str, ...]:
    """Return what is executed for a ``forkptyrouter-command`` (uwsgi-facts 4.1)."""
    if not command:
        return (SHELL,)
    return (SHELL, "-c", command) if " " in command else (command,)


def environment(inherited: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return what the program finds of ``inherited``, and ``more``."""
    kept = {key: value for key, value in inherited.items() if key in KEPT or key.startswith("LC_")}
    return {"PATH": PATH, "HOME": "/", "TERM": "xterm-256color", **kept, **more}


class Shell:
    """A running program. ``master`` is its terminal's near end, ours."""

    def __init__(self, master: Fd, pid: int, pidfd: Fd) -> None:
        """Own what ``start`` made."""
        self.master = master
        self.pid = pid
        self.pidfd = pidfd
        self.status: int | None = None
        self.why = ""

    @classmethod
    def start(
        cls, command: Sequence[str], environment: Mapping[str, str], rows: int, cols: int
    ) -> Shell:
        """Run ``command``. Raises OSError; who cannot be executed ends with 126 or 127."""
        terminal = open_terminal(rows, cols)
        parent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY)
        try:
            pid, pidfd = syscalls.clone3(syscalls.CLONE_PIDFD)
            if pid == 0:
                _become(parent, terminal.slave.fileno(), command, environment)
        except OSError:
            terminal.master.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            terminal.slave.close()
        os.set_blocking(terminal.master.fileno(), False)
        return cls(terminal.master, pid, Fd(pidfd))

    def signal(self, number: int) -> None:
        """Send a signal to the jobs in the foreground of this terminal, and to nobody else."""
        if self.master.closed:
            return
        try:
            if number in FROM_TERMINAL:
                signal_terminal(self.master.fileno(), number)
                return
            group = os.tcgetpgrp(self.master.fileno())
            if group > 0 and os.getsid(group) == self.pid:
                os.killpg(group, number)
        except OSError:
            return  # it has just ended

    def has_ended(self) -> bool:
        """Whether it ended; its number stays its own until ``bury``."""
        found = os.waitid(os.P_PIDFD, self.pidfd.fileno(), _ENDED | os.WNOWAIT)
        return found is not None

    def bury(self) -> int:
        """Kill who is left of the session of one that has ended; return how it did.

        That is its status, or 128 + N for signal N.
        """
        self.kill()
        found = os.waitid(os.P_PIDFD, self.pidfd.fileno(), _ENDED)
        assert found is not None
        self.pidfd.close()
        exited = found.si_code == os.CLD_EXITED
        self.status = found.si_status if exited else 128 + found.si_status
        return self.status

    def hang_up(self) -> None:
        """Take the terminal away: SIGHUP and SIGCONT to its jobs (tty_ioctl(4))."""
        self.master.close()

    def kill(self) -> None:
        """Kill the whole session. The leader is not buried yet: nobody else has its number."""
        syscalls.pidfd_send_signal(self.pidfd.fileno(), signal.SIGKILL)
        for pid in _members(self.pid):
            _kill_member(pid, self.pid)


class Leader:
    """The first process of a session that is somebody else's child."""

    def __init__(self, pid: int) -> None:
        """Know it from a later one with its number. Raises OSError if it has ended."""
        self._pid = pid
        self._started = _started(pid)

    def signal_group(self, group: int, number: int) -> None:
        """Send a signal to a group of processes of the session, and to none of another's."""
        with contextlib.suppress(OSError):  # it has just ended
            if os.getsid(group) == self._pid and _started(self._pid) == self._started:
                os.killpg(group, number)

    def kill_session(self) -> None:
        """Kill who is left of the session.

        The number of a session is nobody else's while one of its processes is left (pids are
        shared with sessions, kernel/pid.c): if it is a stranger's, there is none.
        """
        for pid in _members(self._pid):
            try:
                if _started(self._pid) != self._started:
                    return
            except FileNotFoundError:
                pass  # the leader is gone, its session is not
            _kill_member(pid, self._pid)


def _started(pid: int) -> int:
    """Return when it started, in clock ticks. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def _members(session: int) -> list[int]:
    """Return the processes of a session, as far as /proc shows them."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return [pid for pid in pids if _session_of(pid) == session]


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _kill_member(pid: int, session: int) -> None:
    try:
        with Fd(syscalls.pidfd_open(pid)) as process:
            if _session_of(pid) == session:  # still the one that was looked up
                syscalls.pidfd_send_signal(process.fileno(), signal.SIGKILL)
    except OSError:
        return  # it ended by itself


def _become(
    parent: int, slave: int, command: Sequence[str], environment: Mapping[str, str]
) -> NoReturn:
    """Be the program. All signals are blocked here, and none has a handler of ours after it."""
    status = 126
    try:
        syscalls.set_pdeathsig(signal.SIGKILL)
        if os.getppid() not in (parent, 0):
            os._exit(status)
        take_terminal(slave)
        syscalls.close_range(3, 0xFFFFFFFF)
        signal.set_wakeup_fd(-1)
        for number in _EVERY:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(command[0], tuple(command), environment)
    except OSError as error:
        status = 127 if isinstance(error, FileNotFoundError) else 126
        os.write(2, f"cannot run {command[0]}: {error.strerror}\r\n".encode())
    except BaseException as error:
        os.write(2, f"cannot run {command[0]}: {error}\r\n".encode())
    os._exit(status)


def take_terminal(slave: int) -> None:
    """Begin a session on a terminal: its controlling one and our three descriptors."""
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(slave, number)


def give_terminal(link: int, rows: int, cols: int) -> None:
    """Make a terminal here, send its near end through ``link``, and live on its far end.

    For a process that has just come into a jail: the terminal is the jail's, who looks at it is
    outside. It goes on when that one has called ``let_go``. Raises OSError.
    """
    terminal = open_terminal(rows, cols)
    with terminal.master, socket.socket(fileno=link) as sender:
        rights = struct.pack("i", terminal.master.fileno())
        sender.sendmsg([_TERMINAL], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        sender.recv(len(_TERMINAL))
    take_terminal(terminal.slave.fileno())


def receive_terminal(link: socket.socket) -> Fd | None:
    """Return the near end that ``give_terminal`` sent; None if its process ended before."""
    data, found, _, _ = socket.recv_fds(link, len(_TERMINAL), 1, socket.MSG_CMSG_CLOEXEC)
    return Fd(found[0]) if data == _TERMINAL and found else None


def let_go(link: socket.socket) -> None:
    """Let who sent a terminal go on: whoever has to know it before it ends knows it now."""
    with contextlib.suppress(OSError):  # it was killed, which is found out as any end is
        link.send(_TERMINAL, socket.MSG_NOSIGNAL)
