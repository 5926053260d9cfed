"""Vassals that start at their first connection (spec OND, uwsgi-facts 1.6).

Which socket a vassal has is told by one of three sources, in this order: a file beside its own, a
directory, or a program. The Emperor binds it and waits; the vassal gets it as descriptor 0. The
Emperor keeps its copy, so that connections of the time between two lives wait in the backlog and
none is lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import time

from donjon.config.spec import EmperorSpec
from donjon.emperor.scanner import Found
from donjon.errors import ConfigError, reason_of
from donjon.fd import Fd

BACKLOG = 100
EXEC_TIMEOUT = 5.0
"""Seconds that emperor-on-demand-exec has to answer."""

ADDRESS_LIMIT = 4096


def address_of(spec: EmperorSpec, found: Found) -> str:
    """Return the address of a vassal's socket, "" for a vassal that is not on demand."""
    if spec.on_demand_extension:
        return _first_line(found.path + spec.on_demand_extension, distrust=spec.tyrant)
    if spec.on_demand_directory:
        base = found.name.rpartition("/")[2].rpartition(".")[0] or found.name
        return f"{spec.on_demand_directory}/{base}.socket"
    if spec.on_demand_exec:
        return _ask_program(spec.on_demand_exec, found)
    return ""


def _first_line(path: str, *, distrust: bool) -> str:
    """Return what a file says. A tyrant's must be root's, because root binds what it says."""
    try:
        with Fd(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return ""
            if distrust and status.st_uid not in (0, os.geteuid()):
                raise ConfigError(f"{path} is not root's", hint="the Emperor binds what it names")
            line = os.read(file.fileno(), ADDRESS_LIMIT).partition(b"\n")[0]
            return os.fsdecode(line).strip()
    except OSError:
        return ""  # an ordinary vassal


def _ask_program(command: str, found: Found) -> str:
    """Run the operator's command with the name as its one more argument, never as shell text."""
    near, far = os.pipe2(os.O_CLOEXEC)
    line = f'cd -- "$2" && {command} "$1"'
    argv = ["/bin/sh", "-c", line, "sh", found.name, os.path.dirname(found.path)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, far, 1),
    ]
    pid = os.posix_spawn(
        argv[0], argv, os.environ, file_actions=actions, setsigdef=[signal.SIGPIPE]
    )
    os.close(far)
    with Fd(near):
        output, whole = _read_until(near, time.monotonic() + EXEC_TIMEOUT)
    if not whole:
        os.kill(pid, signal.SIGKILL)  # our child, not reaped yet: the number is its own
    os.waitpid(pid, 0)
    if not whole:
        reason = f"no answer within {EXEC_TIMEOUT:.0f} s"
        raise ConfigError(f"{command} tells no socket for {found.name}", reason=reason)
    return os.fsdecode(output.partition(b"\n")[0]).strip()


def _read_until(fd: int, deadline: float) -> tuple[bytes, bool]:
    """Read to the end, ADDRESS_LIMIT or the deadline; tell whether it was before the deadline."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    output = b""
    while len(output) < ADDRESS_LIMIT:
        if not poller.poll(max(deadline - time.monotonic(), 0.0) * 1000):
            return output, False
        data = os.read(fd, ADDRESS_LIMIT)
        if not data:
            break
        output += data
    return output, True


def bind(address: str, *, replace: bool = False) -> socket.socket:
    """Bind and listen: TCP where there is a colon, else a unix socket for everyone.

    ``replace`` is for an address of the operator's: what is there goes, even if it is no socket.
    Raises ConfigError.
    """
    is_tcp = ":" in address
    family = socket.AF_INET if is_tcp else socket.AF_UNIX
    if address.startswith("["):
        family = socket.AF_INET6
    try:
        with contextlib.ExitStack() as undo:
            link = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if is_tcp:
                _bind_tcp(link, address)
            else:
                _bind_unix(link, address, replace=replace)
            link.listen(BACKLOG)
            undo.pop_all()
            return link
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot listen on {address}", reason=reason) from error


def _bind_tcp(link: socket.socket, address: str) -> None:
    host, _separator, port = address.rpartition(":")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    link.bind((host.strip("[]"), int(port)))


def _bind_unix(link: socket.socket, address: str, *, replace: bool) -> None:
    """Bind to a file that all may write: its mode is the inode's of the socket, less the umask."""
    with contextlib.suppress(FileNotFoundError):
        if replace or stat.S_ISSOCK(os.lstat(address).st_mode):
            os.unlink(address)
    os.fchmod(link.fileno(), 0o666)
    previous = os.umask(0)
    try:
        link.bind(address)
    finally:
        os.umask(previous)


def unbind(address: str) -> None:
    """Remove the file of a unix socket."""
    if ":" not in address:
        with contextlib.suppress(OSError):  # gone, or its directory is
            os.unlink(address)
