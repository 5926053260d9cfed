# ruff: noqa: D102  (what describe and execute are is said by Step)
"""``namespace = DIR[:HOSTNAME]``, the original's first jail (uwsgi-facts 3.4, spec ONS).

An outer process clones an inner one into new uts, pid, ipc and mount namespaces, runs the
post-jail hooks outside with UWSGI_JAIL_PID set, and waits: status 0 or 1 of the inner one is its
own end, anything else makes a new jail. The inner process is PID 1;
its root is DIR without whatever was mounted below it, with a new /proc and the mounts that were to
be kept.

Unlike the original, the host's mounts keep their propagation (only the inner process makes its own
private), and no directory is made in DIR. The original makes a new jail after status 0 too, since
its reload ends the inner process that way; ours does not, and whoever ends with 0 was told to.
"""

from __future__ import annotations

import os
import signal

from donjon import log, syscalls
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.jail import mounts, namespaces, paths
from donjon.jail.spec import KeepMount
from donjon.jail.step import Builtin, Context, Step
from donjon.records import dataclass

JAIL_PID = "UWSGI_JAIL_PID"
WORDS = ("uts", "pid", "ipc", "fs")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneJail(Builtin):
    """Clone; return in the inner process only. ``outside`` are the post-jail hooks."""

    words: tuple[str, ...]
    outside: tuple[Step, ...] = ()

    def describe(self) -> str:
        hooks = "".join(f"; outside: {step.describe()}" for step in self.outside)
        return f"go on as PID 1 of new namespaces ({' '.join(self.words)}){hooks}"

    def execute(self, context: Context) -> None:
        flags = namespaces.clone_flags(self.words)
        while True:
            pid, pidfd = syscalls.clone3(flags)
            if pid == 0:
                syscalls.set_pdeathsig(signal.SIGKILL)
                return
            with Fd(pidfd) as jail:
                status = self._outside(context, pid, jail)
            if status in (0, 1):
                os._exit(status)

    def _outside(self, context: Context, pid: int, jail: Fd) -> int:
        """Run the hooks and wait. A hook that fails is the end of both."""
        os.environ[JAIL_PID] = str(pid)
        try:
            for step in self.outside:
                step.execute(context)
        except (DonjonError, OSError) as error:
            log.write(f"donjon: {error}")
            syscalls.pidfd_send_signal(jail.fileno(), signal.SIGKILL)
            os.waitpid(pid, 0)
            os._exit(1)
        return _wait(pid, jail)


def _wait(pid: int, jail: Fd) -> int:
    """Hand signals on until the jail ends; return its status, 128 + number for a signal."""
    everything = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    try:
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            number = signal.sigwait(everything)
            if number != signal.SIGCHLD:
                syscalls.pidfd_send_signal(jail.fileno(), number)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRoot(Builtin):
    """The directory as root, with nothing that was mounted below it but what is to be kept."""

    directory: str
    keep: tuple[KeepMount, ...] = ()

    def describe(self) -> str:
        kept = "".join(f", keep {one.source} on {self.inside(one)}" for one in self.keep)
        return f"take {self.directory} as the root, without the mounts below it{kept}"

    def inside(self, one: KeepMount) -> str:
        """Return where a kept mount appears; one of the directory loses the directory's name."""
        if one.target:
            return one.target
        base = self.directory.rstrip("/")
        if base and one.source.startswith(base + "/"):
            return one.source[len(base) :]
        return one.source

    def execute(self, context: Context) -> None:
        mounts.refuse_host_namespace(context)
        with paths.open_source(self.directory) as source:
            root = mounts.clone_at(source.fileno(), recursive=False)
            kept = [(one, paths.open_source(one.source)) for one in self.keep]
        mounts.attach_path(root, "/")
        context.descriptors[mounts.ROOT] = root.release()
        for one, tree in kept:
            with tree:
                self._keep(context, one, tree)
        if self.directory.rstrip("/") == "":
            self._keep_dev(context)

    def _keep(self, context: Context, one: KeepMount, source: Fd) -> None:
        with mounts.clone_at(source.fileno()) as tree:
            mounts.show(tree, mounts.root_of(context), self.inside(one))

    def _keep_dev(self, context: Context) -> None:
        """With ``/`` as its own jail there is no other /dev than the host's."""
        with mounts.clone_path("/dev") as tree:
            mounts.attach(tree, mounts.root_of(context), "dev")


def split(value: str) -> tuple[str, str | None]:
    """Return directory and host name of ``DIR[:HOSTNAME]``."""
    directory, colon, hostname = value.partition(":")
    return directory, hostname if colon and hostname else None
