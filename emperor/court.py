"""All vassals of one Emperor, and what it remembers about them."""

from __future__ import annotations

import time

from donjon.emperor.logs import VassalLog
from donjon.emperor.roster import Vassal
from donjon.emperor.scanner import Found, Source
from donjon.emperor.throttle import Blacklist
from donjon.emperor.vassal import State
from donjon.records import dataclass, field

GOING = frozenset({State.STOPPING, State.RESTARTING, State.HALTING, State.DYING})


@dataclass(slots=True)
class Court:
    """The vassals by name."""

    blacklist: Blacklist
    log_directory: str | None = None
    vassals: dict[str, Vassal] = field(default_factory=dict)
    zergs: int = 0  # running number of the last reinforcement

    def admit(self, source: Source, found: Found, *, zerg: int = 0) -> Vassal:
        """Make the record of a new vassal."""
        vassal = Vassal(
            name=found.name,
            source=source,
            found=found,
            log=VassalLog(found.name, self.log_directory, time.monotonic),
            zerg=zerg,
        )
        self.vassals[found.name] = vassal
        return vassal

    def dismiss(self, vassal: Vassal) -> None:
        """Drop a record."""
        vassal.log.close()
        if self.vassals.get(vassal.name) is vassal:
            del self.vassals[vassal.name]

    def close(self) -> None:
        """Close the log files."""
        for vassal in self.vassals.values():
            vassal.log.close()

    @staticmethod
    def status_number(vassal: Vassal) -> int:
        """The original's number: 0 normal, 1 marked for death, 2 going back to on demand."""
        if vassal.state is State.RETIRING:
            return 2
        return int(vassal.state in GOING)
