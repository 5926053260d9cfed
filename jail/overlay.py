# ruff: noqa: D102  (what describe and execute are is said by Step)
"""A root of layers: ``rootfs = overlay:LOWER[,LOWER…][:UPPER]``, overlayfs (kernel docs).

The lower layers are read-only and shared by as many jails as you like. What a jail writes is in
``UPPER/upper``, beside the ``UPPER/work`` that overlayfs wants; without UPPER both are in memory
and end with the jail. Layers are opened without following a customer's links and named by
descriptor, so the mount table of the jail shows no path of the host.

What a customer may have put into his upper layer opens nothing: redirections and metadata-only
files (``redirect_dir``, ``metacopy``) are not followed, devices and set-user-id programs are dead
(nosuid, nodev). A file system below a LOWER is not seen: overlayfs takes one layer as it is.

Two jails must never write to one upper layer. The kernel marks it while it is mounted and answers
EBUSY to who asks with ``index=on``; we ask, with a mount that cannot be, before ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import mountmaps, mounts, oldmounts, paths, reset, rootfs
from donjon.jail.rootspec import OverlayRoot
from donjon.jail.step import Builtin, Context
from donjon.origin import Origin
from donjon.records import dataclass

UPPER, WORK, LOCK = "upper", "work", "lock"
MEMORY_SIZE = "256m"
"""Of an upper layer in memory, unless ``size=`` says otherwise."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCKING = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PATIENCE = 5.0  # seconds for the kernel to end the mounts of a jail that just died
_PAUSE = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOverlayRoot(Builtin):
    """The layers, mounted and stacked over ``/``; ``reset`` empties the upper one first."""

    root: OverlayRoot
    in_user_namespace: bool = False
    reset: bool = False

    def describe(self) -> str:
        if self.root.upper is None:
            kept = f"in memory, {self.root.size or MEMORY_SIZE} of it"
        else:
            kept = f"in {self.root.upper}" + (", emptied first" if self.reset else "")
        return f"take {' over '.join(self.root.lowers)} as the root; what is written is {kept}"

    def execute(self, context: Context) -> None:
        with ExitStack() as held:
            lowers = [held.enter_context(self._lower(context, path)) for path in self.root.lowers]
            if self.root.upper is None:
                keeper = held.enter_context(memory(context, self.root.size or MEMORY_SIZE))
            else:
                keeper = held.enter_context(locked(self.root.upper, self.origin))
                _wait_until_free(keeper, self.root.upper)
                if self.reset:
                    empty(keeper, self.root.upper)
                _make_writable(keeper)
            tree = layered(lowers, keeper, in_user_namespace=self.in_user_namespace)
            rootfs.stack_over(context, tree)
            context.descriptors[mounts.ROOT] = tree.release()

    def _lower(self, context: Context, path: str) -> Fd:
        """Open a layer; in a user namespace the one that was lent, with the jail's owners."""
        lent = mountmaps.take(mountmaps.ROOT + path) if self.in_user_namespace else None
        if lent is None:
            return _lower(path)
        rootfs.stack_between(context, lent)
        return lent


def _lower(path: str) -> Fd:
    found = paths.open_source(path)
    with contextlib.ExitStack() as undo:
        undo.push(found)
        if not os.path.isdir(oldmounts.path_of(found.fileno())):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        undo.pop_all()
    return found


def memory(context: Context, size: str) -> Fd:
    """Return a file system in memory with an upper layer in it, between the two roots.

    Before Linux 6.15 a layer must be part of a mount that is attached.
    """
    tree = mounts.new_filesystem("tmpfs", {"mode": "755", "size": size}, mounts.SAFE)
    rootfs.stack_between(context, tree)
    _make_writable(tree)
    return tree


def _make_writable(keeper: Fd) -> None:
    """Make the two directories; what stands in their place must be directories, not links."""
    for name, mode in ((UPPER, 0o755), (WORK, 0o700)):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=keeper.fileno())
        try:
            os.close(os.open(name, _DIRECTORY, dir_fd=keeper.fileno()))
        except OSError as error:
            raise OSError(error.errno, error.strerror, name) from error


def layered(lowers: list[Fd], keeper: Fd, *, in_user_namespace: bool = False) -> Fd:
    """Return the mount of the layers, detached. Raises JailError in the kernel's own words."""
    with ExitStack() as held:
        upper, work = (
            held.enter_context(Fd(os.open(name, _DIRECTORY, dir_fd=keeper.fileno())))
            for name in (UPPER, WORK)
        )
        options: dict[str, str | None] = {
            "lowerdir": ":".join(oldmounts.path_of(lower.fileno()) for lower in lowers),
            "upperdir": oldmounts.path_of(upper.fileno()),
            "workdir": oldmounts.path_of(work.fileno()),
            "redirect_dir": "nofollow",
            "metacopy": "off",
            "index": "off",
        }
        if in_user_namespace:
            options["userxattr"] = None  # trusted.* is for the host's root
        return mounts.new_filesystem("overlay", options, mounts.SAFE)


@contextlib.contextmanager
def locked(path: str, origin: Origin | None = None) -> Iterator[Fd]:
    """Open UPPER and hold it against other starts and resets. Raises JailError, OSError.

    By a file that nobody else can open: whoever may read a directory may flock(2) it.
    """
    with (
        paths.open_source(path) as found,
        Fd(
            os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found.fileno())
        ) as kept,
        Fd(os.open(LOCK, _LOCKING, 0o600, dir_fd=kept.fileno())) as lock,
    ):
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JailError(
                f"cannot use the upper layer {path}",
                origin=origin,
                reason="another jail that has it is being started or reset",
            ) from error
        yield kept


def _wait_until_free(keeper: Fd, path: str) -> None:
    """The mounts of a process that is gone end a little later, and the kernel tells nobody."""
    deadline = time.monotonic() + _PATIENCE
    while in_use(keeper):
        if time.monotonic() > deadline:
            raise JailError(
                f"cannot use the upper layer {path}",
                reason="a running jail has it, and two would spoil it",
                hint="give each vassal an UPPER of its own",
            )
        time.sleep(_PAUSE)


def in_use(keeper: Fd) -> bool:
    """Whether some overlay of this machine writes to the upper layer.

    The work directory is named in another mount than the upper one, which overlayfs refuses, but
    only after it looked whether the upper one is in use; so nothing is changed by asking.
    """
    with ExitStack() as held:
        try:
            upper = held.enter_context(Fd(os.open(UPPER, _DIRECTORY, dir_fd=keeper.fileno())))
        except OSError:
            return False  # never used, or not by us
        other = held.enter_context(mounts.clone_at(keeper.fileno(), recursive=False))
        options: dict[str, str | None] = {
            "lowerdir": oldmounts.path_of(other.fileno()),
            "upperdir": oldmounts.path_of(upper.fileno()),
            "workdir": oldmounts.path_of(other.fileno()),
            "index": "on",
        }
        try:
            mounts.new_filesystem("overlay", options, mounts.SAFE).close()
        except JailError as error:
            cause = error.__cause__
            return isinstance(cause, OSError) and cause.errno == errno.EBUSY
    return False


def empty(keeper: Fd, path: str) -> None:
    """Take all that was written away. Raises JailError."""
    try:
        reset.empty(keeper.fileno(), (UPPER, WORK))
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise JailError(
            f"cannot empty the upper layer {path}", reason=f"{name}{reason_of(error)}"
        ) from error


def to_base(path: str) -> None:
    """Empty the upper layer of a jail that does not run: ``donjon reset``. Raises JailError.

    To be called by a process that then ends: it leaves the mount namespace that it was in.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    try:
        with locked(path) as keeper:
            if in_use(keeper):
                raise JailError(
                    f"cannot reset {path}",
                    reason="a running jail writes to it",
                    hint="stop it first: donjon stop NAME",
                )
            empty(keeper, path)
    except OSError as error:
        raise JailError(f"cannot reset {path}", reason=reason_of(error)) from error
