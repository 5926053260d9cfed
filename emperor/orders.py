"""What travels between the Emperor and its spawner: one packet an order, one packet an answer.

The socket pair is private to the two, made before the fork that divides them; nobody else ever
holds an end, which is the authentication. Descriptors travel beside the packet (SCM_RIGHTS) and
are named, in order, by ``roles``. A packet that would not fit the socket buffer is carried by a
memfd.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from donjon.emperor.birth import Birth
from donjon.fd import Fd
from donjon.hooks.spec import Hook
from donjon.records import dataclass, field

DIRECT, BY_MEMFD, PLAIN_ANSWER, NOTE = b"D", b"M", b"A", b"N"
_LENGTH = struct.Struct("=I")
_PLAIN_ANSWER = struct.Struct("=x3xiii")
DIRECT_LIMIT = 96 * 1024
"""Bytes sent directly; the default send buffer is about 200 KiB and holds a few orders."""

MAX_FDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Give birth to a vassal, or (``evaluate``) to a process that reads a configuration.

    ``roles`` names the descriptors that come with the order: ``control launch error log stdin
    cgroup tasks go answer network``; ``tasks`` may repeat, ``network`` is the namespace to be
    born in. ``uid`` and ``gid`` are those to take before anything of the vassal's runs, None to
    stay. ``command`` makes it an exec instead of a fork.
    """

    number: int
    emperor_pid: int
    roles: tuple[str, ...] = ()
    clone_flags: int = 0
    new_user_namespace: bool = False
    cwd: str = "/"
    uid: int | None = None
    gid: int | None = None
    cap: frozenset[int] | None = None
    birth: Birth | None = None
    hooks: tuple[Hook, ...] = ()  # as-vassal
    start_hook: str | None = None
    vassals_directory: str = ""
    command: tuple[str, ...] = ()
    wrapper: str | None = None
    wrapper_override: tuple[str, ...] = ()
    wrapper_fallback: tuple[str, ...] = ()
    evaluate: Mapping[str, Any] | None = None
    cgroups: tuple[str, ...] = ()  # to be removed if the Emperor is killed
    parents: tuple[str, ...] = ()  # what the Emperor made above them, to go with the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A file that the janitor unlinks if the Emperor is killed. ``forget`` takes it off the
    list."""

    path: str
    identity: tuple[int, int] = (0, 0)
    forget: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A vassal that another spawner gave birth to; its pidfd comes beside this."""

    cgroups: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Control groups that were made for a vassal: the janitor removes them with the Emperor."""

    cgroups: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of an order: the pid, with its pidfd beside it, or the reason there is none."""

    number: int
    pid: int = -1
    error: str = ""
    pidfd: int = field(default=-1, compare=False)


def send_packet(link: socket.socket, packet: bytes, fds: tuple[int, ...]) -> None:
    """Send a packet that is written already."""
    _send(link, packet, fds)


def send(link: socket.socket, message: Any, fds: tuple[int, ...] = ()) -> None:
    """Send one message with descriptors; they stay open here."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    if len(data) <= DIRECT_LIMIT:
        _send(link, (NOTE if isinstance(message, Leftover | Made) else DIRECT) + data, fds)
        return
    with Fd(os.memfd_create("order", os.MFD_CLOEXEC)) as body:
        os.write(body.fileno(), data)
        _send(link, BY_MEMFD, (*fds, body.fileno()))


def notes(text: bytes) -> Iterator[Leftover | Made]:
    """Read packets that were kept, each after its length."""
    at = 0
    while at < len(text):
        (length,) = _LENGTH.unpack_from(text, at)
        at += _LENGTH.size + length
        message = pickle.loads(text[at - length + 1 : at])
        if isinstance(message, Leftover | Made):
            yield message


def receive(link: socket.socket) -> tuple[Any, list[int]] | None:
    """Return the next message and its descriptors, or None when the other side is gone."""
    room = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
    try:
        data, ancillary, _flags, _address = link.recvmsg(
            DIRECT_LIMIT + 1, room, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None
    fds: list[int] = []
    for level, kind, body in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds += array.array("i", body)
    return None if not data else (decode(data, fds), fds)


def decode(data: bytes, fds: list[int]) -> Any:
    """Return the message of a packet; a descriptor that only carried it is taken from ``fds``."""
    if data[:1] == PLAIN_ANSWER:
        number, pid, error = _PLAIN_ANSWER.unpack(data)
        reason = f"cannot clone: {os.strerror(error)}" if error else ""
        return Answer(number=number, pid=pid, error=reason)
    if data[:1] == BY_MEMFD:
        with Fd(fds.pop()) as body_fd:
            content = os.pread(body_fd.fileno(), os.fstat(body_fd.fileno()).st_size, 0)
        return pickle.loads(content)
    return pickle.loads(data[1:])


def _send(link: socket.socket, data: bytes, fds: tuple[int, ...]) -> None:
    ancillary = []
    if fds:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    link.sendmsg([data], ancillary)
