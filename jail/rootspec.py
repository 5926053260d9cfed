"""What ``rootfs`` can say.

``host``, a directory, ``overlay:LOWER[,LOWER…][:UPPER]`` or ``image:FILE``.

Text in, value out; nothing is looked at on the host.
"""

from __future__ import annotations

import os
import re

from donjon.jail.hostview import is_below
from donjon.records import dataclass

HOST = "host"
OVERLAY, IMAGE = "overlay:", "image:"
MEMORY = "size="
"""What stands in the place of UPPER when all that is written goes with the jail."""

MAX_LOWERS = 12
"""Their descriptors must fit the 255 bytes of a value of fsconfig(2)."""


@dataclass(frozen=True, slots=True)
class HostRoot:
    """Read-only views of the host's system."""


@dataclass(frozen=True, slots=True)
class DirectoryRoot:
    """A directory as it is."""

    path: str


@dataclass(frozen=True, slots=True)
class OverlayRoot:
    """Read-only ``lowers``, the first on top, and what is written over them.

    ``upper`` keeps it on the host; None is memory, ``size`` bytes of it, which end with the jail.
    """

    lowers: tuple[str, ...]
    upper: str | None = None
    size: str | None = None  # as written: 64M


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """A file with a squashfs, erofs or ext4 in it, read-only."""

    path: str


Root = HostRoot | DirectoryRoot | OverlayRoot | ImageRoot


def parse(text: str) -> Root:
    """Return what ``text`` says. Raises ValueError with the reason in a few words."""
    if text == HOST:
        return HostRoot()
    if text.startswith(IMAGE):
        return ImageRoot(_path(text.removeprefix(IMAGE), "FILE", ""))
    if text.startswith(OVERLAY):
        return _overlay(text.removeprefix(OVERLAY))
    if not text.startswith("/"):
        raise ValueError("neither host, overlay:LOWER[:UPPER], image:FILE nor an absolute path")
    return DirectoryRoot(text)


def _overlay(text: str) -> OverlayRoot:
    below, _, above = text.partition(":")
    lowers = tuple(_path(one, "LOWER") for one in below.split(","))
    if len(set(lowers)) < len(lowers):
        raise ValueError("a LOWER is named twice")
    if len(lowers) > MAX_LOWERS:
        raise ValueError(f"more than {MAX_LOWERS} LOWER")
    if above.startswith(MEMORY):
        return OverlayRoot(lowers, size=_size(above.removeprefix(MEMORY)))
    if ":" in above:
        raise ValueError("more than LOWER and UPPER: several LOWER are divided by commas")
    if not above:
        return OverlayRoot(lowers)
    upper = _path(above, "UPPER")
    for lower in lowers:
        if is_below(upper, lower) or is_below(lower, upper):
            raise ValueError(f"UPPER {upper} and LOWER {lower} are one inside the other")
    return OverlayRoot(lowers, upper)


def _size(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[kKmMgG]?", text):
        raise ValueError(f"{text!r} is not a size such as 64M")
    return text.lower()


def _path(text: str, what: str, dividers: str = ":,") -> str:
    if not text.startswith("/"):
        raise ValueError(f"{what} {text!r} is not an absolute path")
    if any(letter in text for letter in dividers):
        raise ValueError(f"{what} {text!r} has a colon or comma in it")
    return os.path.normpath(text)
