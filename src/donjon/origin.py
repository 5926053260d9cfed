"""Where a value came from, so that every error can say it."""

from __future__ import annotations

from donjon.records import dataclass

_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that asked for something: a line of a file, the command line, the environment.

    ``source`` is a path as the user wrote it, or ``command line``, ``environment``, ``stdin``,
    ``default``. ``line`` counts from 1; 0 where there are no lines. ``option`` is the key.
    """

    source: str
    line: int = 0
    option: str = ""

    def __init__(self, source: str, line: int = 0, option: str = "") -> None:
        """Written out: there is one for each option of each file."""
        _set(self, "source", source)
        _set(self, "line", line)
        _set(self, "option", option)

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{place}: {self.option}" if self.option else place


DEFAULT = Origin("default")
