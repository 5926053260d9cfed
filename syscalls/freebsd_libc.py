"""The calls of ``freebsd`` by ctypes, in the C library that has them: layouts, pairs, errors.

Apart from it, because ctypes is much to import for who never calls them. Layouts are those of
sys/jail.h and sys/uio.h, and ctypes gives them the machine's alignment: ``struct jail`` has 56
bytes where pointers have 8.

jail_set(2) and jail_get(2) take pairs of iovecs, a name that ends with NUL and a value. A value of
no bytes is a flag. The kernel writes what was wrong into the value named ``errmsg``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from typing import Any

from donjon.syscalls.freebsd import JAIL_API_VERSION, JAIL_ERRMSGLEN

Pairs = Sequence[tuple[bytes, bytes | None]]


class IoVec(ctypes.Structure):
    """struct iovec, sys/_iovec.h."""

    _fields_ = (("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t))


class Jail(ctypes.Structure):
    """struct jail of version 2, sys/jail.h; addresses are in network byte order."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("path", ctypes.c_char_p),
        ("hostname", ctypes.c_char_p),
        ("jailname", ctypes.c_char_p),
        ("ip4s", ctypes.c_uint32),
        ("ip6s", ctypes.c_uint32),
        ("ip4", ctypes.c_void_p),
        ("ip6", ctypes.c_void_p),
    )


class Library:
    """A C library with the calls of a FreeBSD kernel; ``None`` is that of this process."""

    def __init__(self, path: str | None = None) -> None:
        self._calls = ctypes.CDLL(path, use_errno=True)
        vector = (ctypes.POINTER(IoVec), ctypes.c_uint, ctypes.c_int)
        for name, arguments in (
            ("jail", (ctypes.POINTER(Jail),)),
            ("jail_set", vector),
            ("jail_get", vector),
            ("jail_attach", (ctypes.c_int,)),
            ("jail_remove", (ctypes.c_int,)),
        ):
            call = getattr(self._calls, name)
            call.argtypes, call.restype = arguments, ctypes.c_int

    def jail(
        self,
        path: bytes,
        hostname: bytes,
        jailname: bytes | None,
        ip4: Sequence[bytes] = (),
        ip6: Sequence[bytes] = (),
    ) -> int:
        """jail(2): make a jail and enter it. Return its jid. ``None`` gives it no name."""
        four, six = (
            ctypes.create_string_buffer(b"".join(a), 16 * len(a) or 1) for a in (ip4, ip6)
        )
        wish = Jail(
            JAIL_API_VERSION,
            path,
            hostname,
            jailname,
            len(ip4),
            len(ip6),
            ctypes.cast(four, ctypes.c_void_p) if ip4 else None,
            ctypes.cast(six, ctypes.c_void_p) if ip6 else None,
        )
        return self._call("jail", ctypes.byref(wish))

    def jail_set(self, pairs: Pairs, flags: int) -> int:
        """jail_set(2). Return the jid; the kernel's ``errmsg`` is the OSError's reason."""
        return self._with_pairs("jail_set", [(n, _buffer(v)) for n, v in pairs], flags)

    def jail_get(
        self, pairs: Pairs, sizes: Mapping[bytes, int] | None = None, flags: int = 0
    ) -> tuple[int, dict[bytes, bytes]]:
        """jail_get(2) of the jail that ``pairs`` name.

        Return its jid and, for each name of ``sizes``, so many bytes.
        """
        asked = {name: ctypes.create_string_buffer(size) for name, size in (sizes or {}).items()}
        vector = [*((name, _buffer(value)) for name, value in pairs), *asked.items()]
        jid = self._with_pairs("jail_get", vector, flags)
        return jid, {name: buffer.raw for name, buffer in asked.items()}

    def jail_attach(self, jid: int) -> None:
        """jail_attach(2): enter the jail of that number."""
        self._call("jail_attach", jid)

    def jail_remove(self, jid: int) -> None:
        """jail_remove(2): end all processes of a jail, and the jail."""
        self._call("jail_remove", jid)

    def _with_pairs(self, name: str, pairs: Sequence[tuple[bytes, Any]], flags: int) -> int:
        message = ctypes.create_string_buffer(JAIL_ERRMSGLEN)
        names = [ctypes.create_string_buffer(each) for each, _ in (*pairs, (b"errmsg", None))]
        values = [*(value for _, value in pairs), message]
        vector = (IoVec * (2 * len(names)))()
        for index, (key, value) in enumerate(zip(names, values, strict=True)):
            vector[2 * index] = _iovec(key)
            vector[2 * index + 1] = _iovec(value)
        return self._call(name, vector, len(vector), flags, message=message)

    def _call(self, name: str, *arguments: Any, message: Any = None) -> int:
        ctypes.set_errno(0)
        result: int = getattr(self._calls, name)(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            said = message.value.decode(errors="replace") if message is not None else ""
            raise OSError(number, said or os.strerror(number))
        return result


def _buffer(value: bytes | None) -> Any:
    return None if value is None else ctypes.create_string_buffer(value, len(value))


def _iovec(buffer: Any) -> IoVec:
    if buffer is None:
        return IoVec(None, 0)
    return IoVec(ctypes.cast(buffer, ctypes.c_void_p), len(buffer))
