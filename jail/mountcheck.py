"""Whether what is mounted on a directory is there and answers (spec FSE)."""

from __future__ import annotations

import os

from donjon.jail import bounded

PATIENCE = 5.0
"""Seconds that a file system has to answer."""


def fault_of(path: str, device: int | None = None, seconds: float = PATIENCE) -> str:
    """Return what is wrong with the file system on ``path``, "" if it answers.

    With ``device`` (st_dev) it must be that one.
    """
    told = bounded.ask(lambda: look(path, device), seconds)
    if told is None:
        return f"it does not answer within {seconds:g} seconds"
    return told


def look(path: str, device: int | None = None) -> str:
    """Look at once, for as long as it takes. Raises OSError: ENOTCONN for a server that died."""
    os.statvfs(path)
    if device is not None and os.stat(path).st_dev != device:
        return "another file system is there"
    return ""
