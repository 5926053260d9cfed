"""Readers of values: text in, typed value out, ValueError with the reason in a few words.

They follow the original where files rely on it (uwsgi-facts 6.7): any word but false, off, no and
0 is true, a number without a value is 1. They are stricter where it guesses: ``atoi`` reads
``abc`` as 0, we refuse it. A comment after a number or a boolean, which ini does not have but
many files contain, is cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from donjon import syscalls

_INTEGER = re.compile(r"\s*([+-]?\d+)\s*(?:[#;].*)?")
_SIZE = re.compile(r"\s*(\d+)\s*([kmgt]?)(?:i?b)?\s*(?:[#;].*)?", re.IGNORECASE)
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_FALSE = frozenset({"false", "off", "no", "0"})
_PLAIN_TRUE = frozenset({"", "true", "on", "yes", "1"})

INT_MAX = (1 << 31) - 1
_LARGEST = (1 << 63) - 1  # of any size that the kernel takes


def boolean(text: str) -> bool:
    """Return False for false, off, no and 0 in any case; True for everything else."""
    return text.split("#", 1)[0].strip().lower() not in _FALSE


def is_plain_true(text: str) -> bool:
    """Whether a value that could be a name or a number only says yes."""
    return text.strip().lower() in _PLAIN_TRUE


def plain(text: str) -> str:
    """Return the text as it is; an empty one too."""
    if "\0" in text:
        raise ValueError("a NUL byte is in the value")
    return text


def word(text: str) -> str:
    """Return the text as it is; an empty one is refused."""
    if not text:
        raise ValueError("a value is missing")
    return plain(text)


def integer(minimum: int = 0, maximum: int = INT_MAX) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range."""

    def parse(text: str) -> int:
        if not text:
            return 1
        match = _INTEGER.fullmatch(text)
        if match is None:
            raise ValueError("not a whole number")
        value = int(match[1])
        if not minimum <= value <= maximum:
            raise ValueError(f"not between {minimum} and {maximum}")
        return value

    return parse


number = integer()


def clamped(maximum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that takes ``maximum`` for anything larger."""

    def parse(text: str) -> int:
        return min(number(text), maximum)

    return parse


def size(unit: int = 1) -> Callable[[str], int]:
    """Return a reader of sizes: bare numbers count in ``unit`` bytes; K, M and G say their own."""

    def parse(text: str) -> int:
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("not a size (a number, or one with K, M or G)")
        value = int(match[1]) * (_UNIT[match[2].lower()] if match[2] else unit)
        if value > _LARGEST:
            raise ValueError("too large")
        return value

    return parse


def octal(text: str) -> int:
    """Return a mode or a mask written in octal."""
    try:
        value = int(text.strip(), 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o7777:
        raise ValueError("not an octal mode such as 755")
    return value


def socket_mode(text: str) -> int:
    """Return a mode for sockets: nothing or 1 is 666, else three octal digits."""
    if is_plain_true(text):
        return 0o666
    digits = text.strip()
    if not re.fullmatch(r"0?[0-7]{3}", digits):
        raise ValueError("not three octal digits such as 664")
    return int(digits, 8)


def choice(*words: str) -> Callable[[str], str]:
    """Return a reader of one word out of a list."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"not one of {', '.join(words)}")
        return text

    return parse


def assignment(text: str) -> tuple[str, str]:
    """Return the parts of ``NAME=VALUE``; without ``=`` the value is empty."""
    name, _, value = text.partition("=")
    if not name:
        raise ValueError("not NAME=VALUE")
    return plain(name), plain(value)


def listed(text: str) -> list[str]:
    """Return the items of a list written with commas, without blanks and empty items."""
    return [item for part in text.split(",") if (item := part.strip())]


_SPELLINGS = {"ns": "fs", "mount": "fs", "mnt": "fs"}
_NAMESPACES = frozenset(
    {"fs", "ipc", "pid", "uts", "net", "user", "cgroup", "time", "files", "io", "sysvsem"}
)


def namespaces(text: str) -> frozenset[str]:
    """Return the words of an unshare list in one spelling each (uwsgi-facts 3.1).

    ``parent`` (CLONE_PARENT) is accepted and dropped: the Emperor is always the parent of its
    vassals.
    """
    words = {_SPELLINGS.get(item, item) for item in listed(text)} - {"parent"}
    _refuse_unknown(words, _NAMESPACES, "namespace")
    if not words:
        raise ValueError("no namespace is named")
    return frozenset(words)


def _refuse_unknown(words: set[str], known: Container[str], kind: str) -> None:
    for item in sorted(words):
        if item not in known:
            raise ValueError(f"{item!r} is not a {kind}")


def capabilities(text: str) -> frozenset[int]:
    """Return the numbers of a list of capabilities, by name, with or without CAP_, or number."""
    numbers = frozenset(_capability(item) for item in listed(text))
    if not numbers:
        raise ValueError("no capability is named")
    return numbers


def _capability(item: str) -> int:
    if item.isdigit():
        if int(item) > 63:
            raise ValueError(f"{item} is not a capability (0 to 63)")
        return int(item)
    number = syscalls.capability_names.get(item.lower().removeprefix("cap_"))
    if number is None:
        raise ValueError(f"{item!r} is not a capability")
    return number


def pair(text: str) -> tuple[str, str]:
    """Return two words separated by blanks."""
    words = text.split()
    if len(words) != 2:
        raise ValueError("not two words")
    return words[0], words[1]


def absolute(text: str) -> str:
    """Return a path that starts at the root."""
    if not word(text).startswith("/"):
        raise ValueError("not an absolute path")
    return text
