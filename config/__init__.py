"""Configuration: from files, command line and environment to one frozen Launch.

``reader`` parses formats, ``expand`` resolves placeholders and logic, ``options`` is the table of
every option, ``launch`` builds the typed values that the packages below take.
"""

from __future__ import annotations

__all__ = ["preload"]


def preload() -> None:
    """Import what is otherwise imported at first use (YAML, XML, HTTP), and build the option
    index.

    A process that forks and evaluates in its children calls it before.
    """
    from donjon.config import formats, options, schemes  # noqa: PLC0415  (heavy; only who preloads pays)

    formats.preload()
    schemes.preload()
    options.find("ini")
    options.find_short("M")
