"""``blacklist`` and ``whitelist``: the options that may not come, or the only ones that may.

A list holds for all that follows, included files too, until it is ended. What one file began no
other file can end or loosen: another file's list is added to it, and its ``end-`` is an error. So
an operator can put a wall around the include of a customer's file. Aliases of an option count as
the option.
"""

from __future__ import annotations

from donjon.config import options
from donjon.errors import ConfigError
from donjon.origin import Origin
from donjon.records import dataclass, replace

Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Walls:
    """The lists that hold, and which source began each; None where there is none."""

    forbidden: Names | None = None
    forbidden_by: str = ""
    allowed: Names | None = None
    allowed_by: str = ""

    def check(self, key: str, origin: Origin) -> None:
        """Raise ConfigError for an option that may not come."""
        if self.forbidden is not None and _canonical(key) in self.forbidden:
            raise ConfigError(f"forbidden option {key}", origin=origin, reason="by blacklist")
        if self.allowed is not None and _canonical(key) not in self.allowed:
            raise ConfigError(f"forbidden option {key}", origin=origin, reason="by whitelist")

    def forbid(self, words: str, source: str) -> Walls:
        """Return the walls with a blacklist of these words."""
        names = frozenset(_canonical(word) for word in words.split())
        if self.forbidden is None or self.forbidden_by == source:
            return replace(self, forbidden=names, forbidden_by=source)
        return replace(self, forbidden=self.forbidden | names)

    def allow(self, words: str, source: str) -> Walls:
        """Return the walls with a whitelist of these words."""
        names = frozenset(_canonical(word) for word in words.split())
        if self.allowed is None or self.allowed_by == source:
            return replace(self, allowed=names, allowed_by=source)
        return replace(self, allowed=self.allowed & names)

    def end_forbid(self, source: str) -> Walls:
        """Return the walls without the blacklist."""
        _check_owner(self.forbidden, self.forbidden_by, source)
        return replace(self, forbidden=None, forbidden_by="")

    def end_allow(self, source: str) -> Walls:
        """Return the walls without the whitelist."""
        _check_owner(self.allowed, self.allowed_by, source)
        return replace(self, allowed=None, allowed_by="")


NONE = Walls()


def _check_owner(names: Names | None, owner: str, source: str) -> None:
    if names is not None and owner != source:
        raise ConfigError(f"a list that {owner} began ends there")


def _canonical(key: str) -> str:
    row = options.find(key)
    return row.name if row is not None else key
