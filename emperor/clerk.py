"""The clerk of a door outside: what its router (``outside``) cannot do itself, and may ask for.

The clerk is root. It has each program begun in the jail on the way of ``donjon attach``, makes the
parts of records, and asks PAM. The router is its child, as are those who enter: with the clerk all
end. There is a pair for each door that somebody uses, so that one vassal's clients share nothing
with another's.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import signal
import socket
import time
from typing import Any, NoReturn

from donjon import log, syscalls
from donjon.emperor import doorway, orders
from donjon.emperor.outside import Service, be_router
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.fork_pty import login, remote, shell
from donjon.fork_pty.loop import READ, Loop, Timer
from donjon.fork_pty.record import Directory
from donjon.fork_pty.router import LOGINS_MAX
from donjon.fork_pty.shell import Leader
from donjon.fork_pty.spec import PAM
from donjon.jail import descriptors, envoy, join

PATIENCE = 15.0
"""Seconds that a jail has to come up with a terminal."""

RECORDS_MAX = 256 << 20
"""Bytes of all records of one vassal."""

NAME_MAX = 128
"""Bytes of a vassal's name in that of a file, which may have 255."""


def live(
    service: Service, listener: socket.socket, upstream: socket.socket, user: int
) -> NoReturn:
    """Be a clerk in a process that was just made; ``user`` is the router's uid."""
    status = 1
    try:
        descriptors.seal((listener.fileno(), upstream.fileno()))
        _die_with_parent()
        Clerk(service, listener, upstream, user).run()
        status = 0
    except (DonjonError, OSError) as error:
        log.write(f"[terminal] no terminals of {service.name}: {error}")
    except BaseException as error:
        log.write(f"[terminal] internal error: {type(error).__name__}: {error}")
    os._exit(status)


def _die_with_parent() -> None:
    parent = os.getppid()
    syscalls.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent or parent == 1:
        os._exit(1)


class Inside:
    """One who enters, or has: ``writer`` tells the router of the end."""

    def __init__(self, joined: join.Joined, link: socket.socket) -> None:
        """Own both."""
        self.joined = joined
        self.link = link
        self.timer = Timer(self.kill)
        self.leader: Leader | None = None
        self.writer: Fd | None = None

    def kill(self) -> None:
        """Kill the whole session."""
        if self.leader is not None:
            self.leader.kill_session()
        with contextlib.suppress(OSError):  # it has just ended
            if self.leader is None:
                syscalls.pidfd_send_signal(self.joined.fileno(), signal.SIGKILL)


class Clerk:
    """See the module."""

    def __init__(
        self, service: Service, listener: socket.socket, upstream: socket.socket, user: int
    ) -> None:
        """Start the router. Raises OSError, DonjonError."""
        self._service = service
        self._upstream = upstream
        self._asked: dict[int, dict[str, Any]] = {}
        self._inside: dict[int, Inside] = {}
        self._logins = 0
        self._stamp = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        self._records = self._directory()
        if service.spec.auth.kind == PAM:
            login.load()
        kind = socket.SOCK_SEQPACKET
        self._link, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._parts, parts = socket.socketpair(socket.AF_UNIX, kind)
        pid, pidfd = syscalls.clone3(syscalls.CLONE_PIDFD)
        if pid == 0:
            be_router(service, listener, theirs, parts if self._records else None, user)
        for one in (listener, theirs, parts):
            one.close()
        self._router = Fd(pidfd)
        self._loop = Loop()

    def _directory(self) -> Directory | None:
        service = self._service
        if service.record is None:
            return None
        return Directory(f"{service.record}/{service.name}", most=RECORDS_MAX, patient=True)

    def run(self) -> None:
        """Serve the router until it ends."""
        watch = self._loop.watch
        watch(self._link.fileno(), READ, lambda _events: self._hear())
        watch(self._parts.fileno(), READ, lambda _events: self._hear_of_parts())
        watch(self._upstream.fileno(), READ, lambda _events: self._hear_from_above())
        watch(self._router.fileno(), READ, lambda _events: self._loop.stop())
        self._loop.run()
        found = os.waitid(os.P_PIDFD, self._router.fileno(), os.WEXITED)
        if found is not None and (found.si_code != os.CLD_EXITED or found.si_status):
            log.write(f"[terminal] the router of {self._service.name} died ({found.si_status})")

    # -- the router

    def _hear(self) -> None:
        try:
            found = remote.receive(self._link)
        except OSError:
            found = None
        if found is None:
            self._loop.forget(self._link.fileno())  # its end is told by its pidfd
            return
        words, fds = found
        for fd in fds:
            os.close(fd)  # nothing of it is wanted here
        if "open" in words:
            self._open(words)
        elif "login" in words:
            self._login(words)
        elif "signal" in words:
            self._signal(words)
        elif "kill" in words and words["kill"] in self._inside:
            self._inside[words["kill"]].kill()

    def _open(self, words: dict[str, Any]) -> None:
        number = int(words["open"])
        known = len(self._inside) + len(self._asked)
        if number in self._asked or number in self._inside or known >= self._service.spec.sessions:
            self._fail(number, "too many sessions")
            return
        self._asked[number] = words
        orders.send(self._upstream, ("enter", number))

    def _login(self, words: dict[str, Any]) -> None:
        number, service = int(words["login"]), self._service.spec.auth.service
        user, password = str(words["user"]), str(words["password"])

        def done(good: bool) -> None:  # noqa: FBT001  (login.check calls it so)
            self._logins -= 1
            self._tell(login=number, good=good and self._may(user))

        self._logins += 1
        try:
            if self._logins > LOGINS_MAX:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))  # noqa: TRY301
            login.check(self._loop, service, user, password, done)
        except OSError:
            done(False)  # noqa: FBT003

    def _may(self, user: str) -> bool:
        """Whether this account of the host may enter: of a tenant's, no other tenant's."""
        try:
            return not self._service.owned or pwd.getpwnam(user).pw_uid in self._service.spec.uids
        except (KeyError, ValueError):
            return False

    def _signal(self, words: dict[str, Any]) -> None:
        """Signal the foreground of a session: a group of it, and nobody else's."""
        inside = self._inside.get(words["signal"])
        number, group = int(words["number"]), int(words["group"])
        if inside is None or inside.leader is None or number not in remote.SIGNALS or group <= 1:
            return
        inside.leader.signal_group(group, number)

    def _hear_of_parts(self) -> None:
        try:
            found = remote.receive(self._parts)
        except OSError:
            found = None
        if found is None or self._records is None:
            self._loop.forget(self._parts.fileno())
            return
        number, part = map(int, found[0]["part"])
        try:
            name = self._service.name.encode()[:NAME_MAX].decode(errors="ignore")
            with self._records.part(f"{name}-{self._stamp}-{number}", part) as file:
                remote.send(self._parts, (file.fileno(),), part=[number, part], errno=0)
        except OSError as error:
            with contextlib.suppress(OSError):  # it is gone
                remote.send(self._parts, part=[number, part], errno=error.errno or errno.EIO)

    def _tell(self, *fds: int, **words: Any) -> None:
        with contextlib.suppress(OSError):  # the router is gone
            remote.send(self._link, fds, **words)

    def _fail(self, number: int, why: str) -> None:
        self._tell(failed=number, why=log.one_line(why))

    # -- the way in

    def _hear_from_above(self) -> None:
        found = orders.receive(self._upstream)
        if found is None or found[0][0] == "end":
            self._loop.forget(self._upstream.fileno())
            self._tell(end=1)
            self._loop.after(shell.GRACE + 2.0, self._loop.stop)
            return
        _, number, answer = found[0]
        words = self._asked.pop(number)
        if "error" in answer:
            self._fail(number, answer["error"])
            return
        try:
            self._enter(number, doorway.door(answer), words)
        except DonjonError as error:
            self._fail(number, str(error))
        except OSError as error:
            self._fail(number, reason_of(error))

    def _enter(self, number: int, door: join.Door, words: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        rows, cols = int(words["rows"]), int(words["cols"])
        command = [str(word) for word in words["command"]]
        with contextlib.ExitStack() as failed:
            failed.enter_context(ours)
            with theirs:
                take = functools.partial(shell.give_terminal, theirs.fileno(), rows, cols)
                terminal = envoy.Terminal(take, theirs.fileno())
                joined = join.start(door, command, self._environment(number, words), terminal)
            failed.pop_all()
        inside = Inside(joined, ours)
        inside.timer = self._loop.after(PATIENCE, inside.kill)
        self._inside[number] = inside
        self._loop.watch(ours.fileno(), READ, lambda _events: self._hand_on(number, inside))
        self._loop.watch(joined.fileno(), READ, lambda _events: self._ended(number, inside))

    def _environment(self, number: int, words: dict[str, Any]) -> dict[str, str]:
        return {
            "PATH": shell.PATH, "HOME": "/", "LANG": "C.UTF-8",
            "TERM": str(words["term"]) or "xterm-256color",
            "DONJON_VASSAL": self._service.name, "DONJON_SESSION": str(number),
        }  # fmt: skip

    def _hand_on(self, number: int, inside: Inside) -> None:
        """Give the router the terminal that was made in the jail."""
        self._loop.forget(inside.link.fileno())
        inside.timer.cancel()
        with inside.link:
            try:
                master = shell.receive_terminal(inside.link)
            except OSError:
                master = None
            if master is None:
                return  # it did not begin: its end says why
            with master:
                try:
                    inside.leader = Leader(inside.joined.leader())
                except (OSError, DonjonError):
                    inside.kill()
                    return
                reader, writer = os.pipe2(os.O_CLOEXEC)
                inside.writer = Fd(writer)
                with Fd(reader):
                    shell.let_go(inside.link)
                    self._tell(master.fileno(), reader, opened=number)

    def _ended(self, number: int, inside: Inside) -> None:
        self._loop.forget(inside.joined.fileno())
        if inside.link.fileno() >= 0:
            self._loop.forget(inside.link.fileno())
            inside.link.close()
        inside.timer.cancel()
        why = ""
        try:
            status = inside.joined.poll()
        except join.ExecError as error:
            status, why = error.exit_status, str(error)
        inside.joined.close()
        del self._inside[number]
        if inside.leader is not None:
            inside.leader.kill_session()
        if inside.writer is None:
            self._fail(number, why or f"it ended with status {status}")
            return
        with inside.writer as writer, contextlib.suppress(OSError):  # the router is gone
            os.write(writer.fileno(), f"{status} {log.one_line(why)}".encode()[:4096])
