"""A row of the option table."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from donjon.origin import Origin
from donjon.records import dataclass

if TYPE_CHECKING:
    from donjon.config.builder import Builder

Parse = Callable[[str], Any]
"""Turns a value into what ``apply`` takes; raises ValueError with the reason in a few words."""

Apply = Callable[["Builder", Any, Origin], None]


class Takes(enum.Enum):
    """Whether a value follows on the command line (getopt_long(3)'s has_arg)."""

    NOTHING = "nothing"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: its names, how a value is read, and what it does to the Launch being built.

    ``apply`` is None for an option of the original that donjon does not build yet: it is reported
    by name, never taken for a placeholder. ``harmless`` says that the same runs without it: such
    an option is a warning, any other an error. ``immediate`` options act while the configuration
    is read (loaders, logic, placeholders) and belong to ``config.expand``. ``operator`` keys are
    refused in a customer's file. ``example`` is a value that must parse.
    """

    name: str
    help: str
    area: str
    takes: Takes = Takes.REQUIRED
    aliases: tuple[str, ...] = ()
    short: str = ""
    metavar: str = ""
    parse: Parse = str
    apply: Apply | None = None
    immediate: bool = False
    repeats: bool = False
    operator: bool = False
    harmless: bool = False
    ours: bool = False  # not an option of the original
    example: str = ""

    @property
    def built(self) -> bool:
        """Whether donjon does what the option says."""
        return self.immediate or self.apply is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The name, then the aliases."""
        return (self.name, *self.aliases)
