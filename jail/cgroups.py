# ruff: noqa: D102  (what describe and execute are is said by Step)
"""Control groups, version 1, 2 and both at once: made before the process, removed after it.

The Emperor *prepares*: directories and values first, then descriptors through which a process
enters. On version 2 it is born inside (CLONE_INTO_CGROUP of clone3(2)); on version 1 it writes
``0``, which stands for itself in any pid namespace, as its first step. A plain instance does both
by itself. What was made is removed from the bottom up once it is empty; the process that made a
parent directory removes that too when its last child is gone.

Not root: nothing happens (CGR-02). cgroupspy is not used here: it knows no version 2 and walks
whole trees.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import cgroup_files
from donjon.jail.spec import CgroupOption, CgroupPath, JailSpec
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass, field

_PAUSE = 0.005  # seconds between two tries to remove a group whose last process is just leaving
_made_parents: set[str] = (
    set()
)  # directories above the groups that were asked for, made by this process


@dataclass(slots=True)
class Prepared:
    """Groups that are ready to be entered.

    ``v2_fd`` is a directory for clone3(2), -1 if no group is of version 2. ``tasks_fds`` are the
    open files of version 1 to which the child writes ``0``. ``created`` are the groups that did
    not exist, to be given to ``remove``; ``parents`` is what had to be made above them, see
    ``adopt``. The descriptors are this object's: ``close()``.
    """

    v2_fd: int = -1
    tasks_fds: list[int] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def enter(self, pid: int = 0) -> None:
        """Move ``pid`` (0: this process) into every group. Raises OSError."""
        text = str(pid).encode()
        for number in self.tasks_fds:
            os.write(number, text)
        if self.v2_fd >= 0:
            flags = os.O_WRONLY | os.O_CLOEXEC
            with Fd(os.open("cgroup.procs", flags, dir_fd=self.v2_fd)) as file:
                os.write(file.fileno(), text)

    def close(self) -> None:
        """Close the descriptors. The groups stay."""
        for number in (*self.tasks_fds, self.v2_fd):
            if number >= 0:
                os.close(number)
        self.tasks_fds.clear()
        self.v2_fd = -1


def version_of(path: str) -> int:
    """Return the version of the hierarchy in which ``path`` is or would be, 0 for none."""
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    if os.path.exists(f"{path}/tasks"):
        return 1
    return 2 if os.path.exists(f"{path}/cgroup.procs") else 0


def check(spec: JailSpec) -> None:
    """Raise JailError for what can be known of ``spec`` before anything is made."""
    for option in spec.cgroup_options:
        _check_option(option)
    unified = 0
    for group in spec.cgroups:
        _check_path(group)
        version = version_of(group.path)
        if version == 0:
            raise JailError(
                f"{group.path} is in no cgroup hierarchy",
                origin=group.origin,
                hint="name a directory below a mounted one, such as /sys/fs/cgroup",
            )
        unified += version == 2
        if unified > 1:
            raise JailError(
                "a process can be in one cgroup of version 2 only", origin=group.origin
            )


def _check_path(group: CgroupPath) -> None:
    parts = group.path.split("/")
    if not group.path.startswith("/") or ".." in parts or not group.path.isprintable():
        raise JailError(
            f"cgroup {group.path!r} is not an absolute path without ..", origin=group.origin
        )


def _check_option(option: CgroupOption) -> None:
    name = option.key
    if not name or "/" in name or name.startswith(".") or not (name + option.value).isprintable():
        raise JailError(f"cgroup-opt {name}={option.value} is not KEY=VALUE", origin=option.origin)
    for version in (1, 2):
        try:
            cgroup_files.translate(name, option.value, version)
        except ValueError as error:
            raise JailError(
                f"cgroup-opt {name} needs a number, not {option.value!r}", origin=option.origin
            ) from error


def prepare(spec: JailSpec) -> Prepared:
    """Make the groups of ``spec``, set their values, open them. Raises JailError; undone then.

    Needs root; for others it returns an empty Prepared.
    """
    prepared = Prepared()
    if os.geteuid() != 0 or not spec.cgroups:
        return prepared
    check(spec)
    try:
        for group in spec.cgroups:
            _prepare_one(group, spec, prepared)
    except BaseException:
        prepared.close()
        remove(prepared.created, timeout=0)
        for group in spec.cgroups:
            _remove_parents(os.path.dirname(group.path))
        raise
    return prepared


def _prepare_one(group: CgroupPath, spec: JailSpec, prepared: Prepared) -> None:
    version = version_of(group.path)
    try:
        if version == 2:
            _enable_controllers(group, spec.cgroup_options)
        _make(group.path, spec.cgroup_dir_mode, prepared)
        directory = Fd(os.open(group.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise JailError(
            f"cannot make the cgroup {group.path}", origin=group.origin, reason=reason_of(error)
        ) from error
    with directory:
        for option in spec.cgroup_options:
            _set(directory.fileno(), group, option, version)
        prepared.paths.append(group.path)
        prepared.parents += parents_of(group.path)
        if version == 2:
            prepared.v2_fd = directory.release()
        else:
            flags = os.O_WRONLY | os.O_CLOEXEC
            prepared.tasks_fds.append(os.open("tasks", flags, dir_fd=directory.fileno()))


def _make(path: str, mode: int, prepared: Prepared) -> None:
    """Make ``path`` and what is missing above it; an old one gets the mode (uwsgi-facts 3.5)."""
    _make_parents(os.path.dirname(path))
    syscalls.fault("mkdir")
    try:
        os.mkdir(path, mode)
        prepared.created.append(path)
    except FileExistsError:
        if path in _made_parents:
            return
    os.chmod(path, mode)


def _make_parents(path: str) -> None:
    if os.path.isdir(path):
        return
    _make_parents(os.path.dirname(path))
    os.mkdir(path, 0o755)
    _made_parents.add(path)


def _enable_controllers(group: CgroupPath, options: Sequence[CgroupOption]) -> None:
    """Switch on, from the top down, the v2 controllers whose files the options name."""
    wanted = {cgroup_files.controller(option.key) for option in options} - {""}
    parent = os.path.dirname(group.path)
    _make_parents(parent)
    chain = []
    while os.path.exists(f"{parent}/cgroup.procs"):
        chain.append(parent)
        parent = os.path.dirname(parent)
    for directory in reversed(chain):
        present = set(_read(f"{directory}/cgroup.controllers").split())
        enabled = set(_read(f"{directory}/cgroup.subtree_control").split())
        for name in sorted(wanted & present - enabled):
            _write(f"{directory}/cgroup.subtree_control", f"+{name}")


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with Fd(os.open(path, os.O_WRONLY | os.O_CLOEXEC)) as file:
        os.write(file.fileno(), text.encode())


def _set(directory: int, group: CgroupPath, option: CgroupOption, version: int) -> None:
    """Write one value. A file that this group does not have is skipped, as the original does."""
    name, value = cgroup_files.translate(option.key, option.value, version)
    try:
        file = Fd(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory))
    except FileNotFoundError:
        return
    with file:
        try:
            syscalls.fault("cgroup_write")
            os.write(file.fileno(), value.encode())
        except OSError as error:
            raise JailError(
                f"cannot write {value} to {group.path}/{name}",
                origin=option.origin,
                reason=reason_of(error),
            ) from error


def parents_of(path: str) -> list[str]:
    """Return the directories above ``path`` that this process made, or adopted."""
    found = []
    path = os.path.dirname(path)
    while path in _made_parents:
        found.append(path)
        path = os.path.dirname(path)
    return found


def adopt(parents: Iterable[str]) -> None:
    """Take over the duty to remove directories that another process made above its groups.

    For who cleans up after an Emperor that was killed.
    """
    _made_parents.update(parents)


def try_remove(created: Iterable[str]) -> list[str]:
    """Remove the groups of ``created`` that are empty, and return those that are not.

    Never blocks.
    """
    left = []
    for path in sorted(created, key=len, reverse=True):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            left.append(path)
            continue
        _remove_parents(os.path.dirname(path))
    return left


def remove(created: Iterable[str], timeout: float = 2.0) -> list[str]:
    """Remove groups whose processes are dying, within ``timeout`` seconds; return what stays.

    A dead process leaves its group only when it is reaped or its memory is gone; so EBUSY is tried
    again.
    """
    deadline = time.monotonic() + timeout
    left = try_remove(created)
    while left and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        left = try_remove(left)
    return left


def _remove_parents(path: str) -> None:
    while path in _made_parents:
        try:
            os.rmdir(path)
        except OSError:
            return  # still the parent of another group
        _made_parents.discard(path)
        path = os.path.dirname(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterCgroup(Builtin):
    """Enter the groups: through the doors that the Emperor opened, or by oneself."""

    spec: JailSpec

    def describe(self) -> str:
        return "; ".join(_describe(group, self.spec.cgroup_options) for group in self.spec.cgroups)

    def execute(self, context: Context) -> None:
        doors = sorted(name for name in context.descriptors if name.startswith("cgroup:"))
        if not doors and "cgroups" not in context.variables:
            prepared = prepare(self.spec)
            try:
                prepared.enter()
            finally:
                prepared.close()
            return
        for name in doors:
            with Fd(context.descriptors.pop(name)) as door:
                os.write(door.fileno(), b"0")


def _describe(group: CgroupPath, options: Sequence[CgroupOption]) -> str:
    """Say what will be written where, the translated names included."""
    version = version_of(group.path)
    text = f"enter the cgroup {group.path}"
    values = []
    for option in options:
        name, value = cgroup_files.translate(option.key, option.value, version)
        given = "" if name == option.key else f" (for {option.key}={option.value})"
        values.append(f"{name}={value}{given}")
    return f"{text} with, where it has them, {', '.join(values)}" if values else text
