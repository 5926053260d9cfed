# ruff: noqa: D102  (what describe and execute are is said by Step)
"""What a jail with a user namespace cannot mount itself, and is lent by a process outside.

Mounts with mapped owners (``mountmaps``), and the file system of an image: the kernel leaves both
to the host's root. A LOWER of an overlay that belongs to root is lent as well, with the jail's own
map, so that one distribution is root's inside every jail; where its file system cannot be mapped
it is taken as it is, and its files are nobody's.
"""

from __future__ import annotations

import os

from donjon import log
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import image, mountmaps, mounts, paths, rootspec, userns, users
from donjon.jail.idmap import IdMap
from donjon.jail.spec import JailSpec
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass


def is_needed(spec: JailSpec) -> bool:
    """Whether a process that is born in a user namespace must be lent something."""
    return _lendable(spec) is not None or any(bind.idmap for bind in spec.binds)


def lend(spec: JailSpec) -> None:
    """Make what a process that is born in a user namespace needs; all or none.

    Raises JailError. ``mountmaps.forget()`` closes what was made, once the process is born.
    """
    root = _lendable(spec)
    wanted = tuple(bind for bind in spec.binds if bind.idmap)
    if root is None and not wanted:
        return
    maps = userns.map_of(spec, users.resolve(spec))
    try:
        mountmaps.lend_binds(wanted, maps)
        if root is not None:
            _lend_root(root, maps)
    except JailError as error:
        mountmaps.forget()
        error.origin = error.origin or spec.origins.get("rootfs")
        raise


def _lendable(spec: JailSpec) -> rootspec.OverlayRoot | rootspec.ImageRoot | None:
    try:
        root = rootspec.parse(spec.rootfs) if spec.rootfs else None
    except ValueError:
        return None  # the plan says what is wrong with it
    return root if isinstance(root, rootspec.OverlayRoot | rootspec.ImageRoot) else None


def _lend_root(root: rootspec.OverlayRoot | rootspec.ImageRoot, maps: IdMap) -> None:
    try:
        if isinstance(root, rootspec.ImageRoot):
            mountmaps.keep(
                mountmaps.ROOT + root.path, _mapped(image.mounted(root.path), root, maps)
            )
            return
        for lower in root.lowers:
            with paths.open_source(lower) as source:
                if os.fstat(source.fileno()).st_uid == 0:
                    tree = mounts.clone_at(source.fileno(), recursive=False)
                    mountmaps.keep(mountmaps.ROOT + lower, _mapped(tree, root, maps))
    except OSError as error:
        raise JailError(f"cannot use the root {root}", reason=reason_of(error)) from error


def _mapped(tree: Fd, root: object, maps: IdMap) -> Fd:
    try:
        mountmaps.apply(tree, str(root), maps, recursive=False)
    except JailError as error:
        log.debug(str(error))
    return tree


@dataclass(frozen=True, slots=True, kw_only=True)
class LendRoot(Builtin):
    """Make the parts of the root while this process is still outside its user namespace."""

    root: rootspec.OverlayRoot | rootspec.ImageRoot
    ids: IdMap

    def describe(self) -> str:
        what = (
            f"the image {self.root.path}"
            if isinstance(self.root, rootspec.ImageRoot)
            else " ".join(self.root.lowers)
        )
        return f"hold {what} for the user namespace"

    def execute(self, context: Context) -> None:  # noqa: ARG002  (a Step's)
        _lend_root(self.root, self.ids)
