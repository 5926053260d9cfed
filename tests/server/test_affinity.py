"""``cpu-affinity``: which processors each worker is bound to."""

import os

import pytest
from serving import Instance, children, wait_for

from donjon.server import affinity


@pytest.mark.parametrize(
    ("slot", "count", "expected"),
    [
        (1, 1, [0]), (2, 1, [1]), (4, 1, [3]), (5, 1, [0]),
        (1, 2, [0, 1]), (2, 2, [2, 3]), (3, 2, [0, 1]),
        (2, 3, [3, 0, 1]), (1, 9, [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_workers_take_processors_in_turn(slot, count, expected):
    assert affinity.share(slot, count, [0, 1, 2, 3]) == expected


def test_only_processors_that_are_allowed_are_counted():
    assert affinity.share(2, 1, [4, 7]) == [7]


@pytest.fixture
def instance(tmp_path):
    made = Instance(tmp_path)
    yield made
    made.clean()


def test_each_worker_is_bound_as_the_log_says(instance):
    allowed = sorted(os.sched_getaffinity(0))
    instance.start(processes=2, cpu_affinity=1)
    lines = [
        f"mapping worker {slot} to CPUs: {' '.join(map(str, affinity.share(slot, 1, allowed)))}"
        for slot in (1, 2)
    ]
    wait_for(lambda: all(line in instance.text() for line in lines), "both workers")
    bound = sorted(tuple(os.sched_getaffinity(pid)) for pid in children(instance.pid))
    assert bound == sorted(tuple(affinity.share(slot, 1, allowed)) for slot in (1, 2))
    assert sorted(os.sched_getaffinity(instance.pid)) == allowed


def test_without_it_no_worker_is_bound(instance):
    instance.start(processes=2)
    instance.answer()
    assert "mapping worker" not in instance.text()
