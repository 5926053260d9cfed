"""Time namespaces: the clocks that count from the boot of the host (time_namespaces(7)).

The real-time clock has no namespace. Offsets can be written after unshare(2) made the namespace
and before the first process is in it. A process that unshares is not in it, only its children are;
so it joins the new one by setns(2), which takes a process with one thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from donjon import syscalls
from donjon.fd import Fd

CLOCKS = ("monotonic", "boottime")
_OFFSETS = "/proc/self/timens_offsets"
_COMING = "/proc/self/ns/time_for_children"

Offsets = Sequence[tuple[str, int]]
"""Clocks and the seconds they are ahead of the host's."""


def describe(offsets: Offsets) -> str:
    """Say how the clocks differ from the host's, "" where they do not."""
    parts = [f"{clock} {seconds:+d} s" for clock, seconds in offsets]
    return f"; clocks: {', '.join(parts)}" if parts else ""


def settle(offsets: Offsets) -> None:
    """Set the clocks of the time namespace that was just unshared, and enter it. Raises OSError.

    ERANGE says that a clock would be before its zero.
    """
    if offsets:
        text = "".join(f"{clock} {seconds} 0\n" for clock, seconds in offsets)
        with _open_offsets() as file:
            syscalls.fault("timens_offsets")
            os.write(file.fileno(), text.encode())
    with Fd(os.open(_COMING, os.O_RDONLY | os.O_CLOEXEC)) as coming:
        syscalls.setns(coming.fileno(), syscalls.CLONE_NEWTIME)


def _open_offsets() -> Fd:
    """Open our own file of offsets.

    A change of uid, such as becoming root of a user namespace, made the process undumpable, and
    its files in /proc those of the host's root (proc(5)). For the moment of opening they are ours:
    who could trace us meanwhile has CAP_SYS_PTRACE in our user namespace already.
    """
    dumpable = syscalls.prctl(syscalls.PR_GET_DUMPABLE)
    if dumpable != 1:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    try:
        return Fd(os.open(_OFFSETS, os.O_WRONLY | os.O_CLOEXEC))
    finally:
        if dumpable != 1:
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
