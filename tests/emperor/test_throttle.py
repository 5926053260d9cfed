"""Back-off: per vassal, exponential, bounded."""

from hypothesis import given
from hypothesis import strategies as st

from donjon.emperor.throttle import Blacklist


def blacklist(**words):
    return Blacklist(**{"throttle_ms": 1000, "max_throttle_ms": 180_000, **words})


def waits(count, **words):
    entries = blacklist(**words)
    levels = []
    for second in range(count):
        levels.append(entries.blame("bad", 100.0 + second).level)
    return levels


def test_the_first_failure_costs_a_thousandth_then_the_wait_doubles():
    assert waits(6) == [0.001, 1.0, 2.0, 4.0, 8.0, 16.0]


def test_the_wait_never_exceeds_the_maximum():
    assert waits(40)[-1] == 180.0
    assert max(waits(40, max_throttle_ms=5000)) == 5.0


def test_an_innocent_neighbour_does_not_wait():
    entries = blacklist()
    for _ in range(10):
        entries.blame("bad", 100.0)
    assert entries.wait("bad", 100.0) > 100.0
    assert entries.wait("good", 100.0) == 0.0


def test_loyalty_and_the_operator_forgive():
    entries = blacklist()
    entries.blame("a", 1.0)
    entries.blame("b", 1.0)
    entries.forgive("a")
    assert [name for name, _entry in entries.items()] == ["b"]
    entries.clear()
    assert entries.items() == []


def test_no_blacklist_adds_nobody():
    entries = blacklist(disabled=True)
    assert entries.blame("a", 1.0) is None
    assert entries.wait("a", 1.0) == 0.0


@given(
    failures=st.lists(st.floats(0, 1e10), min_size=1, max_size=50),
    now=st.floats(-1e10, 1e10),
)
def test_a_clock_that_jumps_never_makes_the_wait_longer_than_the_level(failures, now):
    entries = blacklist()
    for moment in failures:
        entry = entries.blame("a", moment)
    assert 0.0 <= entries.wait("a", now) <= entry.level <= 180.0
