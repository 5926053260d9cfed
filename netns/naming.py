"""Network namespaces by name: files of /run/netns on which one is mounted, as ip-netns(8) makes
them.

They are the operator's: made, connected and removed by him. Nothing is created here.
"""

from __future__ import annotations

import os
import re

from donjon.fd import Fd

DIRECTORY = "/run/netns"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def exists(name: str) -> bool:
    """Whether the operator gave a network namespace this name."""
    return _NAME.fullmatch(name) is not None and os.path.lexists(f"{DIRECTORY}/{name}")


def open_named(name: str) -> Fd:
    """Open a namespace by its name. Raises OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    return Fd(os.open(f"{DIRECTORY}/{name}", flags))
