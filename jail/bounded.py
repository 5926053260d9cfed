"""Questions to file systems that may never answer: a child asks, and is waited for so long.

A stat(2) of a FUSE file system whose server hangs sleeps until the server answers, and once the
server has read the question not even SIGKILL ends that sleep. So nobody waits for the child after
its time: it is killed, and reaped whenever it ends by who reaps strangers (``init``).
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from donjon import syscalls
from donjon.errors import reason_of
from donjon.fd import Fd

_LONGEST = 4096  # bytes of an answer: what a pipe takes in one piece
_POLL = 1000  # milliseconds in a second


def ask(question: Callable[[], str], seconds: float) -> str | None:
    """Return what ``question`` returns, in a child; None if there is no answer in time.

    An OSError of the question is answered with its reason. Raises OSError where there can be no
    child.
    """
    reader, writer = (Fd(number) for number in os.pipe2(os.O_CLOEXEC))
    with reader, writer:
        pid, number = syscalls.clone3(0)
        if pid == 0:
            _answer(question, writer)
        writer.close()
        with Fd(number) as child:
            heard = select.poll()
            heard.register(reader.fileno(), select.POLLIN)
            in_time = bool(heard.poll(seconds * _POLL))
            answer = os.read(reader.fileno(), _LONGEST) if in_time else b""
            syscalls.pidfd_send_signal(child.fileno(), signal.SIGKILL)
            if in_time:
                os.waitid(os.P_PIDFD, child.fileno(), os.WEXITED)
            else:
                _reap_if_dead(child)
    return answer.decode("utf-8", "replace") if in_time else None


def _answer(question: Callable[[], str], writer: Fd) -> None:
    try:
        syscalls.set_pdeathsig(signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        try:
            text = question()
        except OSError as error:
            text = reason_of(error)
        os.write(writer.fileno(), text.encode("utf-8", "replace")[:_LONGEST])
    finally:
        os._exit(0)


def _reap_if_dead(child: Fd) -> None:
    """Give a killed child a moment; one that cannot die is left to who reaps strangers."""
    ended = select.poll()
    ended.register(child.fileno(), select.POLLIN)
    if ended.poll(_POLL / 10):
        os.waitid(os.P_PIDFD, child.fileno(), os.WEXITED)
