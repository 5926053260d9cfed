"""Alarms: ``alarm = NAME PLUGIN:ARGUMENTS`` names a way to tell somebody; hooks ring it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from donjon import log
from donjon.hooks import shell
from donjon.hooks.action import ActionError

PLUGINS = ("cmd", "log")


def check(target: str) -> None:
    """Raise ValueError where ``target`` names no plugin that is built."""
    plugin, colon, arguments = target.partition(":")
    if not colon or plugin not in PLUGINS or (plugin == "cmd" and not arguments.strip()):
        raise ValueError(f"an alarm is cmd:COMMAND or log:[TEXT], not {target}")


def ring(alarms: Mapping[str, str], name: str, message: str) -> None:
    """Raise the alarm ``name``: the message goes to a command's standard input, or to the log.

    Raises ActionError for an unknown name. A command is started and not waited for.
    """
    target = alarms.get(name)
    if target is None:
        known = " ".join(sorted(alarms)) or "none"
        raise ActionError(f"no alarm is called {name}; there are: {known}")
    plugin, _, arguments = target.partition(":")
    if plugin == "cmd":
        shell.feed(arguments, message, os.environ)
    else:
        log.write(f"ALARM: {arguments}{message}")
