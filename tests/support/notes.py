"""Numbers that a test measured in a machine of vm-tests, for the table of docs/testing.md."""

import os
from pathlib import Path


def note(text: str) -> None:
    """Hand a line over to who started the tests, where he asks for such."""
    if path := os.environ.get("DONJON_MACHINE_NOTES"):
        with Path(path).open("a") as file:
            file.write(f"{text}\n")
