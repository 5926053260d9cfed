"""Names and values of control files, from one version to the other.

A configuration for version 1 works on a host with version 2 and the other way round. Weights keep
their proportion, so that 125:125:250:500 stays what it is; a limit keeps its meaning. What has no
counterpart is written nowhere, as the original skips a file that is missing, and the plan says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from donjon.jail.spec import CgroupOption
from donjon.records import dataclass

Written = tuple[tuple[str, str], ...]
"""Files with the value for each."""

Convert = Callable[[str, Mapping[str, str]], Written]
"""Takes the value, and all values that were asked for by their keys. Raises ValueError."""

PERIOD = 100_000
"""Microseconds over which a ceiling of processor time counts, in both versions."""

_SIZE = re.compile(r"(\d+)([kmgt]?)", re.IGNORECASE)
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_THROTTLES = {"rbps": "read_bps", "wbps": "write_bps", "riops": "read_iops", "wiops": "write_iops"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What one option means in a hierarchy: ``written`` is empty where it means nothing there."""

    option: CgroupOption
    written: Written


def settings(options: Sequence[CgroupOption], version: int) -> list[Setting]:
    """Return what the options mean in a hierarchy of ``version``. Raises ValueError."""
    given = {option.key: option.value for option in options}
    return [
        Setting(option, translate(option.key, option.value, version, given)) for option in options
    ]


def translate(
    key: str, value: str, version: int, given: Mapping[str, str] | None = None
) -> Written:
    """Return the files and values for a hierarchy of ``version``.

    ``given`` has all values that were asked for: some mean something only together. Raises
    ValueError for a bad number.
    """
    convert = (TO_V2 if version == 2 else TO_V1).get(key)
    return ((key, value),) if convert is None else convert(value, given or {})


def controller(key: str) -> str:
    """Return the v2 controller that gives ``key`` its file; "" for those that every cgroup has."""
    name = _FAMILIES.get(key.partition(".")[0], key.partition(".")[0])
    return "" if name in ("cgroup", "tasks", "freezer") else name


def size(text: str) -> int:
    """Return a number of bytes as the kernel reads it: ``64M`` is one. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    return int(match[1]) * _UNIT[match[2].lower()]


_FAMILIES = {"blkio": "io"}


def _is_endless(value: str) -> bool:
    return value.strip() in ("max", "-1")


def _one(name: str, convert: Callable[[str], str] = str) -> Convert:
    return lambda value, _given: ((name, convert(value)),)


def _scaled(ours: int, theirs: int, least: int, most: int) -> Callable[[str], str]:
    """Return a weight in proportion: ``ours`` and ``theirs`` are the defaults."""
    return lambda value: str(max(least, min(most, round(int(value) * theirs / ours))))


def _max(limit: str) -> str:
    return "max" if _is_endless(limit) else limit


def _bytes(limit: str) -> str:
    return "-1" if _is_endless(limit) else limit


def _frozen(state: str) -> str:
    return "1" if state.strip().upper() == "FROZEN" else "0"


def _state(frozen: str) -> str:
    return "FROZEN" if int(frozen) else "THAWED"


def _quota_to_max(quota: str, given: Mapping[str, str]) -> Written:
    period = int(given.get("cpu.cfs_period_us", PERIOD))
    return (("cpu.max", f"{'max' if int(quota) < 0 else int(quota)} {period}"),)


def _period_to_max(period: str, given: Mapping[str, str]) -> Written:
    number = int(period)
    return () if "cpu.cfs_quota_us" in given else (("cpu.max", f"max {number}"),)


def _max_to_quota(value: str, _given: Mapping[str, str]) -> Written:
    quota, _, period = value.strip().partition(" ")
    return (
        ("cpu.cfs_period_us", str(int(period or PERIOD))),
        ("cpu.cfs_quota_us", "-1" if quota == "max" else str(int(quota))),
    )


def _memsw_to_swap(both: str, given: Mapping[str, str]) -> Written:
    """Version 1 limits memory and swap together, version 2 swap alone."""
    if _is_endless(both):
        return (("memory.swap.max", "max"),)
    memory = given.get("memory.limit_in_bytes", "-1")
    if _is_endless(memory):
        return ()
    return (("memory.swap.max", str(max(0, size(both) - size(memory)))),)


def _swap_to_memsw(swap: str, given: Mapping[str, str]) -> Written:
    memory = given.get("memory.max", "max")
    if _is_endless(swap) or _is_endless(memory):
        return (("memory.memsw.limit_in_bytes", "-1"),)
    return (("memory.memsw.limit_in_bytes", str(size(memory) + size(swap))),)


def _throttle_to_max(word: str) -> Convert:
    def convert(value: str, _given: Mapping[str, str]) -> Written:
        device, amount = value.split()
        return (("io.max", f"{device} {word}={'max' if amount == '0' else size(amount)}"),)

    return convert


def _max_to_throttles(value: str, _given: Mapping[str, str]) -> Written:
    device, *words = value.split()
    return tuple(_throttles(device, words))


def _throttles(device: str, words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, amount = word.partition("=")
        if name not in _THROTTLES:
            raise ValueError(f"{name!r} is not rbps, wbps, riops or wiops")
        number = 0 if _is_endless(amount) else size(amount)
        yield f"blkio.throttle.{_THROTTLES[name]}_device", f"{device} {number}"


def _weight_to_blkio(value: str, _given: Mapping[str, str]) -> Written:
    return (
        ("blkio.weight", _scaled(100, 500, 10, 1000)(value)),
        ("blkio.bfq.weight", _scaled(100, 100, 1, 1000)(value)),
    )


def _weight_to_io(value: str, _given: Mapping[str, str]) -> Written:
    """Two schedulers of the kernel know weights, each with a file of its own (bfq-iosched.rst)."""
    *device, weight = value.split()
    for_bfq = " ".join([*device, str(min(int(weight), 1000))])
    return (("io.weight", value), ("io.bfq.weight", for_bfq))


def _nowhere(_value: str, _given: Mapping[str, str]) -> Written:
    return ()


TO_V2: dict[str, Convert] = {
    "cpu.shares": _one("cpu.weight", _scaled(1024, 100, 1, 10_000)),
    "cpu.cfs_quota_us": _quota_to_max,
    "cpu.cfs_period_us": _period_to_max,
    "memory.limit_in_bytes": _one("memory.max", _max),
    "memory.soft_limit_in_bytes": _one("memory.low", _max),
    "memory.memsw.limit_in_bytes": _memsw_to_swap,
    "blkio.weight": _one("io.weight", _scaled(500, 100, 1, 10_000)),
    "blkio.bfq.weight": _one("io.bfq.weight"),
    "io.weight": _weight_to_io,
    **{
        f"blkio.throttle.{name}_device": _throttle_to_max(word)
        for word, name in _THROTTLES.items()
    },
    "freezer.state": _one("cgroup.freeze", _frozen),
}

TO_V1: dict[str, Convert] = {
    "cpu.weight": _one("cpu.shares", _scaled(100, 1024, 2, 262_144)),
    "cpu.max": _max_to_quota,
    "memory.max": _one("memory.limit_in_bytes", _bytes),
    "memory.low": _one("memory.soft_limit_in_bytes", _bytes),
    "memory.high": _nowhere,
    "memory.swap.max": _swap_to_memsw,
    "io.weight": _weight_to_blkio,
    "io.max": _max_to_throttles,
    "cgroup.freeze": _one("freezer.state", _state),
}

DEFAULTS = {
    "cpu.weight": "100",
    "cpu.max": f"max {PERIOD}",
    "memory.high": "max",
    "memory.max": "max",
    "memory.swap.max": "max",
    "pids.max": "max",
    "io.weight": "100",
}
"""What a group of version 2 has where nothing was asked for: cgroup-v2.rst."""


def default(option: CgroupOption) -> CgroupOption | None:
    """Return the option that takes ``option`` back, None where that is not known."""
    if option.key == "io.max":
        device = option.value.split()[0]
        limits = " ".join(f"{word}=max" for word in _THROTTLES)
        return CgroupOption(option.key, f"{device} {limits}", option.origin)
    value = DEFAULTS.get(option.key)
    return None if value is None else CgroupOption(option.key, value, option.origin)
