"""Paths become descriptors here, once, and nothing looks a path up again.

A customer may own directories on the way to a mount source or a mount point, and may put a
symbolic link there or swap one in between check and use. So a path is walked once, to an
``O_PATH`` descriptor, and mounted by it:

- a *source* is on the host. Links that root made are followed (``/var/run``), anybody else's are
  refused, as ``fs.protected_symlinks`` does for /tmp.
- a *target* is below a root that a customer may own. No link is followed at all
  (``RESOLVE_NO_SYMLINKS``), and ``RESOLVE_IN_ROOT`` keeps ``..`` inside: openat2(2). Where there
  is no such call the path is walked part by part.
"""

from __future__ import annotations

import errno
import os
import stat

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd

O_PATH = os.O_PATH | os.O_CLOEXEC
_NO_LINKS = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_IN_ROOT = syscalls.RESOLVE_IN_ROOT | _NO_LINKS
_MAX_LINKS = 40  # path_resolution(7)
_NO_PLACE = "it is not there and cannot be made; over rootfs = overlay:DIR it can"
_OVERFLOW_UID = 65534  # owner of what a user namespace does not map: user_namespaces(7)


def open_source(path: str) -> Fd:
    """Open ``path`` of the host for mounting.

    Raises OSError, or JailError for a link that is not root's.
    """
    try:
        return Fd(syscalls.openat2(syscalls.AT_FDCWD, path, O_PATH, resolve=_NO_LINKS))
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOSYS):
            raise
    return _walk(path)


def open_target(root: int, path: str, *, directory: bool = True) -> Fd:
    """Open the mount point ``path`` below ``root``; what is missing of it is created.

    Raises JailError where a link stands in the way, or a file where a directory must be.
    """
    relative = path.lstrip("/") or "."
    kind = os.O_DIRECTORY if directory else 0
    try:
        try:
            return _open_below(root, relative, kind)
        except FileNotFoundError:
            return _create(root, relative, directory=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise JailError(
                f"cannot mount on {path}",
                reason="it is, or passes through, a symbolic link",
                hint="a mount point must be a plain path, so that nobody can turn it elsewhere",
            ) from error
        hint = _NO_PLACE if error.errno == errno.EROFS else ""
        raise JailError(f"cannot mount on {path}", reason=reason_of(error), hint=hint) from error


def open_existing(root: int, path: str, why: str = "use") -> Fd | None:
    """Open ``path`` below ``root``, None if it is not there. Raises JailError for a link."""
    try:
        return _open_below(root, path.lstrip("/") or ".", 0)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise JailError(
            f"cannot {why} {path}", reason="it is, or passes through, a symbolic link"
        ) from error


def exists(root: int, path: str) -> bool:
    """Whether ``path`` is in ``root``, behind links of that root too, be it a link to nothing."""
    relative = path.lstrip("/") or "."
    flags = O_PATH | os.O_NOFOLLOW
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    try:
        os.close(syscalls.openat2(root, relative, flags, resolve=resolve))
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return _is_there(root, relative)
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise  # nobody knows then
        return False
    return True


def _is_there(root: int, path: str) -> bool:
    """Do without openat2(2): a link counts as there, whatever it leads to."""
    try:
        _step_down(root, path, 0).close()
    except OSError as error:
        return error.errno == errno.ELOOP
    return True


def _open_below(root: int, path: str, kind: int) -> Fd:
    """Open ``path`` below ``root`` through no link. Raises OSError, ELOOP for one."""
    try:
        return Fd(syscalls.openat2(root, path, O_PATH | kind, resolve=_IN_ROOT))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    return _step_down(root, path, kind)


def _step_down(root: int, path: str, kind: int) -> Fd:
    """Do the same part by part; where no link is followed, ``..`` is what the text says."""
    names = [name for name in os.path.normpath(f"/{path}").split("/") if name]
    held = Fd(os.dup(root))
    for name in names:
        with held as parent:
            held = Fd(os.open(name, O_PATH | os.O_NOFOLLOW, dir_fd=parent.fileno()))
        if stat.S_ISLNK(os.fstat(held.fileno()).st_mode):
            held.close()
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    if kind and not stat.S_ISDIR(os.fstat(held.fileno()).st_mode):
        held.close()
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return held


def _create(root: int, path: str, *, directory: bool) -> Fd:
    """Make each missing part of ``path``, holding on to the directory above it."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise OSError(errno.EINVAL, "a mount point that is missing cannot be named with ..")
    held = Fd(os.dup(root))
    for index, name in enumerate(names):
        last = index == len(names) - 1
        with held:
            held = _open_or_make(held.fileno(), name, directory=directory or not last)
    return held


def _open_or_make(parent: int, name: str, *, directory: bool) -> Fd:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.mknod(name, stat.S_IFREG | 0o444, dir_fd=parent)
    except FileExistsError:
        pass  # an earlier part of the path, or one made at this moment: opened without links below
    return _open_below(parent, name, os.O_DIRECTORY if directory else 0)


def _walk(path: str) -> Fd:
    """Open ``path`` part by part, following only links that root made."""
    pending = [name for name in reversed(path.split("/")) if name]
    current = Fd(os.open("/" if path.startswith("/") else ".", O_PATH))
    links = 0
    while pending:
        name = pending.pop()
        with current as parent:
            current = Fd(os.open(name, O_PATH | os.O_NOFOLLOW, dir_fd=parent.fileno()))
            info = os.fstat(current.fileno())
            if not stat.S_ISLNK(info.st_mode):
                continue
            links += 1
            target = _trusted_link(path, current, info, links)
            pending += [part for part in reversed(target.split("/")) if part]
            current.close()
            current = Fd(os.open("/", O_PATH)) if target[0] == "/" else Fd(os.dup(parent.fileno()))
    return current


def _trusted_link(path: str, link: Fd, info: os.stat_result, links: int) -> str:
    """Return where ``link`` points. Raises JailError unless root made it."""
    if links > _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    if info.st_uid != 0 and not (info.st_uid == _OVERFLOW_UID and _in_user_namespace()):
        raise JailError(
            f"cannot mount {path}",
            reason=f"a symbolic link of uid {info.st_uid} is on the way",
            hint="name the real path: only links that root made are followed",
        )
    return os.readlink("", dir_fd=link.fileno())


def _in_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="utf-8") as text:
        return text.read().split() != ["0", "0", "4294967295"]
