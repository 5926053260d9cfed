"""The terminal of worker 1, as that worker sees it: its input, its output and its log.

It is the controlling terminal of a session of the worker's own (login_tty(3)), so that a door that
dies hangs it up. Of the keys that a terminal makes signals of, Ctrl-C alone is left: a worker that
serves does not heed it, whoever ends one sends SIGTERM.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import termios
from typing import NoReturn

from donjon import log, syscalls
from donjon.errors import reason_of
from donjon.fork_pty import shell
from donjon.fork_pty.shared import send_terminal
from donjon.server.loop import (
    DEFAULT,
    SIGPIPE,
    SIGTSTP,
    default_signals,
    handle,
    hold_signals,
    release_signals,
)

ROWS, COLS = 24, 80
_LFLAG_CC = 6
_OFF = (termios.VQUIT, termios.VSUSP)
_POSIX_VDISABLE = b"\0"  # asm-generic/termbits.h: what turns a key off on Linux


def settle(line: int, command: str) -> None:
    """Take a terminal, and give its near end to the door at the other end of ``line``, which is
    closed.

    A worker that gets no terminal goes on without. ``command`` is started on the terminal.
    """
    with socket.socket(fileno=line) as link:
        try:
            _take(link)
            if command:
                _execute(command)
        except OSError as error:
            log.write(f"donjon: worker 1 has no terminal for pty-socket: {reason_of(error)}")


def _take(link: socket.socket) -> None:
    terminal = shell.open_terminal(ROWS, COLS)
    with terminal.master, terminal.slave:
        far = terminal.slave.fileno()
        _turn_off_keys(far)
        send_terminal(link, terminal.master.fileno())
        sys.stdout.flush()
        shell.take_terminal(far)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (the encoding is the locale's)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _turn_off_keys(terminal: int) -> None:
    attributes = termios.tcgetattr(terminal)
    for key in _OFF:
        attributes[_LFLAG_CC][key] = _POSIX_VDISABLE
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def _execute(command: str) -> None:
    """Start a program beside us; it dies with us."""
    held = hold_signals()
    try:
        pid, pidfd = syscalls.clone3(0, exit_signal=int(signal.SIGCHLD))
        if pid == 0:
            _become(command)
    finally:
        release_signals(held)
    if pidfd >= 0:
        os.close(pidfd)


def _become(command: str) -> NoReturn:
    try:
        default_signals()
        for number in (SIGTSTP, SIGPIPE):
            handle(number, DEFAULT)
        syscalls.set_pdeathsig(signal.SIGKILL)
        syscalls.close_range(3, 0xFFFFFFFF)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execv("/bin/sh", ["sh", "-c", command])
    except BaseException as error:
        os.write(2, f"cannot run /bin/sh: {error}\r\n".encode())
    finally:
        os._exit(127)
