"""A rehearsal leaves no trace, and what follows it works."""

import os
import signal
import sys

from donjon.server import rehearsal
from donjon.server.loop import HANDLED


def test_a_rehearsal_leaves_no_trace(capfd):
    before = (
        sorted(os.listdir("/proc/self/fd")), [signal.getsignal(number) for number in HANDLED],
        list(sys.argv), list(sys.path), "uwsgi" in sys.modules,
    )  # fmt: skip
    rehearsal.rehearse(3)
    after = (
        sorted(os.listdir("/proc/self/fd")), [signal.getsignal(number) for number in HANDLED],
        list(sys.argv), list(sys.path), "uwsgi" in sys.modules,
    )  # fmt: skip
    assert before == after
    assert capfd.readouterr() == ("", "")


def test_a_rehearsal_answers_its_request(monkeypatch):
    answers = []
    monkeypatch.setattr(rehearsal, "_check", answers.append)
    rehearsal.rehearse(2)
    assert len(answers) == 2
    assert all(answer.startswith(b"HTTP/1.0 200 OK\r\n") for answer in answers)
