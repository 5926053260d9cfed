"""Addresses of sockets as uWSGI writes them (uwsgi-facts 7.9, inventory SOK).

``/path`` and any text without a colon is a unix socket, ``@name`` an abstract one, ``host:port``
and ``:port`` TCP over IPv4, ``[host]:port`` over IPv6, ``fd://N`` a descriptor that was inherited,
``=N`` the N-th shared socket. An abstract name is bound with one NUL more at its end, as the
original does: clients of the original connect to that name and to no other.
"""

from __future__ import annotations

import socket

from donjon.errors import DonjonError
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

UNIX_MAX = 102
"""Characters in the name of a unix socket; sun_path has 108 bytes, the original accepts 102."""


class ListenError(DonjonError):
    """A socket cannot be opened as asked for."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: ``family`` and ``target`` of bind(2), or ``fd``, or ``shared``."""

    text: str
    family: socket.AddressFamily = socket.AF_UNIX
    target: str | bytes | tuple[str, int] = ""
    fd: int = -1
    shared: int = -1

    @property
    def is_file(self) -> bool:
        """Whether the socket is a name in the file system."""
        return (
            self.family == socket.AF_UNIX
            and isinstance(self.target, str)
            and self.fd < 0 <= len(self.text)
        )


def parse_address(text: str, origin: Origin = DEFAULT) -> Address:
    """Read an address. Raises ListenError where it cannot be one."""
    if text.startswith("fd://"):
        return Address(text, fd=_number(text, text[5:], origin))
    if text.startswith("="):
        return Address(text, shared=_number(text, text[1:], origin))
    if text.startswith(("@", "\\0")):
        return _abstract(text, text[1:] if text[0] == "@" else text[2:], origin)
    if ":" in text:
        return _inet(text, origin)
    if not text or len(text) > UNIX_MAX:
        raise ListenError(
            f"cannot listen on '{text}'",
            origin=origin,
            reason=f"its name has {len(text)} characters, a unix socket 1 to {UNIX_MAX}",
        )
    return Address(text, socket.AF_UNIX, text)


def _number(text: str, digits: str, origin: Origin) -> int:
    if not digits.isdecimal():
        raise ListenError(
            f"cannot listen on '{text}'", origin=origin, reason=f"'{digits}' is no number"
        )
    return int(digits)


def _abstract(text: str, name: str, origin: Origin) -> Address:
    if not name or len(name) > UNIX_MAX:
        raise ListenError(
            f"cannot listen on '{text}'",
            origin=origin,
            reason=f"an abstract name has 1 to {UNIX_MAX} characters",
        )
    return Address(text, socket.AF_UNIX, b"\0" + name.encode() + b"\0")


def _inet(text: str, origin: Origin) -> Address:
    host, _, port = text.rpartition(":")
    number = _number(text, port, origin)
    if number > 65535:
        raise ListenError(f"cannot listen on '{text}'", origin=origin, reason="ports end at 65535")
    if host.startswith("[") and host.endswith("]"):
        return Address(text, socket.AF_INET6, (host[1:-1], number))
    return Address(text, socket.AF_INET, (host or "0.0.0.0", number))
