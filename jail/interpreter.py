"""Whether the interpreter can still be used once the uid has changed and the root is another.

A program that lives in a home directory that is closed to the vassal's uid starts, drops its
privileges, and then fails in an import. That is seen here, by the mode bits of every directory on
the way, before anything is started.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
from collections.abc import Collection, Sequence

from donjon.errors import JailError
from donjon.jail import hostview
from donjon.origin import DEFAULT, Origin

_ACL = "system.posix_acl_access"  # acl(5)


@functools.cache
def library() -> str:
    """Return the directory of the standard library."""
    return os.path.dirname(os.path.realpath(os.__file__))


def closed_to(
    path: str,
    uid: int,
    groups: Collection[int],
    trees: Collection[str] = ("/",),
    *,
    lists_count: bool = True,
) -> str | None:
    """Return the first part of ``path`` that is closed to ``uid``, None when it can be read.

    Directories on the way need search permission, the last one read and search. Only parts below
    ``trees`` count: in a root made of views, the directories above a view are new and open. An
    access control list may say more than the mode bits: a part that has one is taken as open,
    unless ``lists_count`` is false.
    """
    if uid == 0:
        return None
    return _closed_part(_parts(path), uid, groups, trees, lists_count=lists_count)


def _closed_part(
    parts: Sequence[str],
    uid: int,
    groups: Collection[int],
    trees: Collection[str],
    *,
    lists_count: bool,
) -> str | None:
    last = parts[-1]
    whole = "/" in trees
    for part in parts:
        if not (whole or any(hostview.is_below(part, tree) for tree in trees)):
            continue
        info = os.stat(part)
        wanted = 0o1 if part != last else 0o5 if stat.S_ISDIR(info.st_mode) else 0o4
        if not _allows(info, uid, groups, wanted) and not (lists_count and _has_acl(part)):
            return part
    return None


def _parts(path: str) -> tuple[str, ...]:
    """Return where ``path`` really is and every directory on the way to it, from the root."""
    parts = ["/"]
    for name in filter(None, os.path.realpath(path).split("/")):
        parts.append(os.path.join(parts[-1], name))
    return tuple(parts)


@functools.lru_cache(maxsize=4)
def _way_to_own(path: str) -> tuple[str, ...]:
    """Return the parts of a path from which this process imports: where it is does not change."""
    return _parts(path)


def check_readable(
    uid: int,
    groups: Collection[int],
    origin: Origin = DEFAULT,
    trees: Collection[str] = ("/",),
) -> None:
    """Raise JailError if the interpreter or its environment is closed to ``uid``."""
    if uid == 0:
        return
    for path in (library(), sys.prefix):
        closed = _closed_part(_way_to_own(path), uid, groups, trees, lists_count=True)
        if closed is not None:
            raise JailError(
                f"{path} of this interpreter cannot be read by uid {uid}",
                origin=origin,
                reason=f"{closed} is closed to uid {uid}",
                hint="install donjon where everybody may read, or open the directory",
            )


def check_visible(root: str, binds: Collection[str], origin: Origin = DEFAULT) -> None:
    """Raise JailError if a directory that becomes the root lacks this interpreter's library."""
    path = library()
    if os.path.isdir(root + path) or any(hostview.is_below(path, target) for target in binds):
        return
    raise JailError(
        f"{path} of this interpreter is not in the root {root}",
        origin=origin,
        reason="an application could import nothing",
        hint="runtime-mount = true shows it there, and so does rootfs = host",
    )


def _allows(info: os.stat_result, uid: int, groups: Collection[int], wanted: int) -> bool:
    if info.st_uid == uid:
        bits = info.st_mode >> 6
    elif info.st_gid in groups:
        bits = info.st_mode >> 3
    else:
        bits = info.st_mode
    return bits & wanted == wanted


def _has_acl(path: str) -> bool:
    try:
        return bool(os.getxattr(path, _ACL))
    except OSError:
        return False
