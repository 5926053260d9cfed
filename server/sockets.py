"""The listening sockets of an instance: bound once, kept by the master, lent to every generation.

A reload asks for its sockets by address: those that are open already are kept with their queue of
waiting clients, so nobody is refused; new ones are bound; those no longer named are closed once
the new generation accepts. A unix socket is removed at the end (``vacuum``) only while its name
still means the file that this process made, told by device and inode.

Sockets are ``socket.SocketType``, the C object without the class around it: what an instance
touches of the memory it shares with the spawner becomes its own, and there are many instances.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator, Sequence

from donjon import log
from donjon.errors import reason_of
from donjon.records import dataclass
from donjon.server import activation
from donjon.server.address import Address, ListenError, parse_address
from donjon.server.spec import Listener, ServerSpec
from donjon.server.takeover import OpenListener

SOMAXCONN = "/proc/sys/net/core/somaxconn"
STDIN = "fd://0"


@dataclass(slots=True, eq=False)
class Bound:
    """An open listener. ``identity`` is (device, inode) of a unix socket this process made."""

    listener: Listener
    sock: socket.SocketType
    path: str = ""
    identity: tuple[int, int] | None = None

    @property
    def protocol(self) -> str:
        """What is spoken on it: ``uwsgi``, ``http`` or ``http11``."""
        return self.listener.protocol

    def fileno(self) -> int:
        """Lend the descriptor."""
        return self.sock.fileno()

    def duplicate(self) -> socket.socket:
        """Return another socket object of the same listener, for accept and the like."""
        return socket.socket(fileno=os.dup(self.fileno()))

    def port(self) -> int:
        """Return the port, 0 for a unix socket."""
        local = self.sock.getsockname()
        return int(local[1]) if self.sock.family in {socket.AF_INET, socket.AF_INET6} else 0

    def name(self) -> str:
        """Return the address as statistics show it, with the port the kernel chose."""
        local = self.sock.getsockname()
        if self.sock.family == socket.AF_UNIX:
            raw = (
                local
                if isinstance(local, str)
                else "@" + local[1:].rstrip(b"\0").decode("utf-8", "replace")
            )
            return raw or self.listener.address
        return (
            f"{local[0]}:{local[1]}"
            if self.sock.family == socket.AF_INET
            else f"[{local[0]}]:{local[1]}"
        )


class Sockets:
    """Every listener of the instance, by address."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._open: dict[str, Bound] = {}
        self._given: list[Listener] | None = None
        self._shared: list[Bound] = []

    @classmethod
    def adopt(cls, spec: ServerSpec, listeners: Sequence[OpenListener]) -> Sockets:
        """Own listeners that were opened for ``spec``, in its order."""
        sockets = cls()
        for listener, opened in zip(spec.listeners, listeners, strict=True):
            address = parse_address(listener.address, listener.origin)
            bound = Bound(listener, socket.SocketType(fileno=opened.fd))
            if address.is_file:
                bound.path = os.path.abspath(str(address.target))
                bound.identity = (opened.device, opened.inode)
            sockets._open[listener.address] = bound
        return sockets

    def filenos(self) -> list[int]:
        """Lend every descriptor that is open."""
        return [bound.fileno() for bound in self._open.values()]

    def bind_shared(self, spec: ServerSpec) -> None:
        """Bind the shared sockets; to be called before privileges are dropped.

        One without a protocol is only lent, to listeners that name it by its number.
        """
        for listener in (*spec.listeners, *spec.http_routers):
            if listener.shared and listener.address not in self._open:
                bound = _open(listener, parse_address(listener.address, listener.origin), spec)
                self._open[listener.address] = bound
                self._shared.append(bound)

    def open(self, spec: ServerSpec) -> tuple[Bound, ...]:
        """Return the listeners of ``spec`` in order: those open already, and new ones.

        Raises ListenError; what was opened by this call is closed again then.
        """
        self.bind_shared(spec)
        before = dict(self._open)
        every = (*spec.listeners, *spec.http_routers)
        wanted = [each for each in every if each.protocol or not each.shared]
        _refuse_doubles(wanted)
        if inherited := _inherited(wanted):
            wanted.insert(0, inherited)
        if self._given is None:
            self._given = [Listener(f"fd://{n}", "uwsgi") for n in activation.numbers()]
        named = {listener.address for listener in wanted}
        wanted[:0] = [listener for listener in self._given if listener.address not in named]
        try:
            served = tuple(self._one(listener, spec) for listener in wanted)
        except ListenError:
            for address in self._open.keys() - before.keys():
                self._discard(self._open.pop(address))
            raise
        for index, bound in enumerate(served):
            if bound.listener.address not in before:
                log.write(_announce(index, bound))
        return served

    def open_one(self, listener: Listener, spec: ServerSpec) -> Bound:
        """Open one listener that is not served by workers. Raises ListenError."""
        return self._one(listener, spec)

    def _one(self, listener: Listener, spec: ServerSpec) -> Bound:
        address = parse_address(listener.address, listener.origin)
        if address.shared >= 0:
            return self._borrow(listener, address)
        known = self._open.get(listener.address)
        if known is None:
            known = self._open[listener.address] = _open(listener, address, spec)
        return Bound(listener, known.sock, known.path, known.identity)

    def _borrow(self, listener: Listener, address: Address) -> Bound:
        if address.shared >= len(self._shared):
            raise ListenError(
                f"there is no shared socket {address.shared}",
                origin=listener.origin,
                reason=f"{len(self._shared)} defined, counted from 0",
                hint="define it with shared-socket = ADDRESS",
            )
        shared = self._shared[address.shared]
        return Bound(listener, shared.sock, shared.path, shared.identity)

    def keep(self, served: tuple[Bound, ...]) -> None:
        """Close every listener that is not among ``served``; shared ones stay."""
        used = {bound.fileno() for bound in (*served, *self._shared)}
        for address, bound in list(self._open.items()):
            if bound.fileno() not in used:
                del self._open[address]
                self._discard(bound)

    def lend_only(self, served: tuple[Bound, ...]) -> None:
        """In a child: close all but ``served``, so that the master alone decides what is open."""
        used = {bound.fileno() for bound in served}
        for bound in {*self._open.values(), *self._shared}:
            if bound.fileno() not in used:
                bound.sock.close()

    def close(self, *, vacuum: bool) -> None:
        """Close everything; with ``vacuum`` remove unix sockets that are still ours."""
        for bound in self._open.values():
            if vacuum:
                self._discard(bound)
            else:
                bound.sock.close()
        self._open.clear()
        self._shared.clear()

    def _discard(self, bound: Bound) -> None:
        bound.sock.close()
        if bound.identity is not None:
            remove_if_ours(bound.path, bound.identity)


def remove_if_ours(path: str, identity: tuple[int, int]) -> None:
    """Unlink ``path`` if it still names the socket with this device and inode."""
    try:
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)
            log.write(f"VACUUM: unix socket {path} removed.")
    except FileNotFoundError:
        return
    except OSError as error:
        log.write(f"VACUUM: cannot remove unix socket {path}: {reason_of(error)}")


def _refuse_doubles(wanted: list[Listener]) -> None:
    seen: set[str] = set()
    for listener in wanted:
        if listener.address in seen:
            raise ListenError(
                f"cannot listen on {listener.address} twice",
                origin=listener.origin,
                hint="one address, one protocol",
            )
        seen.add(listener.address)


def _inherited(wanted: list[Listener]) -> Listener | None:
    """Return a listener for descriptor 0 if that listens (on-demand vassals, inetd)."""
    if any(listener.address == STDIN for listener in wanted):
        return None
    try:
        if not stat.S_ISSOCK(os.fstat(0).st_mode):
            return None
        with socket.socket(fileno=os.dup(0)) as probe:
            listening = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return None  # closed, or no socket after all
    return Listener(STDIN, "uwsgi") if listening else None


def _announce(index: int, bound: Bound) -> str:
    kind = "UNIX" if bound.sock.family == socket.AF_UNIX else "TCP"
    verb = "inherited" if bound.listener.address.startswith("fd://") else "bound to"
    return f"uwsgi socket {index} {verb} {kind} address {bound.name()} fd {bound.fileno()}"


def _open(listener: Listener, address: Address, spec: ServerSpec) -> Bound:
    _check_backlog(listener, spec.listen)
    try:
        if address.fd >= 0:
            return Bound(listener, _adopt(address.fd))
        if address.is_file:
            return _bind_file(listener, str(address.target), spec)
        sock = socket.SocketType(address.family, socket.SOCK_STREAM)
    except OSError as error:
        raise _failure(listener, address, error) from error
    try:
        _bind(sock, address, spec)
    except OSError as error:
        sock.close()
        raise _failure(listener, address, error) from error
    return Bound(listener, sock)


def _adopt(number: int) -> socket.SocketType:
    sock = socket.SocketType(fileno=os.dup(number))
    os.set_inheritable(sock.fileno(), False)  # noqa: FBT003  (os names it so)
    sock.setblocking(False)  # noqa: FBT003  (socket names it so)
    return sock


def _bind(sock: socket.SocketType, address: Address, spec: ServerSpec) -> None:
    sock.setblocking(False)  # noqa: FBT003  (socket names it so)
    target = address.target
    if address.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if spec.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if address.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(target)
    sock.listen(spec.listen)


def _bind_file(listener: Listener, path: str, spec: ServerSpec) -> Bound:
    """Bind a unix socket: remove a stale one, set owner and mode before anybody can connect.

    bind(2) makes the file with the mode of the socket's own inode, less the umask: a chmod(2) of
    the path could meet a link that somebody has put there by then.
    """
    _remove_stale(listener, path)
    sock = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = spec.umask if spec.chmod_socket is None else 0
    previous = os.umask(mask) if mask is not None else None
    try:
        sock.setblocking(False)  # noqa: FBT003  (socket names it so)
        if spec.chmod_socket is not None:
            os.fchmod(sock.fileno(), spec.chmod_socket)
        sock.bind(path)
        made = os.lstat(path)
        bound = Bound(listener, sock, os.path.abspath(path), (made.st_dev, made.st_ino))
        if spec.chown_socket:
            os.chown(path, *_owner(listener, spec.chown_socket), follow_symlinks=False)
        sock.listen(spec.listen)
    except BaseException:
        sock.close()
        raise
    finally:
        if previous is not None:
            os.umask(previous)
    return bound


def _remove_stale(listener: Listener, path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(
            f"cannot bind unix socket {path}",
            origin=listener.origin,
            reason="a file that is no socket has that name",
            hint="remove it or choose another name",
        )
    os.unlink(path)


def problems(spec: ServerSpec) -> Iterator[ListenError]:
    """Yield what can be known to be wrong with listeners before they listen."""
    for listener in spec.listeners:
        try:
            address = parse_address(listener.address, listener.origin)
            if spec.chown_socket and address.family == socket.AF_UNIX:
                _owner(listener, spec.chown_socket)
        except ListenError as error:
            yield error


def _owner(listener: Listener, text: str) -> tuple[int, int]:
    """Read ``user[:group]``, names or numbers."""
    user, _, group = text.partition(":")
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid if user else -1
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid if group else -1
    except KeyError as error:
        raise ListenError(
            f"cannot give {listener.address} to '{text}'",
            origin=listener.origin,
            reason=str(error.args[0]),
            hint="chown-socket takes user[:group]",
        ) from error
    return uid, gid


def _check_backlog(listener: Listener, backlog: int) -> None:
    """Refuse a queue the kernel would silently cut, as the original does (inventory SOK-04)."""
    try:
        limit = int(read_small(SOMAXCONN))
    except (OSError, ValueError):
        return  # no /proc in this jail: listen(2) decides
    if backlog > limit:
        raise ListenError(
            f"cannot listen on {listener.address} with a queue of {backlog}",
            origin=listener.origin,
            reason=f"net.core.somaxconn is {limit}",
            hint="lower listen or raise the sysctl",
        )


def read_small(path: str) -> bytes:
    """Read a file of the kernel. Not by open(), which touches 900 kB of shared memory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _failure(listener: Listener, address: Address, error: OSError) -> ListenError:
    return ListenError(
        f"cannot bind {listener.address}",
        origin=listener.origin,
        reason=reason_of(error),
        hint=_hint(address, error),
    )


HINTS = {
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE; shared-socket binds earlier",
    errno.EADDRINUSE: "another program has it; see ss -ltnp",
    errno.EADDRNOTAVAIL: "no interface here has that address",
    errno.EBADF: "that descriptor was not inherited",
}


def _hint(address: Address, error: OSError) -> str:
    if not address.is_file:
        return HINTS.get(error.errno or 0, "")
    folder = os.path.dirname(str(address.target)) or "."
    if error.errno == errno.ENOENT:
        return f"does the directory {folder} exist here?"
    if error.errno == errno.EROFS:
        return "shared-socket binds outside of the jail; or bind a directory, writable, into it"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"may uid {os.geteuid()} write to {folder}?"
    return ""
