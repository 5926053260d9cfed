"""What the janitor kills: those in a group, and nobody who was there a moment ago."""

import os
import signal
import subprocess

import pytest

from donjon.emperor import janitor


@pytest.fixture
def sleepers():
    """Two processes: one in the group at first, one for as long as it lives."""
    running = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield running
    for each in running:
        each.kill()
        each.wait()


def test_a_stranger_who_got_the_number_of_a_member_is_left_alone(sleepers, monkeypatch):
    stranger, member = sleepers
    looks = iter(([stranger.pid, member.pid], [member.pid]))
    monkeypatch.setattr(janitor.live, "pids_of", lambda _path: next(looks, [member.pid]))
    pidfds = janitor.extinguish("/a/group")
    for pidfd in pidfds:
        os.close(pidfd)
    assert len(pidfds) == 1
    assert member.wait() == -signal.SIGKILL
    assert os.waitpid(stranger.pid, os.WNOHANG | os.WUNTRACED) == (0, 0)
