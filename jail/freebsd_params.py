"""Parameters of a FreeBSD jail, from ``key=value`` to the bytes that jail_set(2) takes.

What is known here is what jail(8) calls core parameters. Modules may add others; such a one is
sent by its form, a flag without a value, a number, or a text, and the kernel refuses it if it has
another size. A flag that is false is a flag with ``no`` before the last word of its name:
``allow.mount=0`` is ``allow.nomount`` (jail_set(2)).
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Iterable

from donjon.jail.freebsd_spec import JailParameter
from donjon.syscalls import freebsd as calls

Pair = tuple[bytes, bytes | None]


class Kind(enum.Enum):
    """How the kernel reads a value."""

    TEXT = "text"  # ends with NUL
    NUMBER = "number"  # int
    LONG = "long number"  # unsigned long
    FLAG = "flag"  # no value
    SYSTEM = "new, inherit or disable"  # int, JAIL_SYS_*
    IP4 = "IPv4 addresses"  # struct in_addr, one after the other
    IP6 = "IPv6 addresses"


_NAMES = {
    Kind.TEXT: "name path host.hostname host.domainname host.hostuuid osrelease linux.osname "
    "linux.osrelease",
    Kind.NUMBER: "jid securelevel devfs_ruleset enforce_statfs children.max osreldate "
    "linux.oss_version",
    Kind.LONG: "host.hostid",
    Kind.FLAG: "persist ip4.saddrsel ip6.saddrsel",
    Kind.SYSTEM: "ip4 ip6 host vnet sysvmsg sysvsem sysvshm linux",
    Kind.IP4: "ip4.addr",
    Kind.IP6: "ip6.addr",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}

_SYSTEM = {
    "disable": calls.JAIL_SYS_DISABLE,
    "new": calls.JAIL_SYS_NEW,
    "inherit": calls.JAIL_SYS_INHERIT,
}
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})

_OF_JAIL8 = (
    "command mount mount.devfs mount.fdescfs mount.procfs interface ip_hostname vnet.interface "
    "zfs.dataset depend stop.timeout allow.dying"
)
"""Words of jail.conf(5) that jail(8) carries out itself; to the kernel they are unknown."""


def split(text: str) -> tuple[str, str | None]:
    """Read ``KEY[=VALUE]``. Raises ValueError with what is wrong with either."""
    key, sign, value = text.strip().partition("=")
    given = (key.strip(), value.strip() if sign else None)
    encode(*given)
    return given


def kind_of(key: str) -> Kind | None:
    """Return how the kernel reads ``key``, None for a parameter that jail(8) does not name."""
    if key in _KINDS:
        return _KINDS[key]
    first, _, last = key.rpartition(".")
    positive = _KINDS.get(_join(first, last.removeprefix("no")))
    return Kind.FLAG if key.startswith("allow.") or positive is Kind.FLAG else None


def encode(key: str, value: str | None) -> Pair:
    """Return name and value as the kernel takes them, the NUL of the name left out."""
    if not key or not key.isascii() or any(letter.isspace() or letter == "\0" for letter in key):
        raise ValueError("not KEY or KEY=VALUE")
    if key in _OF_JAIL8.split() or key.startswith("exec."):
        raise ValueError(
            f"{key} is for jail(8), not for the kernel;"
            " exec-pre-jail and exec-post-jail run commands"
        )
    kind = kind_of(key) or _kind_by_form(value)
    if kind is Kind.FLAG:
        return _flag(key, value).encode(), None
    if kind is Kind.SYSTEM:
        return key.encode(), _system(value)
    if value is None:
        raise ValueError(f"{key} needs a value: {kind.value}")
    return key.encode(), _ENCODERS[kind](value)


def pairs(parameters: Iterable[JailParameter]) -> tuple[Pair, ...]:
    """Return what jail_set(2) takes for all of them.

    The kernel heeds only the last of two equal names. So lists of addresses are joined, and of
    anything else the last counts.
    """
    found: dict[bytes, bytes | None] = {}
    for one in parameters:
        name, data = encode(one.key, one.value)
        if data is None:
            found.pop(_flag(name.decode(), "0").encode(), None)  # its opposite
        elif kind_of(one.key) in (Kind.IP4, Kind.IP6):
            data = (found.get(name) or b"") + data
        found[name] = data
    return tuple(found.items())


def address4(text: str) -> bytes:
    """Return the four bytes of an address that a jail can have."""
    return _address(ipaddress.IPv4Address, text)


def address6(text: str) -> bytes:
    """Return the sixteen bytes of an address that a jail can have."""
    return _address(ipaddress.IPv6Address, text)


def _address(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], text: str) -> bytes:
    try:
        address = kind(text.strip())
    except ValueError as error:
        hint = "; interface and netmask are set by ifconfig(8)" if set(text) & set("|/") else ""
        raise ValueError(f"{text!r} is not an address{hint}") from error
    if address.is_unspecified or str(address) == "255.255.255.255":
        raise ValueError(f"{address} is not an address of one host")
    return address.packed


def _kind_by_form(value: str | None) -> Kind:
    if value is None:
        return Kind.FLAG
    return Kind.NUMBER if _is_number(value) else Kind.TEXT


def _is_number(value: str) -> bool:
    digits = value.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def _join(first: str, last: str) -> str:
    return f"{first}.{last}" if first else last


def _flag(key: str, value: str | None) -> str:
    """Return the name that says ``value``: itself, or with ``no`` put in or taken out."""
    if value is None or value.lower() in _TRUE:
        return key
    if value.lower() not in _FALSE:
        raise ValueError(f"{key} is a flag: nothing, 1 or 0")
    first, _, last = key.rpartition(".")
    return _join(first, last[2:] if last.startswith("no") else f"no{last}")


def _system(value: str | None) -> bytes:
    word = "new" if value is None else value
    number = _SYSTEM.get(word, int(word) if word in ("0", "1", "2") else None)
    if number is None:
        raise ValueError(f"{word!r} is not {Kind.SYSTEM.value}")
    return struct.pack("=i", number)


def _text(value: str) -> bytes:
    if "\0" in value:
        raise ValueError("a NUL cannot be in a value")
    return value.encode() + b"\0"


def _number(value: str) -> bytes:
    if not _is_number(value) or not -(1 << 31) <= int(value) < 1 << 31:
        raise ValueError(f"{value!r} is not a number of 32 bits")
    return struct.pack("=i", int(value))


def _long(value: str) -> bytes:
    size = struct.calcsize("@L")
    if not (_is_number(value) and 0 <= int(value) < 1 << 8 * size):
        raise ValueError(f"{value!r} is not a number of {8 * size} bits without a sign")
    return struct.pack("@L", int(value))


def _addresses4(value: str) -> bytes:
    return b"".join(address4(part) for part in value.split(","))


def _addresses6(value: str) -> bytes:
    return b"".join(address6(part) for part in value.split(","))


_ENCODERS = {
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.LONG: _long,
    Kind.IP4: _addresses4,
    Kind.IP6: _addresses6,
}
