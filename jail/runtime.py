# ruff: noqa: D102  (what describe and execute are is said by Step)
"""``runtime-mount``: what an application needs of the host, in a root that lacks it.

This interpreter, its standard library and environment, the shared libraries that its modules load,
CA certificates and time zones: each is shown read-only where the root has nothing of the name. A
root without /usr gets the host's, with the links of the top level that lead there; so an empty
directory is enough of a root. What the root has is the root's: nothing is hidden.

Which of them a root lacks is looked at when it is put together, by descriptor; a layer of an
overlay or the inside of an image cannot be looked at earlier.
"""

from __future__ import annotations

import functools
import os
import stat
import sys

from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import hostview, interpreter, mounts, paths
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

USR = "/usr"

SHARED = (
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/localtime",
)
"""Certificates and time zones; links among them are made as they are on the host."""

_LINKER = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
"""How ld.so(8) finds the libraries of the host's /usr."""


@functools.cache
def parts() -> tuple[str, ...]:
    """Return what is shown where the root has a /usr of its own, in this order."""
    libraries = getattr(sys.implementation, "_multiarch", "")  # x86_64-linux-gnu
    system = (
        interpreter.library(),
        "/usr/lib/python3/dist-packages",  # Debian's modules
        *_program(),
        "/usr/lib64",  # where ld.so(8) is
        *((f"/usr/lib/{libraries}",) if libraries else ()),
    )
    own = (path for path in hostview.interpreter_trees() if path != USR)
    wanted = dict.fromkeys((*system, *own, *SHARED))
    return tuple(path for path in wanted if os.path.lexists(path))


def _program() -> list[str]:
    """Return this interpreter's program, with each link on the way from its name to the file."""
    found, path = [], sys.executable
    while os.path.islink(path):
        found.append(path)
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return [*found, path]


def lacks_usr(root: int) -> bool:
    """Whether the root has no /usr, or one with nothing in it."""
    found = paths.open_existing(root, USR)
    return found is None or _is_empty(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeMount(Builtin):
    """Show what the root lacks."""

    def describe(self) -> str:
        return (
            "show this interpreter, its library and environment, CA certificates and time zones "
            "read-only where the root lacks them"
        )

    def execute(self, context: Context) -> None:
        root = mounts.root_of(context)
        wanted = parts()
        if lacks_usr(root):
            _show(root, USR)
            wanted = (*_LINKER, *wanted)
        _link_to_usr(root)
        for path in wanted:
            if os.path.islink(path):
                _link(root, path)
            elif not _has(root, path):
                _show(root, path)


def _has(root: int, path: str) -> bool:
    """Whether the root has something of the name.

    What is empty is nothing: a mount point of an earlier start. A link counts: it is the root's.
    """
    if not paths.exists(root, path):
        return False
    try:
        found = paths.open_existing(root, path)
    except JailError:
        return True
    return found is not None and not _is_empty(found)


def _is_empty(found: Fd) -> bool:
    with found:
        info = os.fstat(found.fileno())
        if not stat.S_ISDIR(info.st_mode):
            return stat.S_ISREG(info.st_mode) and info.st_size == 0
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found.fileno())
        with Fd(opened) as listing:
            return not os.listdir(listing.fileno())


def _show(root: int, path: str) -> None:
    try:
        source = paths.open_source(path)
    except FileNotFoundError:
        return
    with source, mounts.clone_at(source.fileno()) as tree:
        mounts.show(tree, root, path, mounts.READ_ONLY)


def _link_to_usr(root: int) -> None:
    """Make /bin, /lib and their kin as on the host, where /usr is merged; else show them."""
    view = hostview.host_view()
    for path, target in view.links:
        if hostview.top_of(path) == path[1:] and not paths.exists(root, path):
            os.symlink(target, path[1:], dir_fd=root)
    for path in view.trees:
        if hostview.top_of(path) == path[1:] and path != USR and not paths.exists(root, path):
            _show(root, path)


def _link(root: int, path: str) -> None:
    """Make the host's link in the root; the directory above is made or found without links."""
    if paths.exists(root, path):
        return
    with paths.open_target(root, os.path.dirname(path)) as above:
        os.symlink(os.readlink(path), os.path.basename(path), dir_fd=above.fileno())
