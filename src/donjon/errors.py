"""The errors a user can act on, each one line: what, where, why, and what to do.

Low layers raise ``OSError`` with a path. The layer that knows the purpose adds it with
``raise JailError(...) from error``. Only ``cli`` prints them; ``--debug`` shows a traceback.
"""

from __future__ import annotations

import os

from donjon.origin import Origin


class DonjonError(Exception):
    """Something failed that the user can act on.

    ``what`` says what could not be done and on which path; ``origin`` which line of which file
    asked for it; ``reason`` is the system's or ours; ``hint`` what to do where that misleads.
    """

    exit_status = 1

    def __init__(
        self, what: str, *, origin: Origin | None = None, reason: str = "", hint: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.origin = origin
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.origin}: {self.what}" if self.origin else self.what
        if self.reason:
            text += f": {self.reason}"
        if self.hint:
            text += f" ({self.hint})"
        return text


class UsageError(DonjonError):
    """The command line of a verb is wrong. uWSGI's flags end with 1, as the original does."""

    exit_status = 2


class ConfigError(DonjonError):
    """A configuration cannot be read, parsed or understood."""


class OptionError(ConfigError):
    """A value does not fit its option."""


class JailError(DonjonError):
    """A step of a jail's set-up failed."""


class HookError(DonjonError):
    """A hook failed, or cannot be understood."""


class AppLoadError(DonjonError):
    """The application could not be loaded and ``need-app`` asked for one (uwsgi-facts 7.6)."""

    exit_status = 22


def reason_of(error: OSError) -> str:
    """Return the system's words for an ``OSError``, without the number and the path."""
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)  # numbers of getaddrinfo(3) are below 0, and its own
