"""What can be said of an application's file without running it.

Is it there, may its user read it, is it Python.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Collection, Iterator

from donjon.config.spec import Launch
from donjon.errors import ConfigError, JailError, reason_of
from donjon.jail import users
from donjon.jail.interpreter import closed_to
from donjon.origin import Origin

SIZE_MAX = 4 << 20
"""Bytes of a file that is looked at."""


def problems(launch: Launch) -> Iterator[ConfigError]:
    """Yield what would keep the application from loading.

    Nothing is known of files in another root, nor of modules, which are found by import.
    """
    jail = launch.jail
    if jail.chroot or jail.pivot_root or jail.rootfs not in (None, "host"):
        return
    try:
        uid, groups = users.resolve(jail).may()
    except JailError:
        return  # a problem of its own
    trees = jail.expose if jail.rootfs else ("/",)
    for application in launch.server.applications:
        path = os.path.join(launch.server.chdir or "", application.target)
        if application.kind == "wsgi-file" and path.startswith("/"):
            try:
                _check(path, uid, groups, trees, application.origin)
            except ConfigError as problem:
                yield problem


def _check(
    path: str, uid: int, groups: Collection[int], trees: Collection[str], origin: Origin
) -> None:
    """Raise ConfigError for what is wrong with one file."""
    what = f"cannot load {path}"
    place = Origin(origin.source, origin.line)
    try:
        closed = closed_to(path, uid, groups, trees)
        source = _read(path)
    except OSError as error:
        raise ConfigError(what, origin=place, reason=reason_of(error)) from error
    if closed:
        hint = "chmod or chown it, or give another uid"
        raise ConfigError(what, origin=place, reason=f"{closed} is closed to uid {uid}", hint=hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        reason = f"line {error.lineno}: {error.msg}"
        raise ConfigError(what, origin=place, reason=reason) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(what, origin=place, reason=str(error) or "too deep") from error


def _read(path: str) -> bytes:
    """Return the text of a file; of what is no file, or too long, nothing."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SIZE_MAX:
            return b""
        return os.read(fd, SIZE_MAX)
    finally:
        os.close(fd)
