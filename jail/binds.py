# ruff: noqa: D102  (what describe and execute are is said by Step)
"""``bind``: files and directories of the host in the jail."""

from __future__ import annotations

import errno

from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import mountmaps, mounts, paths
from donjon.jail.idmap import IdMap
from donjon.jail.mountmaps import Owner
from donjon.jail.spec import Bind
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount(Builtin):
    """Show a file or directory of the host in the jail."""

    source: str
    target: str
    read_only: bool = False
    optional: bool = False
    recursive: bool = False
    idmap: bool = False

    def describe(self) -> str:
        where = "" if self.source == self.target else f" on {self.target}"
        how = "read-only" if self.read_only else "writable"
        below = ", with the mounts below it" if self.recursive else ""
        mapped = ", its owner's files are the jail's" if self.idmap else ""
        return f"bind {self.source}{where}, {how}{below}{mapped}"

    def execute(self, context: Context) -> None:
        tree = self._tree()
        if tree is None:
            return
        with tree:
            attributes = mounts.READ_ONLY if self.read_only else mounts.SAFE
            mounts.show(tree, mounts.root_of(context), self.target, attributes)

    def _tree(self) -> Fd | None:
        """Return the mount, None where it may be missing and is."""
        if self.idmap:
            return self._lent()
        try:
            source = paths.open_source(self.source)
        except FileNotFoundError:
            if self.optional:
                return None
            raise
        with source:
            return self._clone(source)

    def _lent(self) -> Fd | None:
        """Return the mapped mount that was made earlier."""
        lent = mountmaps.take(self.source)
        if lent is None and not self.optional:
            raise JailError(
                f"cannot bind {self.source} with idmap",
                reason="this process is in its user namespace already, and none was lent to it",
                hint="leave out spawn = exec",
            )
        return lent

    def _clone(self, source: Fd) -> Fd:
        try:
            return mounts.clone_at(source.fileno(), recursive=self.recursive)
        except OSError as error:
            if error.errno != errno.EINVAL or self.recursive:
                raise
            raise JailError(
                f"cannot bind {self.source}",
                reason="a user namespace must not see what the mounts below it hide",
                hint="add :rec to bind them too",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LendBinds(Builtin):
    """Make the mapped mounts early, and keep them for the steps that attach them.

    The map of a mount is given by a user namespace, and the kernel makes none for a process whose
    root is covered by another (user_namespaces(7): EPERM "in a chroot"), as it is while a new root
    is put together; nor may a process in a user namespace of its own map a mount of the host's.
    """

    binds: tuple[Bind, ...]
    who: Owner | IdMap

    def describe(self) -> str:
        return f"map the owners of {' '.join(bind.source for bind in self.binds)}"

    def execute(self, context: Context) -> None:  # noqa: ARG002  (a Step's)
        mountmaps.lend_binds(self.binds, self.who)
