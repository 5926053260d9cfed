"""One option as given: key, value, and where it was written."""

from __future__ import annotations

from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Entry:
    """``key = value``. ``value`` is None where a flag was given without one (``--master``)."""

    key: str
    value: str | None
    origin: Origin = DEFAULT

    def __init__(self, key: str, value: str | None, origin: Origin = DEFAULT) -> None:
        """Written out: of no other value are there so many."""
        _set(self, "key", key)
        _set(self, "value", value)
        _set(self, "origin", origin)
