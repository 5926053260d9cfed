# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""Jails of FreeBSD: one made by jail(2) or jail_set(2) and entered, or one that is there entered.

They stand where Linux has unshare: after the pre-jail hooks, before the post-jail hooks, once in
the life of an instance. The kernel ends a jail with its last process, so nothing here removes one.

``jidfile`` is opened before the jail is entered and written after it, so its path is the host's
and no program of the jail can put a link in its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from donjon import log
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import freebsd_params as params
from donjon.jail.freebsd_spec import JailParameter, OldJail
from donjon.jail.step import Builtin, Context, Step
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass
from donjon.syscalls import freebsd as calls

if TYPE_CHECKING:
    from donjon.jail.spec import JailSpec  # which needs Linux
    from donjon.syscalls.freebsd_libc import Library  # which needs ctypes

_JIDFILE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_ON_LINUX = {
    "path": "rootfs = DIR",
    "host.hostname": "hostname = NAME",
    "jail_ip4": "unshare = net, and addresses of the new network",
    "jail_ip6": "unshare = net, and addresses of the new network",
    "jail_attach": "setns = SOCKET",
    "jidfile": "pidfile = FILE",
}


def is_here() -> bool:
    """Whether this system has FreeBSD's jails."""
    return calls.library() is not None


def refuse_elsewhere(spec: JailSpec) -> None:
    """Raise JailError for what only FreeBSD has, with the option of Linux that does the like."""
    if is_here():
        return
    for option, origin, instead in _asked(spec):
        raise JailError(
            f"{option} needs FreeBSD",
            origin=origin,
            reason="this is Linux",
            hint=f"here: {instead}",
        )


def _asked(spec: JailSpec) -> Iterator[tuple[str, Origin, str]]:
    """Yield option, place and Linux's equivalent for each wish of FreeBSD's."""
    if spec.jail:
        yield "jail", _place(spec, "jail"), "rootfs = DIR and hostname = NAME"
    for one in spec.jail_parameters:
        yield f"jail2 = {one.key}", one.origin, _instead(one)
    for field in ("jail_ip4", "jail_ip6", "jail_attach", "jidfile"):
        if getattr(spec, field):
            yield field.replace("_", "-"), _place(spec, field), _ON_LINUX[field]


def _instead(one: JailParameter) -> str:
    if one.key.startswith("allow."):
        return "cap = NAMES"
    if one.key.startswith(("ip4", "ip6", "vnet")):
        return _ON_LINUX["jail_ip4"]
    return _ON_LINUX.get(one.key, _ON_LINUX["path"])


def _place(spec: JailSpec, field: str) -> Origin:
    return spec.origins.get(field, DEFAULT)


def _enter(step: Step, jidfile: str | None, call: Callable[[Library], int]) -> None:
    """Enter a jail by ``call``, which returns its jid or raises OSError, and note the jid."""
    library = calls.library()
    if library is None:
        raise JailError(f"cannot {step.describe()}", reason="this system has no jails")
    with _jidfile(jidfile) as write:
        try:
            jid = call(library)
        except OSError as error:
            reason = error.strerror or str(error)
            raise JailError(
                f"cannot {step.describe()}", origin=step.origin, reason=reason
            ) from error
        write(jid)
    log.write(f"donjon: in FreeBSD jail {jid}")


def _noted(text: str, jidfile: str | None) -> str:
    """Return ``text``, and where the jid goes."""
    return f"{text}, its jid to {jidfile}" if jidfile else text


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOldJail(Builtin):
    """jail(2), for FreeBSD before 8; newer ones have it too."""

    jail: OldJail
    jidfile: str | None = None
    ip4: tuple[str, ...] = ()
    ip6: tuple[str, ...] = ()

    def describe(self) -> str:
        named = f" named {self.jail.name}" if self.jail.name else ""
        host = f", host name {self.jail.hostname}" if self.jail.hostname else ""
        found = " ".join((*self.ip4, *self.ip6))
        addresses = f", addresses {found}" if found else ""
        return _noted(
            f"make and enter a jail{named} in {self.jail.path}{host}{addresses}", self.jidfile
        )

    def execute(self, context: Context) -> None:
        _enter(self, self.jidfile, self._enter)

    def _enter(self, library: Library) -> int:
        wish = self.jail
        return library.jail(
            os.fsencode(wish.path),
            wish.hostname.encode(),
            wish.name.encode() if wish.name else None,
            [params.address4(each) for each in self.ip4],
            [params.address6(each) for each in self.ip6],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJail(Builtin):
    """jail_set(2) with JAIL_CREATE and JAIL_ATTACH."""

    parameters: tuple[JailParameter, ...]
    jidfile: str | None = None

    def describe(self) -> str:
        shown = (
            one.key if one.value is None else f"{one.key}={one.value}" for one in self.parameters
        )
        return _noted(f"make and enter a jail with {' '.join(shown)}", self.jidfile)

    def execute(self, context: Context) -> None:
        _enter(self, self.jidfile, self._enter)

    def _enter(self, library: Library) -> int:
        flags = calls.JAIL_CREATE | calls.JAIL_ATTACH
        return library.jail_set(params.pairs(self.parameters), flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachJail(Builtin):
    """jail_attach(2); jail_get(2) finds the number of a name."""

    jail: str
    jidfile: str | None = None

    def describe(self) -> str:
        return _noted(f"enter the jail {self.jail}", self.jidfile)

    def execute(self, context: Context) -> None:
        _enter(self, self.jidfile, self._enter)

    def _enter(self, library: Library) -> int:
        key = "jid" if self.jail.isdecimal() else "name"
        jid, _ = library.jail_get([params.encode(key, self.jail)])
        library.jail_attach(jid)
        return jid


@contextlib.contextmanager
def _jidfile(path: str | None) -> Iterator[Callable[[int], None]]:
    """Lend what writes the jid; a file that was made for it goes again if there is none."""
    if path is None:
        yield lambda jid: None  # noqa: ARG005
        return
    made = not os.path.lexists(path)
    try:
        number = os.open(path, _JIDFILE, 0o644)
    except OSError as error:
        raise JailError(f"cannot write jidfile {path}", reason=error.strerror or "") from error
    inside = False

    def write(jid: int) -> None:
        nonlocal inside
        inside = True
        os.ftruncate(number, 0)
        os.write(number, f"{jid}\n".encode())

    with Fd(number):
        try:
            yield write
        finally:
            if made and not inside:  # once inside, the path is another's
                os.unlink(path)
