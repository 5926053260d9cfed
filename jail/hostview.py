"""What a host root shows of the host: looked up once, by name, with nothing done.

Programs and a few files of /etc, this interpreter with its environment, and the application's own
paths. All functions here are about paths as text; ``rootfs`` holds the steps that mount them.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Sequence

import donjon
from donjon.records import dataclass

ETC = (
    "alternatives",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "mtab",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
"""What is seen of the host's /etc. No keys, no shadow, nobody's configuration."""

OWN = ("/proc", "/sys", "/dev")
"""Where a jail has its own, so that a view of the host's would be wrong."""

SCRATCH = ("/tmp", "/run")
"""Where a jail has its own too, but where an application may live: shown last."""

DIRECTORIES = ("/dev", "/etc", "/proc", "/run", "/tmp", "/var")
"""What the root has besides the mount points of views."""

LINKS = (("/var/run", "/run"), ("/var/tmp", "/tmp"))
"""Links that a host root has besides the host's own."""

ROOT_SIZE = "1m"  # directories and mount points only


@dataclass(frozen=True, slots=True)
class View:
    """The host as far as each jail sees it.

    ``directories`` are made, each after the one above it; ``trees`` (directories) and ``files``
    are shown read-only; ``links`` are made.
    """

    directories: tuple[str, ...]
    trees: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[tuple[str, str], ...]


@functools.cache
def host_view() -> View:
    """Look at the host once in a process; a zygote does so before it forks."""
    found, links = ["/usr"], []
    for path in (*_top_level(), *(f"/etc/{name}" for name in ETC)):
        target = os.path.realpath(path)
        if os.path.islink(path) and target.startswith(("/usr/", "/proc/")):
            links.append((path, os.readlink(path)))
        elif os.path.exists(path):
            found.append(path)
    trees = tuple(path for path in found if os.path.isdir(path))
    files = tuple(path for path in found if not os.path.isdir(path))
    return View((), trees, files, tuple(links))


def _top_level() -> list[str]:
    """Return the directories beside /usr that programs know, links on most hosts today."""
    libraries = sorted(name for name in os.listdir("/") if name.startswith("lib"))
    return [f"/{name}" for name in ("bin", "sbin", *libraries)]


@functools.cache
def interpreter_trees() -> tuple[str, ...]:
    """Return the directories from which this interpreter imports."""
    package = os.path.dirname(os.path.abspath(donjon.__file__))
    found = [sys.base_prefix, sys.prefix, package]
    for name in sorted(os.listdir(package)):
        path = os.path.join(package, name)
        if os.path.islink(path) and os.path.isdir(path):  # a checkout; a wheel has none
            found.append(os.path.realpath(path))
    return tuple(outermost(found))


def outermost(found: Iterable[str]) -> list[str]:
    """Return ``found`` without what lies below another of them, in the order given."""
    kept: list[str] = []
    for path in found:
        if not any(is_below(path, other) for other in kept):
            kept = [other for other in kept if not is_below(other, path)]
            kept.append(path)
    return kept


def is_below(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or lies below it, by name."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def exposable(path: str, shown: Sequence[str]) -> bool:
    """Whether a path needs a view: it is not the whole host, not shown yet and not private."""
    clean = os.path.normpath(path)
    if clean == "/" or clean in SCRATCH:
        return False
    return not any(is_below(clean, other) for other in (*shown, *OWN))


def in_scratch(path: str) -> bool:
    """Whether ``path`` lies where the jail gets an empty file system."""
    return any(is_below(os.path.normpath(path), own) for own in SCRATCH)


def with_parents(paths_wanted: Iterable[str], made: Iterable[str] = ()) -> tuple[str, ...]:
    """Return what must be made for ``paths_wanted``, each after the one above it."""
    known = dict.fromkeys(made)
    order: dict[str, None] = {}
    for path in paths_wanted:
        current = ""
        for name in path.strip("/").split("/"):
            current = f"{current}/{name}"
            if current not in known:
                order[current] = None
    return tuple(order)


def top_of(path: str) -> str:
    """Return the first name of an absolute path."""
    return path.split("/", 2)[1]


def shared_tops(targets: Iterable[str]) -> tuple[str, ...]:
    """Return the top-level directories with views in which no target needs a mount point."""
    view = host_root()
    own = {top_of(path) for path in targets}
    found = dict.fromkeys(top_of(path) for path in (*view.trees, *view.files))
    return tuple(top for top in found if top not in own)


@functools.cache
def part(tops: frozenset[str], *, without: bool = False) -> View:
    """Return what of the host's root is below ``tops``, or what is not."""
    view = host_root()

    def wanted(path: str) -> bool:
        return (top_of(path) in tops) is not without

    return View(
        tuple(filter(wanted, view.directories)),
        tuple(filter(wanted, view.trees)),
        tuple(filter(wanted, view.files)),
        tuple(link for link in view.links if wanted(link[0])),
    )


@functools.cache
def host_root() -> View:
    """Return the whole view of a host root, this interpreter included.

    An interpreter below /tmp or /run is not in it: see ``late_trees``.
    """
    host = host_view()
    own = tuple(
        path
        for path in interpreter_trees()
        if not any(is_below(path, tree) for tree in (*host.trees, *SCRATCH))
    )
    trees = (*host.trees, *own)
    above = (os.path.dirname(path) for path in host.files)
    directories = with_parents((*DIRECTORIES, *above, *trees))
    links = [(link, to) for link, to in (*host.links, *LINKS) if link not in directories]
    return View(directories, trees, host.files, tuple(links))


def late_trees() -> tuple[str, ...]:
    """Return this interpreter's directories that must be shown in the jail's own /tmp or /run."""
    return tuple(path for path in interpreter_trees() if in_scratch(path))


def inside(path: str, links: Iterable[tuple[str, str]]) -> str:
    """Return where ``path`` is in a root with ``links``: what lies below a link is behind it."""
    for link, target in links:
        if is_below(path, link):
            behind = os.path.join(os.path.dirname(link), target)
            return os.path.normpath(behind + path[len(link) :])
    return path


def forget_host() -> None:
    """Look at the host again the next time: its files changed."""
    for looked in (host_view, host_root, part):
        looked.cache_clear()
