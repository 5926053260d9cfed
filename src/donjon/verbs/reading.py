"""Evaluating a file to look at it: nothing is done, and commands run only when allowed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from donjon.config.evaluate import evaluate
from donjon.config.evaluation import Evaluation
from donjon.config.world import FileWorld, OpenWorld


def add_world(to: argparse.ArgumentParser) -> None:
    """Add the options that say how a file is evaluated."""
    to.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set an option or a placeholder first, as an Emperor does; may be repeated",
    )
    to.add_argument(
        "--open",
        action="store_true",
        help="let the file run commands (exec://), fetch (http://) and read standard input",
    )


def read(file: str, chosen: argparse.Namespace) -> Evaluation:
    """Return the file's evaluation. Raises ConfigError, OutsideAccess without ``--open``."""
    flags: Sequence[str] = [f"--set={each}" for each in chosen.set]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("UWSGI_")}
    world = OpenWorld(environ=environ) if chosen.open else FileWorld(environ=environ)
    return evaluate([*flags, "--", file], environ=environ, world=world)
