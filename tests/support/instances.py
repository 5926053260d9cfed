"""Instances that serve nothing but a TunTap router or a device of one: ours and the original's."""

import os
import select
import signal
import subprocess
import sys
import time

from patience import patient

DONJON = [sys.executable, "-m", "donjon"]
UWSGI = ["uwsgi", "--plugin", "tuntap"]


def awaited(look, seconds=20.0):
    """The first true value of ``look``, or its last one when time is over."""
    end = time.monotonic() + patient(seconds)
    while not (seen := look()) and time.monotonic() < end:
        select.select([], [], [], 0.01)
    return seen


def begin(stack, space, program, log, *words):
    """Start an instance that does what ``words`` say and writes to ``log``; it ends with ``stack``."""
    common = ["--master", "--socket", "127.0.0.1:0", "--uid", "65534", "--gid", "65534"]
    with log.open("w") as out:
        child = subprocess.Popen(
            space.command(*program, *common, *words),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )

    def end():
        child.send_signal(signal.SIGQUIT)
        try:
            child.wait(patient(10))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    stack.callback(end)
    return child


def reaches(space, address):
    """Whether an address answers out of a namespace."""
    words = space.command("ping", "-c", "1", "-W", "1", address)
    return not subprocess.run(words, capture_output=True, check=False).returncode


def pings(space, address, within=20.0):
    """Whether it does sooner or later."""
    return awaited(lambda: reaches(space, address), within)
