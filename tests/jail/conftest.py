"""What tests of jails share."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jailer import NEW_CALLS, Jailer

from donjon import syscalls
from donjon.jail import oldmounts


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


@pytest.fixture
def only_mount2() -> Iterator[None]:
    """Be on a kernel without the calls by descriptor, jails of this test too."""
    for name in NEW_CALLS:
        syscalls.inject(name, errno.ENOSYS, times=-1)
    oldmounts.lacking.cache_clear()
    yield
    syscalls.inject_clear()
    oldmounts.lacking.cache_clear()


@pytest.fixture(params=["by descriptor", "by mount(2)"])
def way(request):
    """Both ways in which mounts are made."""
    if request.param == "by mount(2)":
        request.getfixturevalue("only_mount2")
    return request.param
