"""Fixtures for the attacks."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hosting
import pytest

_number = itertools.count()


@pytest.fixture
def new_host() -> Iterator[Callable[[], hosting.Host]]:
    """Make hosts; each is ended and removed after the test."""
    made: list[hosting.Host] = []

    def make() -> hosting.Host:
        made.append(hosting.Host(Path(f"/tmp/donjon-attack-{os.getpid()}-{next(_number)}")))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def host(new_host) -> hosting.Host:
    """One host."""
    return new_host()
