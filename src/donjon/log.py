"""Log lines on standard error, each written by one write(2), so that processes do not mix."""

from __future__ import annotations

import os
import sys

_debug = False

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_ESCAPES_IN_LINES = {key: value for key, value in _ESCAPES.items() if chr(key) not in "\t\n"}


def set_debug(on: bool) -> None:  # noqa: FBT001  (a switch, set once by the command line)
    """Show debug lines and tracebacks from now on."""
    global _debug  # noqa: PLW0603  (one switch per process)
    _debug = on


def debugging() -> bool:
    """Whether ``--debug`` was given."""
    return _debug


def one_line(text: str) -> str:
    """Return a stranger's text so that it cannot begin a line of its own, or speak to a terminal.

    Control characters become ``\\xNN``.
    """
    return text if text.isprintable() else text.translate(_ESCAPES)


def write(text: str) -> None:
    """Write one line, without escapes for a terminal.

    A full or closed log never stops the program that logs.
    """
    if not text.isprintable():
        text = text.translate(_ESCAPES_IN_LINES)
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
