# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""``refork`` and its kin: go on as a child, which is the first process of a new pid namespace."""

from __future__ import annotations

import os
import signal

from donjon import syscalls
from donjon.jail import init
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refork(Builtin):
    """Fork, and go on in the child. The parent waits, hands signals on and ends as it does.

    Signals are blocked over the fork, so that one which arrives in between is not taken by the
    parent's handlers. The child dies with its parent: the pid that the Emperor knows is the
    parent's.
    """

    def describe(self) -> str:
        return "fork and go on as the child"

    def execute(self, context: Context) -> None:
        syscalls.fault("fork")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        child = os.fork()
        if child:
            init.stand_in(child)
        syscalls.set_pdeathsig(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
