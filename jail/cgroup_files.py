"""Names and values of control files, from one hierarchy to the other.

A configuration for version 1 works on a host with version 2 and the other way round. Only what has
the same meaning is translated; the rest is skipped on the other version, as the original skips a
file that is missing.
"""

from __future__ import annotations

from collections.abc import Callable

_SHARES = 1024  # the default cpu.shares, cgroup-v1/
_WEIGHT = 100  # the default cpu.weight, cgroup-v2.rst


def _weight(shares: str) -> str:
    """Return cpu.weight for cpu.shares. Proportional, so that 125:125:250:500 stays what it is."""
    return str(max(1, min(10_000, round(int(shares) * _WEIGHT / _SHARES))))


def _shares(weight: str) -> str:
    return str(max(2, min(262_144, round(int(weight) * _SHARES / _WEIGHT))))


def _max(limit: str) -> str:
    return "max" if limit.strip() == "-1" else limit


def _bytes(limit: str) -> str:
    return "-1" if limit.strip() == "max" else limit


def _frozen(state: str) -> str:
    return "1" if state.strip().upper() == "FROZEN" else "0"


def _same(value: str) -> str:
    return value


_Row = tuple[str, Callable[[str], str]]

TO_V2: dict[str, _Row] = {
    "cpu.shares": ("cpu.weight", _weight),
    "memory.limit_in_bytes": ("memory.max", _max),
    "memory.soft_limit_in_bytes": ("memory.low", _max),
    "blkio.weight": ("io.weight", _same),
    "blkio.bfq.weight": ("io.bfq.weight", _same),
    "freezer.state": ("cgroup.freeze", _frozen),
}

TO_V1: dict[str, _Row] = {
    "cpu.weight": ("cpu.shares", _shares),
    "memory.max": ("memory.limit_in_bytes", _bytes),
    "memory.low": ("memory.soft_limit_in_bytes", _bytes),
    "io.weight": ("blkio.weight", _same),
}


def translate(key: str, value: str, version: int) -> tuple[str, str]:
    """Return the file and the value for a hierarchy of ``version``.

    Raises ValueError for a bad number.
    """
    row = (TO_V2 if version == 2 else TO_V1).get(key)
    if row is None:
        return key, value
    name, convert = row
    return name, convert(value)


def controller(key: str) -> str:
    """Return the v2 controller that gives ``key`` its file; "" for those that every cgroup has."""
    name = translate(key, "1", 2)[0].partition(".")[0]
    return "" if name in ("cgroup", "tasks") else name
