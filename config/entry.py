"""One option as given: key, value, and where it was written."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.origin import DEFAULT, Origin


@dataclass(frozen=True, slots=True)
class Entry:
    """``key = value``. ``value`` is None where a flag was given without one (``--master``)."""

    key: str
    value: str | None
    origin: Origin = DEFAULT
