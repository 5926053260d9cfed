"""Asking a running Emperor over its control socket, for the command line."""

from __future__ import annotations

import contextlib
import json
import socket as sockets
import struct
from collections.abc import Callable, Iterator
from typing import Any

from donjon.errors import DonjonError, reason_of

DEFAULT_SOCKET = "/run/donjon/control.sock"

TIMEOUT = 10.0
"""Seconds that an Emperor has to answer."""

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid

_LINE = 16384  # bytes of an answer with a descriptor

_HINTS = {
    "FileNotFoundError": "is an Emperor running?",
    "ConnectionRefusedError": "its Emperor is gone",
    "PermissionError": "only root may ask",
}


def ask(verb: str, *, name: str = "", socket: str | None = None, **words: Any) -> dict[str, Any]:
    """Ask once and return the answer. Raises DonjonError with the Emperor's reason."""
    with _connect(socket) as link, link.makefile("rb") as stream:
        _request(link, verb, name, words)
        return _answer(stream.readline())


def ask_root(verb: str, *, name: str = "", socket: str | None = None) -> dict[str, Any]:
    """Ask an Emperor that runs as root; what another one says is not to be acted upon as root."""
    with _connect(socket) as link, link.makefile("rb") as stream:
        raw = link.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _UCRED.size)
        _pid, uid, _gid = _UCRED.unpack(raw)
        if uid != 0:
            raise DonjonError(f"the Emperor on {socket or DEFAULT_SOCKET} is uid {uid}, not root")
        _request(link, verb, name, {})
        return _answer(stream.readline())


def follow(name: str, *, socket: str | None = None, lines: int = 20) -> Iterator[str]:
    """Yield the last ``lines`` of a vassal's log and then each new one, until the Emperor goes."""
    with _connect(socket) as link, link.makefile("rb") as stream:
        _request(link, "logs", name, {"lines": lines, "follow": True})
        yield from _answer(stream.readline())["lines"]
        link.settimeout(None)
        for line in stream:
            yield json.loads(line)["line"]


@contextlib.contextmanager
def capturing(
    name: str, *, socket: str | None = None, **bounds: int
) -> Iterator[tuple[sockets.socket, Callable[[], dict[str, Any]]]]:
    """Have packets of a vassal captured meanwhile; the socket has a record of a pcap file a
    message, and an end. What is called ends it and says how it was. Raises DonjonError."""
    with _connect(socket) as link:
        _request(link, "capture", name, bounds)
        line, fds, _flags, _address = sockets.recv_fds(link, _LINE, 1)
        with contextlib.ExitStack() as stack:
            for one in fds:
                stream = stack.enter_context(sockets.socket(fileno=one))
            _answer(line)

            def end() -> dict[str, Any]:
                _request(link, "captured", name, {})
                with link.makefile("rb") as answers:
                    return _answer(answers.readline())

            yield stream, end


def _connect(path: str | None) -> sockets.socket:
    path = path or DEFAULT_SOCKET
    link = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    link.settimeout(TIMEOUT)
    try:
        link.connect(path)
    except OSError as error:
        link.close()
        hint = _HINTS.get(type(error).__name__, "")
        raise DonjonError(
            f"cannot reach the Emperor on {path}", reason=reason_of(error), hint=hint
        ) from error
    return link


def _request(link: sockets.socket, verb: str, name: str, words: dict[str, Any]) -> None:
    try:
        link.sendall(json.dumps({"verb": verb, "name": name, **words}).encode() + b"\n")
    except OSError as error:
        raise DonjonError("the Emperor hung up", reason=reason_of(error)) from error


def _answer(line: bytes) -> dict[str, Any]:
    if not line:
        raise DonjonError("the Emperor hung up", hint="only root may ask")
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise DonjonError(answer.get("error", "refused"), hint=answer.get("hint", ""))
    return answer
