"""What a jail with ``rootfs = host`` shows of a customer's choice must be open to him anyway.

The paths of an application are mounted with root's rights. A mount of a directory shows it without
the directories above it, so that one below a closed home would be open inside: its name alone must
not be enough. Links are no way around this, because mounting follows only root's.
"""

from __future__ import annotations

import os

from donjon.errors import ConfigError
from donjon.jail import users
from donjon.jail.spec import JailSpec


def check(jail: JailSpec) -> None:
    """Raise ConfigError for a path of the application that its user cannot reach by himself.

    Only mode bits count: an access control list that lets him through is not read.
    """
    if jail.rootfs != "host":
        return
    uid, groups = users.resolve(jail).may()
    for path in jail.expose:
        closed = _closed_part(path, uid, groups)
        if closed:
            raise ConfigError(
                f"{path} cannot be shown in the jail",
                origin=jail.origins.get("rootfs"),
                reason=f"{closed} is closed to uid {uid}",
            )


def _closed_part(path: str, uid: int, groups: frozenset[int]) -> str:
    """Return the first directory on the way that ``uid`` may not search, "" if there is none."""
    part = "/"
    for name in path.split("/"):
        part = os.path.join(part, name)
        try:
            info = os.stat(part)
        except OSError:
            return ""  # missing: what mounts it says so
        if not _may_search(info, uid, groups):
            return part
    return ""


def _may_search(info: os.stat_result, uid: int, groups: frozenset[int]) -> bool:
    if info.st_uid == uid:
        return True  # he could open it to himself
    return bool(info.st_mode & (0o010 if info.st_gid in groups else 0o001))
