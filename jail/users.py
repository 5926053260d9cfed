# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""Who a jail's processes are: names become numbers, on the host and before the jail is.

What is not asked for follows the original, with one difference: a uid that is not root never keeps
root's group or root's supplementary groups. Its group is then that of its passwd entry, or the
number of the uid.
"""

from __future__ import annotations

import grp
import os
import pwd

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail.spec import JailSpec
from donjon.jail.step import Builtin, Context
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

_NOBODY_HAS = "donjon-name-service"  # so that every service of nsswitch.conf(5) is asked
_MAX_ID = 0xFFFFFFFE  # -1 means "leave as it is": setresuid(2)


@dataclass(frozen=True, slots=True)
class Identity:
    """Numbers to become; None leaves one as it is. ``groups`` are the supplementary ones."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None

    def may(self) -> tuple[int, frozenset[int]]:
        """Return uid and all groups of a process that has become this."""
        uid = os.geteuid() if self.uid is None else self.uid
        gid = os.getegid() if self.gid is None else self.gid
        return uid, frozenset((gid, *(self.groups or ())))


NOBODY_ELSE = Identity()
"""Nothing to become."""


ROOT_WARNING = "*** WARNING: you are running donjon as root !!! (use the --uid flag) ***"


def stays_root(jail: JailSpec) -> bool:
    """Whether who is started as root serves as the host's root (PRV-01)."""
    own_users = "user" in jail.clone_flags | jail.unshare | jail.unshare2
    return jail.uid is None and not (jail.keep_root or own_users)


def find_user(text: str, origin: Origin = DEFAULT) -> tuple[int, pwd.struct_passwd | None]:
    """Return the uid of a name or number, and its passwd entry.

    A name of digits wins over the number (PRV-02).
    """
    try:
        entry = pwd.getpwnam(text)
    except (KeyError, ValueError):
        number = _number(text, "user", origin)
        try:
            return number, pwd.getpwuid(number)
        except KeyError:
            return number, None
    return entry.pw_uid, entry


def find_group(text: str, origin: Origin = DEFAULT) -> int:
    """Return the gid of a name or number."""
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        return _number(text, "group", origin)


def _number(text: str, kind: str, origin: Origin) -> int:
    if text.isascii() and text.isdigit() and int(text) <= _MAX_ID:
        return int(text)
    raise JailError(f"unknown {kind} {text!r}", origin=origin, reason="no such name on this host")


def warm() -> None:
    """Let the C library load its name services now: every process forked later shares them."""
    for find in (pwd.getpwnam, grp.getgrnam):
        try:
            find(_NOBODY_HAS)
        except KeyError:
            continue
    os.getgrouplist("root", 0)


def resolve(spec: JailSpec) -> Identity:
    """Return the identity that ``spec`` asks for.

    Raises JailError for a name that this host does not know.
    """
    origins = spec.origins
    uid, entry = None, None
    if spec.uid is not None:
        uid, entry = find_user(spec.uid, origins.get("uid", DEFAULT))
    gid = None
    if spec.gid is not None:
        gid = find_group(spec.gid, origins.get("gid", DEFAULT))
    elif uid:
        gid = entry.pw_gid if entry else uid
    return Identity(uid, gid, _groups(spec, entry, gid))


def _groups(
    spec: JailSpec, entry: pwd.struct_passwd | None, gid: int | None
) -> tuple[int, ...] | None:
    """add-gid replaces the list; else that of the user's name, else none (uwsgi-facts 3.9)."""
    if spec.add_gids:
        origin = spec.origins.get("add_gids", DEFAULT)
        return tuple(find_group(text, origin) for text in spec.add_gids)
    if gid is None:
        return None
    if entry is None or spec.no_initgroups:
        return ()
    return tuple(os.getgrouplist(entry.pw_name, gid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Become(Builtin):
    """Groups first, the uid last: after it there is no right to change the others.

    The kernel clears the parent-death signal when an id changes (PR_SET_PDEATHSIG in prctl(2)); so
    it is set again.
    """

    identity: Identity

    def describe(self) -> str:
        who = self.identity
        parts = []
        if who.groups is not None:
            parts.append(f"groups {' '.join(map(str, who.groups)) or 'none'}")
        if who.gid is not None:
            parts.append(f"gid {who.gid}")
        if who.uid is not None:
            parts.append(f"uid {who.uid}")
        return f"become {', '.join(parts)}"

    def execute(self, context: Context) -> None:
        signal = syscalls.prctl(syscalls.PR_GET_PDEATHSIG)
        become(self.identity)
        if signal:
            syscalls.set_pdeathsig(signal)


def become(who: Identity) -> None:
    """Take on ``who`` for good, and check that it is so. Raises OSError or JailError."""
    if who.groups is not None:
        syscalls.fault("setgroups")
        os.setgroups(who.groups)
    if who.gid is not None:
        syscalls.fault("setresgid")
        os.setresgid(who.gid, who.gid, who.gid)
    if who.uid is not None:
        syscalls.fault("setresuid")
        os.setresuid(who.uid, who.uid, who.uid)
    uids, gids = set(os.getresuid()), set(os.getresgid())
    if (who.uid is not None and uids != {who.uid}) or (who.gid is not None and gids != {who.gid}):
        raise JailError("privileges were not dropped", reason="the kernel kept another id")
