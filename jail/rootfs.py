# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""The root file system of a jail: what ``rootfs = host`` or ``rootfs = DIR`` becomes.

``host``: an empty file system in memory, read-only in the end, with read-only views of what a
program of the host needs: /usr, a few files of /etc, this interpreter with its environment and
this program, and the application's own paths. ``DIR``: that directory, as it is, without
set-user-id programs and devices.

Both get a /proc, a minimal /dev, and a /tmp and /run of their own. The old root is detached before
anything of the jail's runs; no path and no descriptor leads to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import hostview, mountmaps, mounts, oldmounts, paths, template
from donjon.jail.hostview import View
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHostRoot(Builtin):
    """An empty root with what every jail sees of the host and of this interpreter.

    ``shared`` are the top-level directories that a template may give whole; ``own`` is all else.
    Only root can change these paths, so they are opened by name. The whole becomes read-only by
    one call of ``SealViews``.
    """

    own: View
    shared: tuple[str, ...] = ()

    def describe(self) -> str:
        view = hostview.host_root()
        shown = (*view.trees, *view.files)
        etc = [path for path in shown if hostview.is_below(path, "/etc")]
        others = [path for path in shown if path not in etc]
        return f"make an empty root; show {' '.join(others)} and {len(etc)} files of /etc"

    def execute(self, context: Context) -> None:
        options: dict[str, str | None] = {"mode": "755", "size": hostview.ROOT_SIZE}
        root = mounts.new_filesystem("tmpfs", options, mounts.SAFE)
        stack_over(context, root)
        context.descriptors[mounts.ROOT] = number = root.release()
        missing = self._copy(number)
        if missing:
            fill(number, hostview.part(frozenset(missing)))
        fill(number, self.own)

    def _copy(self, root: int) -> tuple[str, ...]:
        """Take top-level directories from the zygote's template; return those it does not have."""
        lent = template.lend()
        if lent is None or template.is_stale(lent):
            return self.shared
        for index, top in enumerate(self.shared):
            os.mkdir(top, 0o755, dir_fd=root)
            tree = template.copy(top, root, top)
            if tree is None:
                os.rmdir(top, dir_fd=root)
                return self.shared[index:]
            tree.close()
        return ()


def fill(root: int, view: View) -> None:
    """Make directories, links and views in a root that does not have them yet."""
    for path in view.directories:
        os.mkdir(path[1:], 0o755, dir_fd=root)
    for link, target in view.links:
        os.symlink(target, link[1:], dir_fd=root)
    for path in view.trees:
        _show(root, path)
    for path in view.files:
        os.mknod(path[1:], stat.S_IFREG | 0o444, dir_fd=root)
        _show(root, path)


def _show(root: int, path: str) -> None:
    """Show ``path`` at the same place. What is gone since the view was made is not shown."""
    if oldmounts.lacking():
        with contextlib.suppress(FileNotFoundError), mounts.clone_path(path) as view:
            mounts.attach(view, root, path[1:])
        return
    try:
        tree = syscalls.open_tree(syscalls.AT_FDCWD, path, mounts.CLONE | syscalls.AT_RECURSIVE)
    except FileNotFoundError:
        return
    try:
        syscalls.move_mount(tree, "", root, path[1:], syscalls.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDirectoryRoot(Builtin):
    """A directory of the host's, with the mounts below it, as the root."""

    directory: str

    def describe(self) -> str:
        return f"take {self.directory} as the root"

    def execute(self, context: Context) -> None:
        with paths.open_source(self.directory) as source:
            if not stat.S_ISDIR(os.fstat(source.fileno()).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.directory)
            root = mounts.clone_at(source.fileno())
        mounts.set_attributes(root, mounts.SAFE)
        stack_over(context, root)
        context.descriptors[mounts.ROOT] = root.release()


def stack_over(context: Context, root: Fd) -> None:
    """Attach the new root over ``/``; lookups still begin in the old one below it."""
    mounts.refuse_host_namespace(context)
    mounts.attach_path(root, "/")
    old = context.descriptors.pop(mounts.ROOT, -1)
    if old >= 0:
        os.close(old)


def stack_between(context: Context, tree: Fd) -> None:
    """Attach a file system over ``/`` that the new root needs; it goes with the old root."""
    mounts.refuse_host_namespace(context)
    mounts.attach_path(tree, "/")
    context.stacked += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Builtin):
    """Views of the host's at the same paths, in a root that nobody else knows yet."""

    trees: tuple[str, ...]
    why: str

    def describe(self) -> str:
        return f"show {self.why}: {' '.join(self.trees)}"

    def execute(self, context: Context) -> None:
        root = mounts.root_of(context)
        for path in self.trees:
            with (
                paths.open_source(path) as source,
                mounts.clone_at(source.fileno()) as tree,
            ):
                mounts.show(tree, root, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealViews(Builtin):
    """Make all that was shown read-only at once; mount points can still be made in the root."""

    def describe(self) -> str:
        return "make what is shown read-only, without set-user-id programs and devices"

    def execute(self, context: Context) -> None:
        root = mounts.root_of(context)
        if oldmounts.lacking():
            oldmounts.set_attributes(root, mounts.READ_ONLY, recursive=True)
            oldmounts.set_attributes(root, 0, recursive=False, clear=syscalls.MOUNT_ATTR_RDONLY)
            return
        flags = syscalls.AT_EMPTY_PATH
        syscalls.mount_setattr(root, "", flags | syscalls.AT_RECURSIVE, attr_set=mounts.READ_ONLY)
        syscalls.mount_setattr(root, "", flags, attr_clr=syscalls.MOUNT_ATTR_RDONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterRoot(Builtin):
    """pivot_root(2) into the new root and let go of the old one.

    ``pivot_root(".", ".")`` puts the old root over the new one, and over that is what was stacked
    between the two; each call detaches what is on top at ".".
    """

    seal: bool

    def describe(self) -> str:
        sealed = ", read-only from now on," if self.seal else ""
        return f"enter the new root{sealed} and detach the host's"

    def execute(self, context: Context) -> None:
        root = Fd(context.descriptors.pop(mounts.ROOT))
        with root:
            if self.seal:
                mounts.set_attributes(root, syscalls.MOUNT_ATTR_RDONLY, recursive=False)
            os.fchdir(root.fileno())
            syscalls.pivot_root(".", ".")
            for _ in range(1 + context.stacked + oldmounts.go()):
                syscalls.umount2(".", syscalls.MNT_DETACH)
            if not os.path.samestat(os.fstat(root.fileno()), os.stat("/..")):
                raise JailError("the host's root is still there", reason="it was not detached")
        template.forget()
        mountmaps.forget()
        syscalls.fault("chdir")
        os.chdir("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRoot(Builtin):
    """Close the descriptor by which mounts were made, where no step enters another root."""

    def describe(self) -> str:
        return "let go of the descriptor of the root"

    def execute(self, context: Context) -> None:
        number = context.descriptors.pop(mounts.ROOT, -1)
        if number >= 0:
            os.close(number)
        oldmounts.close()
        mountmaps.forget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chroot(Builtin):
    """chroot(2), the working directory too: the original leaves it outside (uwsgi-facts 3.3)."""

    directory: str

    def describe(self) -> str:
        return f"change the root to {self.directory}, and the working directory with it"

    def execute(self, context: Context) -> None:
        syscalls.fault("chroot")
        os.chroot(self.directory)
        os.chdir("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotRoot(Builtin):
    """``pivot_root = NEW OLD``, both absolute; the old root stays there for hooks to unmount."""

    new: str
    old: str

    def describe(self) -> str:
        return f"pivot_root to {self.new}, the host's root stays at {self.old[len(self.new) :]}"

    def execute(self, context: Context) -> None:
        number = context.descriptors.pop(mounts.ROOT, -1)
        if number >= 0:
            os.close(number)
        os.chdir(self.new)
        try:
            syscalls.pivot_root(".", self.old[len(self.new) :].lstrip("/"))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBUSY):
                raise
            raise JailError(
                f"cannot pivot_root to {self.new}",
                origin=self.origin,
                reason=f"it is not a mount point, or {self.old} is not below it",
                hint="bind it in a post-jail hook first: mount = none DIR NEW bind",
            ) from error
        os.chdir("/")
