"""Where the jail of a vassal is entered: what ``donjon enter`` is told.

Who asks is root, and joins by himself (``jail.join``); the Emperor only says which process it is,
how many before it stand in for it, which walls of the plan a newcomer has to raise again, and in
which control groups he is.
Those are steps, pickled: the answer travels from one root to another.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from typing import Any

from donjon.emperor.prepare import Reading
from donjon.emperor.roster import Vassal
from donjon.emperor.vassal import State
from donjon.errors import DonjonError
from donjon.jail import confined
from donjon.jail.join import Door
from donjon.jail.spec import JailSpec


def describe(vassal: Vassal, shells: Callable[[], tuple[str, ...]] = tuple) -> dict[str, Any]:
    """Return the door of a running vassal as JSON. Raises DonjonError where there is none yet.

    ``shells`` has the groups ready in which newcomers are.
    """
    process = vassal.process
    if process is None or vassal.state is not State.RUNNING:
        raise DonjonError(f"{vassal.name} does not run", hint="donjon start")
    if not vassal.marks.ready:
        raise DonjonError(
            f"{vassal.name} is not ready", reason="its jail may not be finished", hint="try again"
        )
    jail = process.reading.launch.jail
    if jail.master_as_root:
        raise DonjonError(
            f"{vassal.name} cannot be entered",
            reason="its master keeps root's rights (master-as-root), and so would the command",
        )
    try:
        start = confined.started(process.pid)
    except OSError as error:
        raise DonjonError(f"{vassal.name} has just ended") from error
    return {
        "pid": process.pid,
        "start": start,
        "levels": _levels(jail),
        "walls": _pack(process.reading),
        "shells": shells(),
    }


def door(answer: dict[str, Any]) -> Door:
    """Return what an Emperor of root's described."""
    return Door(
        pid=answer["pid"],
        start=answer["start"],
        levels=answer["levels"],
        walls=pickle.loads(base64.b64decode(answer["walls"])),
        shells=tuple(answer["shells"]),
    )


def _levels(jail: JailSpec) -> int:
    """Return how many processes wait for the one that went on in the jail."""
    reforks = (jail.refork, jail.refork_as_root, jail.refork_post_jail, bool(jail.namespace))
    return sum(reforks)


def _pack(reading: Reading) -> str:
    walls = tuple(step for step in reading.outline.plan.steps if getattr(step, "at_join", False))
    return base64.b64encode(pickle.dumps(walls)).decode("ascii")
