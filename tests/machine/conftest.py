"""A host whose vassals have groups of their own, and a test process that the kernel spares."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosting import DONJON, Host

from donjon.jail import cgroup_layout

_number = itertools.count()
MORTAL = ["choom", "-n", "0", "--", *DONJON]
"""An Emperor whom the kernel may kill, whoever starts it."""


@pytest.fixture
def base() -> Iterator[str]:
    """The directory for the groups of one test; all must be gone after it."""
    name = f"donjon-machine-{os.getpid()}-{next(_number)}"
    yield name
    layout = cgroup_layout.look()
    places = {layout.unified, *layout.old.values()} - {None}
    assert [place for place in places if Path(str(place), name).exists()] == []


@pytest.fixture
def host(base: str) -> Iterator[Host]:
    """A host whose Emperor is as mortal as any other process; we are not."""
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text()
    with contextlib.suppress(PermissionError):  # then we are as mortal as the others
        score.write_text("-1000")
    one = Host(Path(f"/tmp/{base}"))
    start = one.start
    one.start = lambda lines="", program=None: start(lines, program or MORTAL)  # type: ignore[method-assign]
    yield one
    one.close()
    with contextlib.suppress(PermissionError):
        score.write_text(before)
