"""What tests of jails share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jailer import Jailer

from donjon import syscalls


@pytest.fixture
def jail() -> Iterator[Jailer]:
    """Run a plan in a child: ``jail(spec, look, born_in=FIVE)`` gives what ``look()`` returns inside."""
    yield Jailer()
    syscalls.inject_clear()


@pytest.fixture
def host_unchanged() -> Iterator[None]:
    """Fail a test after which the host has other mounts, another name or other cgroups."""
    before = _host()
    yield
    assert _host() == before


def _host() -> tuple[object, ...]:
    groups = sorted(str(path) for path in Path("/sys/fs/cgroup").glob("*/donjon-jail*"))
    return Path("/proc/self/mountinfo").read_text(), os.uname().nodename, groups
