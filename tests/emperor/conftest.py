"""A small Emperor, or one with real vassals, for each test that asks for one."""

import itertools
import os
from pathlib import Path

import pytest
from births import hosts
from empire import Emperor, alive, children, wait_for
from hosting import Host
from netlab import Lab
from patience import patient

from donjon.jail import cgroup_layout

_number = itertools.count()


@pytest.fixture
def emperor(tmp_path):
    tmp_path.chmod(0o755)
    one = Emperor(tmp_path)
    yield one
    if one.process is not None and one.process.poll() is None:
        below = children(one.process.pid)
        one.process.kill()
        one.process.wait(patient(10))
        wait_for(lambda: not any(map(alive, below)), "end of everything")


@pytest.fixture(scope="module")
def lab():
    """A host and the world outside of it."""
    found = Lab()
    yield found
    found.close()


@pytest.fixture
def new_births():
    """Make hosts of real vassals; all are ended after the test."""
    with hosts() as make:
        yield make


@pytest.fixture
def base():
    """The directory for the groups of one test; all must be gone after it."""
    name = f"donjon-groups-{os.getpid()}-{next(_number)}"
    yield name
    layout = cgroup_layout.look()
    places = {layout.unified, *layout.old.values()} - {None}
    assert [place for place in places if Path(place, name).exists()] == []


@pytest.fixture
def host(base):
    """A host whose groups lie in ``base``."""
    one = Host(Path(f"/tmp/{base}"))
    yield one
    one.close()
