"""Back-off of vassals that die before they served anything (spec THR, uwsgi-facts 1.3).

The original keeps one throttle for all and sleeps in it; here each vassal has its own entry, so a
bad one delays nobody else. A first failure waits a thousandth of ``emperor-throttle``, as the
original does by taking the milliseconds for microseconds; from the second on the wait is
``emperor-throttle`` and doubles with each failure up to ``emperor-max-throttle``.
"""

from __future__ import annotations

from donjon.records import dataclass


@dataclass(slots=True)
class Blame:
    """One blacklist entry. Times are seconds since the epoch; ``level`` is the wait in seconds."""

    first: float
    last: float
    level: float
    attempt: int = 0


class Blacklist:
    """The vassals that went without ever being loyal."""

    def __init__(self, *, throttle_ms: int, max_throttle_ms: int, disabled: bool = False) -> None:
        self._step = max(throttle_ms, 0) / 1000
        self._most = max(max_throttle_ms, 0) / 1000
        self._disabled = disabled
        self._entries: dict[str, Blame] = {}

    def blame(self, name: str, now: float) -> Blame | None:
        """Count a failure of ``name`` at ``now``. None when the blacklist is switched off."""
        if self._disabled:
            return None
        entry = self._entries.get(name)
        if entry is None:
            entry = Blame(first=now, last=now, level=min(self._step / 1000, self._most))
            self._entries[name] = entry
            return entry
        entry.attempt += 1
        entry.last = now
        entry.level = min(self._step * 2.0 ** min(entry.attempt - 1, 62), self._most)
        return entry

    def forgive(self, name: str) -> None:
        """Remove the entry of ``name``, if any."""
        self._entries.pop(name, None)

    def clear(self) -> None:
        """Forgive everyone (SIGURG)."""
        self._entries.clear()

    def wait(self, name: str, now: float) -> float:
        """Return for how many seconds ``name`` may not be started yet."""
        entry = self._entries.get(name)
        if entry is None:
            return 0.0
        # a clock set back must not lengthen the wait beyond the level
        return min(max(entry.last + entry.level - now, 0.0), entry.level)

    def items(self) -> list[tuple[str, Blame]]:
        """Return the entries, oldest first, for the statistics."""
        return list(self._entries.items())
