"""Whom the kernel ends when the host runs out of memory: vassals and hooks, and the Emperor last.

The kernel takes the largest process, and an Emperor of many is larger than each of them; all of
them would end with it. So it lowers its own score (proc_pid_oom_score_adj(5)). A spawner that is
started anew, and with it every vassal, and every hook get the score back that it had before.
"""

from __future__ import annotations

import contextlib

SPARED = -900
"""Only processes that root spares even more outlive it."""

_FILE = "/proc/self/oom_score_adj"
_before: list[int] = []


def spare_me() -> None:
    """Let this process be ended last. Without CAP_SYS_RESOURCE nothing changes."""
    with contextlib.suppress(OSError, ValueError):
        with open(_FILE, encoding="ascii") as file:
            score = int(file.read())
        if score > SPARED:
            _write(SPARED)
            _before.append(score)


def as_before() -> None:
    """In a child: be as mortal as the Emperor was when it was started."""
    if _before:
        with contextlib.suppress(OSError):
            _write(_before[0])


def earlier() -> str:
    """Return the score of ``as_before``, for a child that is executed; "" where it is ours."""
    return str(_before[0]) if _before else ""


def take(score: str) -> None:
    """In such a child: have what ``earlier`` said."""
    if score:
        with contextlib.suppress(OSError):
            _write(int(score))


def _write(score: int) -> None:
    with open(_FILE, "w", encoding="ascii") as file:
        file.write(str(score))
