"""The loop calls who was registered when it happened, and nobody else."""

import os

import pytest

from donjon.fork_pty.loop import READ, Loop


@pytest.fixture
def loop():
    found = Loop()
    yield found
    found.close()


def test_an_event_is_not_given_to_a_later_owner_of_its_number(loop):
    ends = [os.pipe() for _ in range(2)]
    replaced = []

    def replace(other):
        """Of two that are ready, who comes first takes the other's number."""
        if not replaced:
            loop.forget(other)
            reader, writer = os.pipe()
            os.dup2(reader, other)
            os.close(reader)
            replaced.extend((other, writer))
            loop.watch(other, READ, lambda _events: pytest.fail("nothing came here"))
        loop.stop()

    (first, _), (second, _) = ends
    loop.watch(first, READ, lambda _events: replace(second))
    loop.watch(second, READ, lambda _events: replace(first))
    for _, writer in ends:
        os.write(writer, b"x")
    loop.run()
    assert replaced
    loop.forget(first)
    loop.forget(second)
    for fd in (*ends[0], *ends[1], replaced[1]):
        os.close(fd)


def test_timers_that_are_cancelled_are_not_kept_until_they_are_due(loop):
    fired = []
    loop.after(0.0, lambda: fired.append("first"))
    for _ in range(100_000):
        loop.after(30.0, loop.stop).cancel()
    loop.after(0.01, lambda: (fired.append("second"), loop.stop()))
    assert len(loop._timers) < 5000
    loop.run()
    assert fired == ["first", "second"]
