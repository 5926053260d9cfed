"""Merging of equal pages, by the kernel itself; what ksmd was set to is restored."""

import errno
import mmap
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import patient

from donjon import syscalls
from donjon.jail import ksm

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(ksm.status() is None, reason="a kernel without CONFIG_KSM"),
]
SIZE = 8 << 20
KNOBS = ("pages_to_scan", "sleep_millisecs", "smart_scan", "advisor_mode", "run")


def wait_for(condition, seconds=30):
    end = time.monotonic() + patient(seconds)
    while time.monotonic() < end:
        if value := condition():
            return value
        select.select([], [], [], 0.05)
    raise AssertionError("it did not come")


@pytest.fixture
def ksmd():
    """Let ksmd scan fast; afterwards it is as it was, and what it merged is separate again."""
    before = {}
    for knob in KNOBS:
        path = Path(ksm.CONTROL, knob)
        if path.exists():
            text = path.read_text().strip()
            before[knob] = text[text.index("[") + 1 : text.index("]")] if "[" in text else text
    values = {"advisor_mode": "none", "pages_to_scan": "4000", "sleep_millisecs": "2",
              "smart_scan": "0", "run": "1"}  # fmt: skip
    for knob, value in values.items():
        if knob in before:
            Path(ksm.CONTROL, knob).write_text(value)
    yield
    if before["run"] == "0":
        Path(ksm.CONTROL, "run").write_text("2")  # unmerge all
    for knob in reversed(KNOBS):
        if knob in before:
            Path(ksm.CONTROL, knob).write_text(before[knob])


PEOPLE = """
import mmap, random, signal, sys
from donjon.jail import ksm
dice = random.Random(7)
memory = mmap.mmap(-1, {size}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
page = dice.randbytes(4096)
for at in range(0, {size}, 4096):
    memory[at:at + 4096] = dice.randbytes(8) + page[8:]
{how}
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def people():
    """Start processes that hold the same pages; they end with the test."""
    started = []

    def start(how):
        one = subprocess.Popen(
            [sys.executable, "-c", PEOPLE.format(size=SIZE, how=how)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(one)
        assert one.stdout.readline() == "ready\n"
        return one.pid

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["assert ksm.merge_all()", "assert ksm.Merger().scan() > 0"])
def test_ksm05_equal_pages_of_two_processes_are_merged(ksmd, people, how):
    before = ksm.status()
    pids = [people(how) for _ in range(2)]
    wait_for(lambda: ksm.merged(pids) >= 2 * SIZE * 0.9)
    now = ksm.status()
    assert now.pages_sharing - before.pages_sharing >= SIZE // ksm.PAGE * 0.9
    assert now.pages_shared > before.pages_shared
    assert now.saved == now.pages_sharing * ksm.PAGE


@pytest.mark.slow
def test_pages_of_who_did_not_allow_it_are_left_alone(ksmd, people):
    pids = [people("assert ksm.merge_all()") for _ in range(2)]
    other = people("pass")
    wait_for(lambda: ksm.merged(pids) >= 2 * SIZE * 0.9)
    assert ksm.merged([other]) == 0


def still(merger):
    """Scan until nothing is new: reading and remembering may grow the heap."""
    wait_for(lambda: merger.scan() == 0 and merger.scan() == 0)


def test_ksm03_nothing_is_advised_where_nothing_changed():
    merger = ksm.Merger()
    still(merger)
    syscalls.inject("madvise", errno.EPERM, times=-1)
    try:
        assert merger.scan() == 0
        memory = mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with pytest.raises(PermissionError):
            merger.scan()
        memory.close()
    finally:
        syscalls.inject_clear()


def test_a_mapping_that_is_gone_meanwhile_is_not_missed():
    syscalls.inject("madvise", errno.ENOMEM, times=-1)
    try:
        assert ksm.Merger().scan() > 0
    finally:
        syscalls.inject_clear()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOSYS])
def test_a_kernel_without_the_one_word_is_told_apart(number):
    syscalls.inject("set_memory_merge", number)
    assert not ksm.merge_all()


def test_ksm06_the_line_for_collectd_is_that_of_the_manual():
    status = ksm.Status(1, 5, 100, -7)
    assert status.collectd("web1") == f"PUTVAL web1/ksm/gauge-saved interval=60 N:{100 * ksm.PAGE}"


def test_a_kernel_that_cannot_merge_has_no_status(tmp_path):
    assert ksm.status(str(tmp_path)) is None


def test_only_merging_can_be_advised():
    with pytest.raises(ValueError, match="only MADV_MERGEABLE"):
        syscalls.madvise(0, 0, mmap.MADV_DONTNEED)
