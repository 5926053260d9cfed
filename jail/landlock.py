# ruff: noqa: D102  (what describe and execute are is said by Step)
"""Landlock (landlock(7)): a second wall for files, behind the mounts.

The mounts of a jail decide which files there are, Landlock what may be done with files that a
process reaches in whatever way: also by a descriptor that another process handed it, and also if
a mount were wrong. Rules are made with root's rights in the final root, and hold from the moment
after the drop; nobody can take them back.

``landlock = auto`` follows from the jail: what the root shows may be read and executed, and only
the writable binds, the file systems in memory, /dev and /proc be written. A root that is a
directory of the customer's may be written too. Its processes can then neither signal those
outside nor reach abstract sockets of others (Linux 6.12).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import ClassVar

from donjon import log, syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail.spec import FileRule, JailSpec
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

AUTO = "auto"
_RULES = "landlock"

# linux/landlock.h: LANDLOCK_ACCESS_FS_*
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = (1 << bit for bit in range(4, 9))
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(9, 13))
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(13, 16))

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_SINCE = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
"""What each version of the interface brought."""

_SCOPES_SINCE = 6
_SCOPES = 3  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL

_READ = READ_FILE | READ_DIR
_WRITE = (
    WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
) | (REFER | TRUNCATE | IOCTL_DEV)
MODES = {
    "ro": _READ,
    "exec": _READ | EXECUTE,
    "rw": _READ | _WRITE,
    "all": _READ | _WRITE | EXECUTE,
}
"""Words of the option. None makes devices."""

_ALWAYS_WRITABLE = ("/dev", "/proc", "/tmp", "/run", "/dev/shm")


def parse(text: str) -> tuple[str, str]:
    """Return path and mode of ``PATH[:MODE]``, or ``auto``. Raises ValueError."""
    path, colon, mode = text.rpartition(":")
    if not colon:
        path, mode = text, "ro"
    if text == AUTO:
        return AUTO, "ro"
    if mode not in MODES:
        raise ValueError(f"{mode!r} is none of {', '.join(MODES)}")
    if not path.startswith("/"):
        raise ValueError("not an absolute path")
    return path, mode


def version() -> int:
    """Return the version of the kernel's interface, 0 where it has none."""
    try:
        return syscalls.landlock_abi()
    except OSError:
        return 0


def handled(abi: int) -> int:
    """Return the rights that this version knows."""
    bits = 0
    for since, more in _SINCE.items():
        if since <= abi:
            bits |= more
    return bits


def rules_of(spec: JailSpec) -> tuple[FileRule, ...]:
    """Return the rules that ``spec`` asks for; ``auto`` becomes those that follow from it."""
    rules: list[FileRule] = []
    for rule in spec.landlock:
        rules += _derived(spec, rule) if rule.path == AUTO else [rule]
    return tuple(rules)


def _derived(spec: JailSpec, rule: FileRule) -> list[FileRule]:
    if not (spec.rootfs or spec.binds):
        raise JailError(
            "landlock = auto has nothing to follow from",
            origin=rule.origin,
            reason="the jail has neither rootfs nor bind",
            hint="name the paths: landlock = /srv/app:rw",
        )
    whole = "exec" if spec.rootfs == "host" else "all"
    found = [FileRule("/", whole, rule.origin)]
    found += [FileRule(path, "rw", rule.origin, optional=True) for path in _ALWAYS_WRITABLE]
    found += [FileRule(one.target, "rw", rule.origin) for one in spec.tmpfs]
    for bind in spec.binds:
        if not bind.read_only:
            found.append(FileRule(bind.target, "all", rule.origin, optional=bind.optional))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRules(Builtin):
    """The ruleset, while every path can be opened."""

    at_join: ClassVar[bool] = True
    rules: tuple[FileRule, ...]
    scoped: bool

    def describe(self) -> str:
        return f"prepare file rules: {' '.join(map(str, self.rules))}"

    def execute(self, context: Context) -> None:
        abi = version()
        if not abi:
            log.write(f"donjon: {self.origin}: this kernel has no Landlock; no second wall")
            return
        scoped = _SCOPES if self.scoped and abi >= _SCOPES_SINCE else 0
        with Fd(syscalls.landlock_create_ruleset(handled(abi), 0, scoped)) as ruleset:
            for rule in self.rules:
                _add(ruleset.fileno(), rule, handled(abi))
            context.descriptors[_RULES] = ruleset.release()


def _add(ruleset: int, rule: FileRule, known: int) -> None:
    try:
        opened = Fd(os.open(rule.path, os.O_PATH | os.O_CLOEXEC))
    except FileNotFoundError:
        if rule.optional:
            return
        raise
    with opened as path:
        rights = MODES[rule.mode] & known
        if not stat.S_ISDIR(os.fstat(path.fileno()).st_mode):
            rights &= _OF_FILES
        syscalls.landlock_add_path(ruleset, path.fileno(), rights)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictFiles(Builtin):
    """The rules begin to hold."""

    at_join: ClassVar[bool] = True

    def describe(self) -> str:
        return "restrict files to the rules (Landlock)"

    def execute(self, context: Context) -> None:
        number = context.descriptors.pop(_RULES, -1)
        if number < 0:
            return  # no Landlock here, as was said
        with Fd(number) as ruleset:
            syscalls.landlock_restrict_self(ruleset.fileno())


def check(rules: Iterable[FileRule], *, emperor: bool) -> None:
    """Refuse what cannot work. Raises JailError."""
    for rule in rules:
        if emperor:
            raise JailError(
                "an Emperor cannot be restricted by landlock",
                origin=rule.origin,
                reason="who is can mount nothing, and its vassals need mounts",
                hint="set it in its vassals",
            )
