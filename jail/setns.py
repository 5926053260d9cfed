# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""``setns = PATH`` and ``setns-socket``: one instance joins the namespaces of another
(uwsgi-facts 3.2).

The side that gives sends one message: ``uwsgi-setns``, a native 32-bit count, and as many
namespaces as descriptors. They are joined in the order received; the first that cannot be joined
is the end. Nobody need be there yet: the original asks every second, for ever.

Both sides ask who the other is (SO_PEERCRED, unix(7)): whoever holds a descriptor of a namespace
can enter it, and whoever enters what a stranger gives runs the stranger's programs. root, the own
uid and those of ``setns-socket-uid`` count as known; the kernel shows an uid that has no name in
our user namespace as the overflow uid, which is nobody's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Collection, Sequence

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

MAGIC = b"uwsgi-setns"
NAMES = (
    "net", "uts", "ipc", "pid", "pid_for_children", "mnt", "cgroup", "time", "time_for_children",
)  # fmt: skip
"""Names of /proc/self/ns in the kernel's order, without ``user``, which nobody is given."""

_COUNT = struct.Struct("=i")
_MOST = 64  # namespaces; the kernel has eight kinds
_PAUSE = 1.0  # seconds between two tries to connect
_PATIENCE = 30.0  # seconds for the answer of a peer that is there
_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid
_OVERFLOW = 65534  # /proc/sys/kernel/overflowuid

_held: list[tuple[str, Fd]] = []  # this process's, of setns-preopen


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinNamespaces(Builtin):
    """Connect, receive, setns(2) each."""

    path: str
    uids: frozenset[int] = frozenset()

    def describe(self) -> str:
        return f"join the namespaces that {self.path} gives"

    def execute(self, context: Context) -> None:
        with _connect(self.path) as peer:
            who, uid = credentials(peer)
            if not is_known(uid, self.uids):
                raise JailError(
                    f"refusing the namespaces that {self.path} gives",
                    origin=self.origin,
                    reason=f"they are those of uid {uid} (process {who})",
                    hint=f"setns-socket-uid = {uid}, if they can be trusted",
                )
            peer.settimeout(_PATIENCE)
            message, found = receive(peer)
        try:
            if message != MAGIC + _COUNT.pack(len(found)):
                raise JailError(f"{self.path} does not hand out namespaces", origin=self.origin)
            for number in found:
                syscalls.setns(number, 0)
        finally:
            for number in found:
                os.close(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldNamespaces(Builtin):
    """``setns-preopen``: open our namespaces while we may, to give them away without root."""

    skip: frozenset[str] = frozenset()

    def describe(self) -> str:
        return "open the namespaces that the setns-socket will give"

    def execute(self, context: Context) -> None:
        release()
        _held.extend(open_own(self.skip))


def held() -> Sequence[tuple[str, Fd]]:
    """Return what setns-preopen opened; it stays this module's."""
    return _held


def release() -> None:
    """Close what setns-preopen opened."""
    for _, file in _held:
        file.close()
    _held.clear()


def open_own(skip: Collection[str]) -> list[tuple[str, Fd]]:
    """Open our namespaces, those that the kernel has and that are not in ``skip``."""
    found: list[tuple[str, Fd]] = []
    try:
        for name in NAMES:
            path = f"/proc/self/ns/{name}"
            if name not in skip and os.path.lexists(path):
                found.append((name, Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))))
    except OSError:
        for _, file in found:
            file.close()
        raise
    return found


def give(peer: socket.socket, files: Sequence[tuple[str, Fd]]) -> None:
    """Send ``files``. Raises OSError."""
    numbers = [file.fileno() for _, file in files]
    socket.send_fds(peer, [MAGIC + _COUNT.pack(len(numbers))], numbers)


def credentials(peer: socket.socket) -> tuple[int, int]:
    """Return pid and uid of the other side, as they were when it connected or listened."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(raw)
    return pid, uid


def is_known(uid: int, uids: Collection[int]) -> bool:
    """Whether ``uid`` may give namespaces to us, or get ours."""
    return uid != _OVERFLOW and (uid in (0, os.geteuid()) or uid in uids)


def receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    """Return the message and the descriptors, close-on-exec and ours from now on."""
    size = len(MAGIC) + _COUNT.size
    data, found, _, _ = socket.recv_fds(peer, size, _MOST, socket.MSG_CMSG_CLOEXEC)
    return data, list(found)


def _connect(path: str) -> socket.socket:
    address = f"\0{path[1:]}\0" if path.startswith("@") else path  # as the original binds it
    while True:
        with contextlib.ExitStack() as failed:
            peer = failed.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                peer.connect(address)
                failed.pop_all()
                return peer
        time.sleep(_PAUSE)
