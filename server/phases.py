"""How the server reaches the rest of an instance: it names moments, others fill them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from donjon.jail.phase import Phase
from donjon.records import dataclass
from donjon.server.spec import ServerSpec, TouchHook


class DropPoint(enum.Enum):
    """The points of start-up at which privileges may be dropped (uwsgi-facts 2.1)."""

    START = "start"  # the default
    SOCKETS = "sockets"  # after the sockets are bound, where chown-socket was asked for
    INIT = "init"  # drop-after-init
    APPS = "apps"  # drop-after-apps, in the generation after it loaded the application
    WORKER = "worker"  # master-as-root: in each worker


class Phases(Protocol):
    """Runs what was asked for at a moment.

    Raises DonjonError where the phase is fatal, and logs where it is not.
    """

    def run(self, phase: Phase) -> None:
        """Run the hooks of ``phase``."""
        ...

    def drop(self, point: DropPoint) -> None:
        """Drop privileges if this instance does so at this point; otherwise do nothing."""
        ...

    def touch(self, hook: TouchHook) -> None:
        """Run the action of a ``hook-touch``; a failure is logged."""
        ...

    def alarm(self, name: str, message: str) -> None:
        """Raise an alarm by name."""
        ...


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload read: the new wishes and the runner of their phases."""

    spec: ServerSpec
    phases: Phases


Reread = Callable[[], Reloaded]
"""Reads the configuration again. Raises ConfigError; the old generation then goes on."""
