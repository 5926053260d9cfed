"""Log lines on standard error, each written by one write(2), so that processes do not mix."""

from __future__ import annotations

import os
import sys

_debug = False


def set_debug(on: bool) -> None:  # noqa: FBT001  (a switch, set once by the command line)
    """Show debug lines and tracebacks from now on."""
    global _debug  # noqa: PLW0603  (one switch per process)
    _debug = on


def debugging() -> bool:
    """Whether ``--debug`` was given."""
    return _debug


def write(text: str) -> None:
    """Write one line. A full or closed log never stops the program that logs."""
    data = (text + "\n").encode("utf-8", "backslashreplace")
    try:
        sys.stdout.flush()
        os.write(2, data)
    except (OSError, ValueError):
        return  # nowhere to say it


def debug(text: str) -> None:
    """Write one line when ``--debug`` was given."""
    if _debug:
        write(text)
