"""A place for configuration files, and a way to evaluate them there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from donjon.config.evaluate import evaluate
from donjon.config.evaluation import Evaluation
from donjon.config.world import Facts, OpenWorld, World


class Place:
    """A directory of configuration files. ``evaluate`` takes paths relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file; return its name."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    def evaluate(
        self,
        *argv: str,
        environ: Mapping[str, str] | None = None,
        world: World | None = None,
        reload: bool = False,
    ) -> Evaluation:
        """Evaluate a command line in this directory."""
        environ = environ or {}
        world = world or OpenWorld(facts=Facts(cwd=str(self.path)), environ=environ)
        return evaluate(argv, environ=environ, world=world, reload=reload)

    def ini(
        self, text: str, *argv: str, environ: Mapping[str, str] | None = None, reload: bool = False
    ) -> Evaluation:
        """Evaluate the text of an ini file."""
        self.write("c.ini", text)
        return self.evaluate("--ini", "c.ini", *argv, environ=environ, reload=reload)

    def env(
        self, text: str, *argv: str, environ: Mapping[str, str] | None = None
    ) -> list[str | None]:
        """Return the values of ``env`` of an ini text without its ``[uwsgi]`` line."""
        return list(self.ini("[uwsgi]\n" + text, *argv, environ=environ).values("env"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
