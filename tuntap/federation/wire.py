"""What two ends of a link say to each other: frames, greetings and announcements, as bytes.

Every frame is {0, size (16 bits, little endian), kind} and its content. What cannot be understood
ends the link: there is no peer that speaks otherwise.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from donjon.records import dataclass

LARGEST = 8188
"""Bytes in a frame: LARGEST_FRAME of plane.h."""

MOST_ROUTES = 8192
"""Addresses that one peer may announce."""

LONGEST_NAME = 255
"""Bytes of a vassal's name."""

VERSION = 1

Address = IPv4Address | IPv6Address
Route = tuple[Address, str]
"""An address, and the name of the vassal that has it."""

_HEADER = struct.Struct("<BHB")
_HELLO = struct.Struct(">6sBQ")
_MAGIC = b"donjon"
_FIRST, _LAST = 1, 2
_SIZES = {4: 4, 6: 16}


class WireError(Exception):
    """The other end said what no peer says."""


class Kind(enum.IntEnum):
    """What a frame is; 1 are the original's rules, which nobody sends here."""

    PACKET = 0
    HELLO = 16  # the first of each end
    ROUTES = 17  # a part of an announcement, which replaces the last one
    ALIVE = 18
    AGAIN = 19  # there are new certificates: whoever dialed may do so again
    BYE = 20  # the last of an end


_KINDS = frozenset(map(int, Kind))


@dataclass(frozen=True, slots=True)
class Said:
    """A frame that is no packet."""

    kind: Kind
    content: bytes


def frame(kind: Kind, content: bytes = b"") -> bytes:
    """Return a frame."""
    return _HEADER.pack(0, len(content), kind) + content


class Splitter:
    """Cuts a stream into runs of whole packets and what is said between them."""

    def __init__(self) -> None:
        """Begin at the begin of a frame."""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes | Said]:
        """Return what is whole by now: packets with their frames' headers. Raises WireError."""
        data = self._rest + data
        found: list[bytes | Said] = []
        begin = at = 0
        while len(data) - at >= 4:
            zero, size, kind = _HEADER.unpack_from(data, at)
            if zero or size > LARGEST or kind not in _KINDS:
                raise WireError(f"a frame of kind {kind} and {size} bytes")
            end = at + 4 + size
            if end > len(data):
                break
            if kind != Kind.PACKET:
                if at > begin:
                    found.append(data[begin:at])
                found.append(Said(Kind(kind), data[at + 4 : end]))
                begin = end
            at = end
        if at > begin:
            found.append(data[begin:at])
        self._rest = data[at:]
        return found


def hello(identity: int) -> bytes:
    """Return the greeting of a process, which has 64 random bits for an identity."""
    return frame(Kind.HELLO, _HELLO.pack(_MAGIC, VERSION, identity))


def read_hello(content: bytes) -> int:
    """Return the identity in a greeting. Raises WireError."""
    if len(content) != _HELLO.size:
        raise WireError("a greeting of another length")
    magic, version, identity = _HELLO.unpack(content)
    if magic != _MAGIC or version != VERSION:
        raise WireError(f"a greeting of another version than {VERSION}")
    return int(identity)


def announcement(routes: Iterable[Route]) -> Iterator[bytes]:
    """Return the frames that announce addresses: all of them, in the place of the last ones."""
    part, flags = b"", _FIRST
    for address, name in routes:
        text = name.encode("utf-8")
        packed = address.packed
        entry = bytes([address.version]) + packed + bytes([len(text)]) + text
        if 1 + len(part) + len(entry) > LARGEST:
            yield frame(Kind.ROUTES, bytes([flags]) + part)
            part, flags = b"", 0
        part += entry
    yield frame(Kind.ROUTES, bytes([flags | _LAST]) + part)


class Announced:
    """Puts the parts of an announcement together."""

    def __init__(self) -> None:
        """Begin without any."""
        self._routes: list[Route] | None = None

    def feed(self, content: bytes) -> list[Route] | None:
        """Return the whole announcement with its last part, else None. Raises WireError."""
        if not content or content[0] & ~(_FIRST | _LAST):
            raise WireError("an announcement without a beginning")
        if content[0] & _FIRST:
            self._routes = []
        if self._routes is None:
            raise WireError("a part of an announcement that did not begin")
        self._routes += _entries(content)
        if len(self._routes) > MOST_ROUTES:
            raise WireError(f"more than {MOST_ROUTES} addresses")
        if not content[0] & _LAST:
            return None
        routes, self._routes = self._routes, None
        return routes


def _entries(content: bytes) -> Iterator[Route]:
    at = 1
    while at < len(content):
        size = _SIZES.get(content[at])
        if size is None or len(content) - at < 2 + size:
            raise WireError("an address that is cut off")
        packed = content[at + 1 : at + 1 + size]
        at += 1 + size
        length = content[at]
        if len(content) - at - 1 < length:
            raise WireError("a name that is cut off")
        yield _address(packed), _name(content[at + 1 : at + 1 + length])
        at += 1 + length


def _address(packed: bytes) -> Address:
    if len(packed) == 4:
        return IPv4Address(packed)
    address = IPv6Address(packed)
    if address.ipv4_mapped is not None:
        raise WireError("an IPv4 address as one of IPv6")
    return address


def _name(text: bytes) -> str:
    try:
        name = text.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("a name that is no text") from None
    if not is_name(name):
        raise WireError("a name that no vassal has")
    return name


def is_name(text: str) -> bool:
    """Whether a vassal's name can be told: the rule language has a word for it."""
    return (
        0 < len(text.encode("utf-8", "replace")) <= LONGEST_NAME
        and text.isprintable()
        and '"' not in text
    )
