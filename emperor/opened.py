"""Worlds for an evaluation in which the vassal's own file is the bytes that the Emperor opened.

What was checked is what is read, even if the file changes meanwhile, and even where the
vassal's user may not enter the directory it lies in.
"""

from __future__ import annotations

from donjon.config.world import FileWorld, OpenWorld
from donjon.records import dataclass


@dataclass(frozen=True, slots=True)
class OpenedFileWorld(FileWorld):
    """Inside the Emperor: other files may be looked at, nothing is run or waited for."""

    own_path: str = ""
    own: bytes = b""

    def read(self, path: str) -> bytes:
        """Return the opened bytes, or those of another file."""
        if self.path(path) == self.own_path:
            return self.own
        return FileWorld.read(self, path)


@dataclass(frozen=True, slots=True)
class OpenedOpenWorld(OpenWorld):
    """In an evaluator with the vassal's rights: whatever those allow."""

    own_path: str = ""
    own: bytes = b""

    def read(self, path: str) -> bytes:
        """Return the opened bytes, or those of another file."""
        if self.path(path) == self.own_path:
            return self.own
        return OpenWorld.read(self, path)
