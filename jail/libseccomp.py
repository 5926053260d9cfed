"""Debian's libseccomp, the few functions that are needed: rules in, a BPF program out.

It is loaded when the first profile is compiled, by the process that makes plans; a jail gets the
program as bytes. So nothing of it is in a vassal.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Iterable

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail.seccomp_groups import NUMBERS, Test
from donjon.records import dataclass

LIBRARY = "libseccomp.so.2"
_BADARCH, _OPTIMIZE = 2, 8  # enum scmp_filter_attr
_BY_TREE = 2  # a call is found by halving, not by walking


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do with one call, when all ``tests`` hold."""

    number: int
    action: int
    tests: tuple[Test, ...] = ()


class _ArgCmp(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    """Load it. Raises JailError."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise JailError(
            "system calls cannot be filtered",
            reason=f"{LIBRARY} cannot be loaded: {error}",
            hint="install libseccomp2, or set seccomp = off",
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    return library


def native() -> int:
    """Return the machine's AUDIT_ARCH_*."""
    return int(ctypes.c_uint32(_library().seccomp_arch_native()).value)


def number_of(name: str) -> int | None:
    """Return the number of a call on this machine, None if it has no such call."""
    found = int(_library().seccomp_syscall_resolve_name(name.encode()))
    if found < 0:
        return NUMBERS.get(name)
    return found


def compile_rules(default: int, rules: Iterable[Rule]) -> bytes:
    """Return a program: the first rule of a call that holds, else ``default``.

    Calls of another machine's ABI (32 bits, x32) fail with EPERM. Raises JailError.
    """
    library = _library()
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    if not context:
        raise JailError("system calls cannot be filtered", reason="libseccomp refuses the default")
    try:
        refused = ctypes.c_uint32(syscalls.SECCOMP_RET_ERRNO | errno.EPERM)
        _check(library.seccomp_attr_set(context, _BADARCH, refused), "other machines' calls")
        # before 2.5 there is no such attribute; the program is then longer and does the same
        library.seccomp_attr_set(context, _OPTIMIZE, ctypes.c_uint32(_BY_TREE))
        for rule in rules:
            _add(library, context, rule)
        with Fd(os.memfd_create("seccomp", os.MFD_CLOEXEC)) as memory:
            _check(library.seccomp_export_bpf(context, memory.fileno()), "the program")
            return os.pread(memory.fileno(), 1 << 20, 0)
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: ctypes.c_void_p, rule: Rule) -> None:
    tests = (_ArgCmp * len(rule.tests))(
        *(_ArgCmp(test.at, int(test.how), test.a, test.b) for test in rule.tests)
    )
    result = library.seccomp_rule_add_array(
        context, ctypes.c_uint32(rule.action), rule.number, len(rule.tests), tests
    )
    _check(result, f"a rule for call {rule.number}")


def _check(result: int, what: str) -> None:
    if result < 0:
        raise JailError(
            "system calls cannot be filtered", reason=f"libseccomp: {what}: {os.strerror(-result)}"
        )
