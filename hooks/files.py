"""Actions on files and directories. Paths are used as written, with this process's rights."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import time

from donjon.hooks.action import ActionError, Scene, Words, first_and_rest, is_variable, words

_SPIN = 0.05  # seconds between two looks for a reader


def change_directory(args: Words, _scene: Scene) -> None:
    """cd DIR: chdir(2)."""
    os.chdir(args[0])


def make_directory(args: Words, _scene: Scene) -> None:
    """mkdir DIR: mode 0777 less the umask; one that exists is an error, as mkdir(2) says."""
    os.mkdir(args[0])


def create(args: Words, _scene: Scene) -> None:
    """creat FILE: made, or emptied."""
    _put(args[0], "", os.O_TRUNC)


def write(args: Words, _scene: Scene) -> None:
    """write FILE TEXT."""
    _put(args[0], args[1], os.O_TRUNC)


def write_line(args: Words, _scene: Scene) -> None:
    """writen FILE TEXT: with a newline."""
    _put(args[0], args[1] + "\n", os.O_TRUNC)


def append(args: Words, _scene: Scene) -> None:
    """append FILE TEXT."""
    _put(args[0], args[1], os.O_APPEND)


def append_line(args: Words, _scene: Scene) -> None:
    """appendn FILE [TEXT]: with a newline."""
    _put(args[0], args[1] + "\n", os.O_APPEND)


def _put(path: str, text: str, how: int) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o666)
    try:
        _write_all(number, text)
    finally:
        os.close(number)


def _write_all(number: int, text: str) -> None:
    data = os.fsencode(text)
    while data:
        data = data[os.write(number, data) :]


def remove(args: Words, _scene: Scene) -> None:
    """unlink FILE."""
    os.unlink(args[0])


def write_fifo(args: Words, _scene: Scene) -> None:
    """writefifo FILE TEXT: nobody reading is no failure (fifo(7): ENXIO)."""
    _try_fifo(args[0], args[1])


def write_fifo_when_read(args: Words, _scene: Scene) -> None:
    """spinningfifo FILE TEXT: waits until somebody reads."""
    while not _try_fifo(args[0], args[1]):
        time.sleep(_SPIN)


def _try_fifo(path: str, text: str) -> bool:
    """Write to a fifo that has a reader; return False if it has none."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    try:
        _write_all(number, text)
    finally:
        os.close(number)
    return True


def parse_mode(text: str) -> Words:
    """FILE MODE, the mode in three or four octal digits."""
    path, mode = words(2)(text)
    if not is_variable(mode):
        octal(mode)
    return path, mode


def octal(mode: str) -> int:
    """Read a mode of three or four octal digits. Raises ValueError."""
    if len(mode) not in (3, 4) or not set(mode) <= set("01234567"):
        raise ValueError(f"a mode is three or four octal digits, not {mode}")
    return int(mode, 8)


def change_mode(args: Words, _scene: Scene) -> None:
    """chmod FILE MODE."""
    try:
        mode = octal(args[1])
    except ValueError as error:
        raise ActionError(str(error)) from error
    os.chmod(args[0], mode)


def set_sticky(args: Words, _scene: Scene) -> None:
    """sticky PATH: adds the sticky bit (inode(7)) and keeps the rest of the mode."""
    os.chmod(args[0], stat.S_IMODE(os.stat(args[0]).st_mode) | stat.S_ISVTX)


def parse_owner_names(text: str) -> Words:
    """FILE USER GROUP as names. They are looked up now, on the host, never in a jail's files."""
    path, user, group = words(3)(text)
    return path, *resolve_owner(user, group)


def resolve_owner(user: str, group: str) -> Words:
    """Turn names into numbers. Raises ValueError; a ``$NAME`` is left for later."""
    try:
        uid = user if is_variable(user) else str(pwd.getpwnam(user).pw_uid)
    except KeyError:
        raise ValueError(f"no user {user}") from None
    try:
        gid = group if is_variable(group) else str(grp.getgrnam(group).gr_gid)
    except KeyError:
        raise ValueError(f"no group {group}") from None
    return uid, gid


def change_owner_by_name(args: Words, scene: Scene) -> None:
    """chown FILE USER GROUP: what came from a variable is a name still."""
    path, user, group = args
    try:
        uid, gid = (
            user if user.isdecimal() else resolve_owner(user, "root")[0],
            group if group.isdecimal() else resolve_owner("root", group)[1],
        )
    except ValueError as error:
        raise ActionError(str(error)) from error
    change_owner((path, uid, gid), scene)


def parse_owner_numbers(text: str) -> Words:
    """FILE UID GID as numbers."""
    path, uid, gid = words(3)(text)
    for word in (uid, gid):
        if not word.isdecimal() and not is_variable(word):
            raise ValueError(f"chown2 takes numbers, not {word}; chown takes names")
    return path, uid, gid


def change_owner(args: Words, _scene: Scene) -> None:
    """chown2 FILE UID GID: follows symbolic links, as chown(2) does."""
    path, uid, gid = args
    if not (uid.isdecimal() and gid.isdecimal()):
        raise ActionError(f"not numbers: {uid} {gid}")
    os.chown(path, int(uid), int(gid))


def parse_text(text: str) -> Words:
    """FILE TEXT: the text may hold blanks."""
    return first_and_rest(text)
