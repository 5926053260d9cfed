"""The fixture ``vm``: a booted guest of a named flavour, shared by the tests that may share one.

``@pytest.mark.flavours("uml-6.1", ...)`` says where a test runs; ``--flavour NAME`` runs only those. A flavour
that cannot be had here is skipped with the reason; where DONJON_MUST_RUN names it, it fails.
Consoles are kept in .make/vm/FLAVOUR-N/console, what passed in .make/vm/results.jsonl.
"""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import TREE, flavours, guests, images, kernels

FLAVOURS = flavours.load()
MUST_RUN = frozenset(os.environ.get("DONJON_MUST_RUN", "").split(","))
LOGS = TREE / ".make/vm"
_number = itertools.count()


class Machines:
    """Boots guests; keeps one of them for the next test of the same flavour."""

    def __init__(self) -> None:
        self._kept: guests.Guest | None = None
        self._absent: dict[str, str] = {}

    def boot(self, name: str, data: Path | None = None) -> guests.Guest:
        """Start a guest of flavour ``name``; it is the caller's to ``cut``."""
        flavour = FLAVOURS[name]
        place = LOGS / f"{name}-{next(_number)}"
        place.mkdir(parents=True)
        self._can(flavour)
        try:
            return guests.Guest(flavour, place, data)
        except guests.HungError:
            if flavour.kernel.backend != "qemu":
                raise
            with (place / "console").open("a") as console:
                console.write("\n--- an emulator may fail to start a kernel: once more ---\n")
            return guests.Guest(flavour, place, data)

    def shared(self, name: str) -> guests.Guest:
        """Return the kept guest when it is of this flavour and lives, else a new one."""
        kept = self._kept
        if kept is None or kept.flavour.name != name or kept.process.poll() is not None:
            self.end()
            self._kept = self.boot(name)
        assert self._kept is not None
        return self._kept

    def end(self) -> None:
        """End the guest that is kept."""
        if self._kept is not None:
            self._kept.cut()
        self._kept = None

    def _can(self, flavour: flavours.Flavour) -> None:
        """Skip, or fail, where the flavour cannot be had."""
        if flavour.name not in self._absent:
            self._absent[flavour.name] = _lack(flavour)
        reason = self._absent[flavour.name]
        if reason and flavour.name in MUST_RUN:
            pytest.fail(f"DONJON_MUST_RUN names {flavour.name}: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"{flavour.name}: {reason}")


def _lack(flavour: flavours.Flavour) -> str:
    if os.geteuid() != 0:
        return "images are made by root"
    if flavour.kernel.backend == "qemu" and shutil.which("qemu-system-x86_64") is None:
        return "no qemu-system-x86_64 (Debian: qemu-system-x86)"
    try:
        kernels.obtain(flavour.kernel)
        images.root()
    except (kernels.KernelError, images.ImageError) as error:
        return str(error)
    return ""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--flavour", action="append", help="run only this flavour (repeatable)")
    parser.addoption("--deep", action="store_true", help="also what takes many minutes")
    parser.addoption("--cuts", type=int, default=4, help="power cuts to make")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "flavours(*names): the guests in which a test runs")
    config.addinivalue_line("markers", "deep: takes many minutes, runs with --deep only")
    shutil.rmtree(LOGS, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("flavours")
    if mark is None:
        return
    only = metafunc.config.getoption("flavour")
    names = [name for name in mark.args if not only or name in only]
    metafunc.parametrize("flavour", names)


def _is_out(item: pytest.Item, *, deep: bool) -> bool:
    """Whether a test is too deep for this run, or for none of its flavours."""
    if item.get_closest_marker("deep") and not deep:
        return True
    call = getattr(item, "callspec", None)
    return item.get_closest_marker("flavours") is not None and (
        call is None or call.params.get("flavour") not in FLAVOURS
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests of one flavour beside each other, for each is booted once."""
    out = [item for item in items if _is_out(item, deep=config.getoption("deep"))]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]

    def order(item: pytest.Item) -> int:
        call = getattr(item, "callspec", None)
        name = call.params.get("flavour") if call else None
        return list(FLAVOURS).index(name) if name in FLAVOURS else -1

    items.sort(key=order)


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """Boots guests; a test that cuts a guest's power takes its own from here."""
    own = Machines()
    yield own
    own.end()


@pytest.fixture
def vm(machines: Machines, flavour: str) -> Iterator[guests.Guest]:
    """A guest that other tests of its flavour use too; its kernel must be whole afterwards."""
    guest = machines.shared(flavour)
    seen = len(guest.crashes())
    yield guest
    assert guest.crashes()[seen:] == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    if call.when == "call" or (call.when == "setup" and report.outcome != "passed"):
        params = getattr(item, "callspec", None)
        LOGS.mkdir(parents=True, exist_ok=True)
        result = {
            "flavour": params.params.get("flavour", "") if params else "",
            "suite": item.path.stem.removeprefix("test_"),
            "test": item.name,
            "outcome": report.outcome,
            "seconds": round(call.duration, 1),
            "inside": dict(item.user_properties).get("inside", ""),
        }
        with (LOGS / "results.jsonl").open("a") as results:
            results.write(json.dumps(result) + "\n")
        if report.failed and params and "vm" in getattr(item, "funcargs", {}):
            guest = item.funcargs["vm"]
            report.sections.append((f"console, whole in {guest.console}", guest.tail()))
    return report
