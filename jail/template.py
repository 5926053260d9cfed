"""What every ``rootfs = host`` shares, put together once: jails copy whole mounts of it.

The template is a file system in memory with the views of the host (``hostview.host_root``) and a
/dev; it is mounted nowhere, only a descriptor leads to it. A jail takes its top-level
directories, each with all mounts below, by one open_tree(2). That needs Linux 6.15, which can
copy from and mount into detached trees; on older kernels, and where the descriptor was closed, a
jail is put together view by view.

The template is read-only: its directories belong to all jails. A jail that needs a mount point
of its own below one of them gets that top-level directory made for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from donjon import log
from donjon.fd import Fd
from donjon.jail import mounts
from donjon.records import dataclass


@dataclass(frozen=True, slots=True)
class Template:
    """The tree's descriptor, its device number to know it again, and the names it offers."""

    number: int
    device: int
    tops: frozenset[str]
    seen: tuple[tuple[str, int, int], ...] = ()  # path, device, inode of each view


_kept: list[Template] = []  # none or one: this process's


def keep(template: Template) -> None:
    """Make ``template`` this process's; its children inherit it."""
    forget()
    _kept.append(template)


def replace(template: Template) -> None:
    """Make ``template`` this process's in place of another whose descriptor it took over."""
    _kept[:] = [template]


def lend() -> Template | None:
    """Return this process's template, None if its descriptor is gone or something else."""
    if not _kept:
        return None
    template = _kept[0]
    try:
        device = os.fstat(template.number).st_dev
    except OSError:
        device = -1
    if device == template.device:
        return template
    _kept.clear()
    return None


def descriptors() -> tuple[int, ...]:
    """Return the descriptors that a newborn keeps until its root is entered."""
    template = lend()
    return (template.number,) if template else ()


def forget() -> None:
    """Close the template: a jail does so before anything of its own runs."""
    template = lend()
    if template:
        os.close(template.number)
    _kept.clear()


def identities(found: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether a path is the file that it was: device and inode."""
    result = []
    for path in found:
        try:
            info = os.stat(path)
            result.append((path, info.st_dev, info.st_ino))
        except OSError:
            result.append((path, 0, 0))
    return tuple(result)


def is_stale(template: Template) -> bool:
    """Whether a file of the host's that ``template`` shows has been replaced by another."""
    return template.seen != identities(path for path, _, _ in template.seen)


def copy(name: str, target: int, at: str = "") -> Fd | None:
    """Attach the template's ``name``, with all below it, at ``at`` under ``target``.

    Return the mount, or None if there was none to copy.
    """
    template = lend()
    if template is None or name not in template.tops:
        return None
    try:
        tree = mounts.clone_at(template.number, name)
    except OSError as error:
        log.debug(f"the template of host roots cannot be copied: {error}")
        return None
    try:
        mounts.attach(tree, target, at)
    except OSError:
        tree.close()
        raise
    return tree
