"""From ``id-range`` to the maps of one jail: the ledger is asked, and remembers."""

from __future__ import annotations

import functools
import os

from donjon.errors import JailError
from donjon.jail import idledger, idmap
from donjon.jail.idledger import Ledger, Range
from donjon.jail.spec import JailSpec
from donjon.records import replace


@functools.cache
def ledger_at(path: str) -> Ledger:
    """Return the ledger in a file; a process has one of each, and so reads it once."""
    return Ledger(path)


def settle(
    spec: JailSpec,
    name: str = "",
    *,
    path: str | None = None,
    owner: tuple[int, int] | None = None,
    preview: bool = False,
) -> JailSpec:
    """Return ``spec`` with the ids that its ``id-range`` gives it; without one as it is.

    The ids are those of ``name`` where the option names nobody; "" is the file in which the option
    stands. ``path`` is the ledger where ``spec`` names none. ``owner`` stays himself inside. With
    ``preview`` nothing is written: what is shown is what would be given now. Raises JailError.
    """
    if spec.id_range is None or spec.id_map is not None:
        return spec
    ledger = ledger_at(spec.id_range_ledger or path or idledger.PATH)
    try:
        granted = _grant(spec, name, ledger, preview=preview)
    except JailError as error:
        error.origin = error.origin or spec.origins.get("id_range")
        raise
    found = idmap.of_range(granted.base, granted.size, owner=owner)
    return replace(spec, id_map=found)


def _grant(spec: JailSpec, name: str, ledger: Ledger, *, preview: bool) -> Range:
    wanted = spec.id_range
    assert wanted is not None
    name = wanted.name or name or _file_of(spec)
    if preview:
        size = wanted.size or spec.id_range_size
        if wanted.base is not None:
            return ledger.could_claim(name, wanted.base, size)
        return _of_size(ledger.find(name) or ledger.next(name, size), spec)
    if wanted.base is not None and wanted.size is not None:
        return ledger.claim(name, wanted.base, wanted.size)
    return _of_size(ledger.assign(name, spec.id_range_size), spec)


def _of_size(found: Range, spec: JailSpec) -> Range:
    """Return a range that is there already; its size can be no other than it is."""
    origin = spec.origins.get("id_range_size")
    if origin is not None and found.size != spec.id_range_size:
        raise JailError(
            f"{found.name} has {found.size} ids, not {spec.id_range_size}",
            origin=origin,
            reason="it was given them before, and files may have them",
            hint=f"donjon ids --release {found.name}, when there are no such files",
        )
    return found


def _file_of(spec: JailSpec) -> str:
    """Return the file in which ``id-range`` stands: that of an instance without an Emperor."""
    origin = spec.origins.get("id_range")
    if origin is None or not origin.line:
        raise JailError(
            "id-range does not say whose ids they are",
            reason="it stands in no file",
            hint="id-range = auto:NAME",
        )
    return os.path.abspath(origin.source)
