# ruff: noqa: D102  (what describe and execute are is said by Step)
"""Foreign programs in this process's place (spec BIN): pid, jail and sockets stay.

Python ignores SIGPIPE and SIGXFSZ, and an executed program inherits what is ignored and blocked;
so the usual dispositions are put back. Only the descriptors of ``Context.inherit`` stay open.
"""

from __future__ import annotations

import os
import signal

from donjon import syscalls
from donjon.jail import descriptors
from donjon.jail.spec import Exec
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(Builtin):
    """execvp(3): ``program`` with our arguments, or a line for the shell.

    Returns only by raising.
    """

    program: Exec

    def describe(self) -> str:
        kind = "a shell for" if self.program.shell else "the program"
        return f"become {kind} {self.program.command}"

    def execute(self, context: Context) -> None:
        command = self.program.command
        if self.program.shell:
            name, argv = SHELL, [SHELL, "-c", command]
        else:
            name, argv = command, [command, *context.argv[1:]]
        for number in context.inherit:
            os.set_inheritable(number, True)  # noqa: FBT003  (its signature)
            os.set_blocking(number, True)
        descriptors.seal(context.inherit, on_exec=True)
        _usual_signals()
        syscalls.fault("execve")
        os.execvp(name, argv)


def _usual_signals() -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
