"""What guests leave on the host, and what of it is kept between runs."""

import os
import select
import subprocess
import sys

import machine
import pytest
from machine import guests

START = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True).wait()"


@pytest.mark.skipif(os.geteuid() != 0, reason="guests are started by root")
def test_all_processes_of_a_guest_end_with_who_started_it():
    many = ["sh", "-c", "sleep 300 & echo ready; exec sleep 300"]
    words = [sys.executable, "-c", START, *guests.BOUND, *many]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as starter:
        assert starter.stdout.readline() == b"ready\n"
        starter.kill()
        assert select.select([starter.stdout], [], [], 20)[0], "somebody still has our end"
        assert starter.stdout.read() == b""


def test_what_a_killed_maker_left_is_removed_by_the_next_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("DONJON_TEST_CACHE", str(tmp_path))
    for name in ("making-root-dead", "making-kernel-alive"):
        (tmp_path / name / "root").mkdir(parents=True)
    with machine.workshop("root") as place:
        assert sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir()) == [
            "making-kernel",
            "making-root",
        ]
        assert place.startswith(f"{tmp_path}/making-root-")
    assert [path.name for path in tmp_path.iterdir()] == ["making-kernel-alive"]
