"""A small Emperor, or one with real vassals, for each test that asks for one."""

import pytest
from births import hosts
from empire import Emperor, alive, children, wait_for


@pytest.fixture
def emperor(tmp_path):
    tmp_path.chmod(0o755)
    one = Emperor(tmp_path)
    yield one
    if one.process is not None and one.process.poll() is None:
        below = children(one.process.pid)
        one.process.kill()
        one.process.wait(10)
        wait_for(lambda: not any(map(alive, below)), "end of everything")


@pytest.fixture
def new_births():
    """Make hosts of real vassals; all are ended after the test."""
    with hosts() as make:
        yield make
