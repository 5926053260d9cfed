"""What can be said of a root before it is put together: it is there, and it is nobody else's."""

from __future__ import annotations

import os

from donjon.errors import JailError, reason_of
from donjon.jail import image
from donjon.jail.rootspec import DirectoryRoot, ImageRoot, OverlayRoot, Root
from donjon.origin import Origin


def check(root: Root | None, origin: Origin) -> None:
    """Raise JailError for a root that cannot work."""
    if isinstance(root, DirectoryRoot):
        _check_directory("rootfs", root.path, origin)
    elif isinstance(root, OverlayRoot):
        for lower in root.lowers:
            _check_directory("rootfs: LOWER", lower, origin)
        if root.upper is not None:
            _check_directory("rootfs: UPPER", root.upper, origin)
            _check_apart(root.upper, root.lowers, origin)
    elif isinstance(root, ImageRoot):
        _check_image(root.path, origin)


def _check_directory(what: str, path: str, origin: Origin) -> None:
    if not os.path.isdir(path):
        raise JailError(f"{what} {path} is not a directory", origin=origin)
    if os.path.realpath(path) == "/":
        raise JailError(f"{what} cannot be the host's root", origin=origin, hint="rootfs = host")


def _check_apart(upper: str, lowers: tuple[str, ...], origin: Origin) -> None:
    """Refuse layers that are one inside the other behind links; by name the parser did."""
    real = os.path.realpath(upper)
    for lower in lowers:
        other = os.path.realpath(lower)
        if os.path.commonpath((real, other)) in (real, other):
            raise JailError(
                f"rootfs: UPPER {upper} and LOWER {lower} are one inside the other", origin=origin
            )


def _check_image(path: str, origin: Origin) -> None:
    try:
        with image.open_image(path) as backing:
            image.kind_of(backing, path)
    except OSError as error:
        raise JailError(
            f"cannot use the image {path}", origin=origin, reason=reason_of(error)
        ) from error
    except JailError as error:
        error.origin = error.origin or origin
        raise
