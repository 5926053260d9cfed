"""What every test gets: a decision about what this machine can do, and a check that nothing is left behind."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from freebsd_kernel import Kernel
from patience import FACTOR

from donjon.syscalls import freebsd as calls

MUST_RUN = frozenset(filter(None, os.environ.get("DONJON_MUST_RUN", "").split(",")))


def _lacks(marker: str) -> str:
    """Why this machine cannot run tests with ``marker``; empty when it can."""
    checks = {
        "root": (lambda: os.geteuid() == 0, "needs uid 0"),
        "userns": (lambda: os.path.exists("/proc/self/ns/user"), "needs user namespaces"),
        "cgroup1": (
            lambda: os.access("/sys/fs/cgroup/memory/tasks", os.W_OK),
            "needs writable cgroup v1 controllers",
        ),
        "cgroup2": (
            lambda: any(
                os.access(f"{root}/cgroup.procs", os.W_OK)
                for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
            ),
            "needs a writable cgroup v2 hierarchy",
        ),
        "machine": (
            lambda: os.environ.get("DONJON_MACHINE") == "1",
            "does to a machine what only one of vm-tests may be done to",
        ),
        "uwsgi": (lambda: shutil.which("uwsgi") is not None, "needs the original uwsgi"),
        "wrk": (lambda: shutil.which("wrk") is not None, "needs wrk"),
    }
    if marker not in checks:
        return ""
    can, reason = checks[marker]
    return "" if can() else reason


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test the time that this machine needs for it."""
    usual = config.getini("timeout")
    for item in items if FACTOR != 1 else ():
        mark = item.get_closest_marker("timeout")
        seconds = mark.args[0] if mark else float(usual)
        item.add_marker(pytest.mark.timeout(seconds * FACTOR), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine cannot do; fail instead where DONJON_MUST_RUN names it."""
    for mark in item.iter_markers():
        reason = _lacks(mark.name)
        if not reason:
            continue
        if mark.name in MUST_RUN:
            pytest.fail(f"DONJON_MUST_RUN names {mark.name}: {reason}", pytrace=False)
        pytest.skip(reason)


def _descriptors() -> set[str]:
    held = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            held.add(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # the descriptor of the listing itself
    return held


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except OSError:
            continue  # a thread that ended
    return found


def _mounts() -> set[str]:
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def _held() -> dict[str, set[str]]:
    return {
        "descriptors": _descriptors(),
        "children": {str(pid) for pid in _children()},
        "mounts": _mounts(),
    }


def _left(before: dict[str, set[str]]) -> dict[str, list[str]]:
    left = {
        what: sorted(item for item in now - before[what] if "/.hypothesis/" not in item)
        for what, now in _held().items()
    }
    return {what: items for what, items in left.items() if items}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a descriptor, a child process or a mount behind."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before = _held()
    yield
    if _left(before):
        gc.collect()  # what an unreachable cycle holds is not left behind
    assert _left(before) == {}


@pytest.fixture
def freebsd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """Be on FreeBSD: its calls are those of a library that follows its kernel's rules."""
    place = tmp_path / "freebsd"
    place.mkdir()
    kernel = Kernel(place)
    monkeypatch.setenv("FBJ_RECORD", str(kernel.record))
    calls.use(kernel.library)
    yield kernel
    calls.use(None)
