"""Names of processes, as ps and top show them: ``auto-procname``, ``procname*``."""

from __future__ import annotations

import contextlib

from donjon import syscalls
from donjon.server.spec import ServerSpec


def name_master(spec: ServerSpec) -> None:
    """Name the master, if a name was asked for."""
    _name(spec, spec.procname_master or spec.procname, "uWSGI master")


def name_worker(spec: ServerSpec, slot: int) -> None:
    """Name a worker, if a name was asked for."""
    _name(spec, spec.procname, f"uWSGI worker {slot}")


def name_part(spec: ServerSpec, automatic: str) -> None:
    """Name a mule, a gateway or the like, if a name was asked for."""
    _name(spec, "", automatic)


def _name(spec: ServerSpec, wanted: str, automatic: str) -> None:
    base = wanted or (automatic if spec.auto_procname or _decorated(spec) else "")
    if not base:
        return
    prefix = (
        spec.procname_prefix_spaced + " " if spec.procname_prefix_spaced else spec.procname_prefix
    )
    text = f"{prefix}{base}{spec.procname_append}"
    with contextlib.suppress(OSError):  # a kernel that cannot rename leaves the old name
        syscalls.set_name(text)
        syscalls.set_cmdline([text.encode()])


def _decorated(spec: ServerSpec) -> bool:
    return bool(spec.procname_prefix or spec.procname_prefix_spaced or spec.procname_append)
