"""The small acts of a start that are no steps of the jail. A failure names option and line."""

from __future__ import annotations

import os

from donjon import log
from donjon.errors import DonjonError, JailError, reason_of
from donjon.instance.fallback import EMPEROR_FD
from donjon.jail import users
from donjon.jail.spec import JailSpec
from donjon.jail.users import Identity
from donjon.origin import DEFAULT, Origin


def become_at_once(jail: JailSpec) -> None:
    """``immediate-gid`` and ``immediate-uid``: before any hook; never root (uwsgi-facts 3.9)."""
    if jail.immediate_gid is not None:
        origin = jail.origins.get("immediate_gid", DEFAULT)
        gid = users.find_group(jail.immediate_gid, origin)
        _become(Identity(None, gid, ()), gid, "immediate-gid", origin)
    if jail.immediate_uid is not None:
        origin = jail.origins.get("immediate_uid", DEFAULT)
        uid, _ = users.find_user(jail.immediate_uid, origin)
        _become(Identity(uid, None, None), uid, "immediate-uid", origin)


def _become(identity: Identity, number: int, option: str, origin: Origin) -> None:
    if number == 0:
        raise JailError(f"{option} cannot be root", origin=origin)
    try:
        users.become(identity)
    except OSError as error:
        raise JailError(
            f"cannot become {number}", origin=origin, reason=reason_of(error)
        ) from error


def control_socket() -> int:
    """Return the number of the control socket that the environment names, -1 for none."""
    text = os.environ.get(EMPEROR_FD, "")
    if not text.isdecimal():
        return -1
    try:
        os.fstat(int(text))
    except OSError as error:
        raise DonjonError(
            f"{EMPEROR_FD}={text} is no open descriptor",
            reason=reason_of(error),
            hint="unset it to start without an Emperor",
        ) from error
    return int(text)


def write_file(text: str, origin: Origin) -> None:
    """``file-write = FILE=TEXT``: the text and a newline replace the content of the file."""
    path, equals, value = text.partition("=")
    if not equals:
        raise DonjonError(f"bad file-write {text}", origin=origin, hint="write FILE=TEXT")
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(value + "\n")
    except OSError as error:
        raise DonjonError(
            f"cannot write {path}", origin=origin, reason=reason_of(error)
        ) from error


def change_directory(path: str, origin: Origin | None) -> None:
    """``chdir``."""
    try:
        os.chdir(path)
    except OSError as error:
        raise DonjonError(
            f"cannot change to {path}", origin=origin, reason=reason_of(error)
        ) from error


def warn_about_root(jail: JailSpec) -> None:
    """Say in the log that an instance serves as the host's root (PRV-01)."""
    if os.geteuid() == 0 and users.stays_root(jail):
        log.write(users.ROOT_WARNING)
