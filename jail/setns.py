# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""``setns = PATH``: join the namespaces that an instance hands out (uwsgi-facts 3.2).

The other side sends one message: ``uwsgi-setns``, a native 32-bit count, and as many namespaces
as descriptors. They are joined in the order received; the first that cannot be joined is the end.
Nobody need be there yet: the original asks every second, for ever.
"""

from __future__ import annotations

import os
import socket
import struct
import time

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

MAGIC = b"uwsgi-setns"
_COUNT = struct.Struct("=i")
_MOST = 64  # namespaces; the kernel has eight kinds
_PAUSE = 1.0  # seconds between two tries to connect
_PATIENCE = 30.0  # seconds for the answer of a peer that is there


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinNamespaces(Builtin):
    """Connect, receive, setns(2) each."""

    path: str

    def describe(self) -> str:
        return f"join the namespaces that {self.path} gives"

    def execute(self, context: Context) -> None:
        with _connect(self.path) as peer:
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


def receive(peer: socket.socket) -> tuple[bytes, list[int]]:
    """Return the message and the descriptors, close-on-exec and ours from now on."""
    size = len(MAGIC) + _COUNT.size
    data, found, _, _ = socket.recv_fds(peer, size, _MOST, socket.MSG_CMSG_CLOEXEC)
    return data, list(found)


def _connect(path: str) -> socket.socket:
    address = "\0" + path[1:] if path.startswith("@") else path
    while True:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            peer.close()
            time.sleep(_PAUSE)
            continue
        except BaseException:
            peer.close()
            raise
        return peer
