"""``ksm``: the processes of an instance let the kernel merge their equal pages.

Where the kernel takes one word for all of a process (Linux 6.4) that is all there is to do. Where
it does not, mappings are looked at as the original does: in a worker every N requests, in the
master every N seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from donjon import log
from donjon.jail import ksm
from donjon.server.loader import App
from donjon.server.loop import Loop
from donjon.server.spec import ServerSpec


def begin(spec: ServerSpec, loop: Loop) -> None:
    """Begin in the master."""
    if not spec.ksm:
        return
    state = ksm.status()
    if state is None:
        log.write("ksm does nothing: this kernel cannot merge pages (CONFIG_KSM)")
        return
    if state.run != 1:
        log.write(f"ksm does nothing yet: an administrator must write 1 to {ksm.CONTROL}/run")
    if not ksm.merge_all():
        merger = ksm.Merger()
        merger.scan()
        loop.every(float(spec.ksm), lambda: _scan(merger))


def in_worker(
    spec: ServerSpec, applications: Sequence[tuple[str, App]]
) -> Sequence[tuple[str, App]]:
    """Begin in a worker; return its applications, wrapped where requests have to be counted."""
    if not spec.ksm or ksm.status() is None or ksm.merge_all():
        return applications
    merger = ksm.Merger()
    merger.scan()
    return [(mount, _counting(app, merger, spec.ksm)) for mount, app in applications]


def _counting(app: App, merger: ksm.Merger, every: int) -> App:
    """Return an application that looks at the mappings before each request that follows on
    ``every`` others."""
    served = 0

    def counting(environ: Any, start_response: Any) -> Any:
        nonlocal served
        if served >= every:
            served = 0
            _scan(merger)
        served += 1
        return app(environ, start_response)

    return counting


def _scan(merger: ksm.Merger) -> None:
    count = merger.scan()
    if log.debugging():
        log.debug(f"ksm: {count} new mappings")
