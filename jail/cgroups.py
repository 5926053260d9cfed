# ruff: noqa: D102  (what describe and execute are is said by Step)
"""Control groups, version 1, 2 and both at once: made before the process, removed after it.

The Emperor *prepares*: directories and values first, then descriptors through which a process
enters. On version 2 it is born inside (CLONE_INTO_CGROUP of clone3(2)); on version 1 it writes
``0``, which stands for itself in any pid namespace, as its first step. A plain instance does both
by itself. What was made is removed from the bottom up once it is empty; the process that made a
parent directory removes that too when its last child is gone.

Not root: nothing happens (CGR-02). What differs between the versions is behind
``cgroup_driver.Driver``; which one a group belongs to is seen from the group.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Mapping, Sequence

from donjon import syscalls
from donjon.errors import JailError, reason_of
from donjon.fd import Fd
from donjon.jail import cgroup_files
from donjon.jail.cgroup_driver import Counts, Driver, Use
from donjon.jail.cgroup_v1 import Version1
from donjon.jail.cgroup_v2 import Version2
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


_DRIVERS: dict[int, Driver] = {1: Version1(), 2: Version2()}


def driver_of(path: str) -> Driver | None:
    """Return the back end for ``path``, None where it is in no hierarchy."""
    return _DRIVERS.get(version_of(path))


def use_of(paths: Iterable[str]) -> Use:
    """Return what is used in all these groups together, which are of one vassal."""
    found = Use()
    for path in paths:
        driver = driver_of(path)
        found = found.merged(driver.use(path)) if driver else found
    return found


def counts_of(paths: Iterable[str]) -> Counts:
    """Return how often limits of these groups were met."""
    found = Counts()
    for path in paths:
        driver = driver_of(path)
        found = found.merged(driver.counts(path)) if driver else found
    return found


def thaw_all(paths: Iterable[str]) -> None:
    """Let what is frozen in these groups go on."""
    for path in paths:
        driver = driver_of(path) if os.path.isdir(path) else None
        with contextlib.suppress(OSError):  # the group went meanwhile
            if driver is not None:
                driver.freeze(path, frozen=False)


def kill_all(paths: Iterable[str]) -> bool:
    """Let what is frozen go on, and kill what is in these groups; False where one by one is the
    only way for some."""
    groups = [path for path in paths if os.path.isdir(path)]
    thaw_all(groups)
    killed = [_kill(path) for path in groups]  # each of them, whatever others do
    return all(killed)


def _kill(path: str) -> bool:
    driver = driver_of(path)
    try:
        return driver is not None and driver.kill(path)
    except OSError:
        return False


def check(spec: JailSpec) -> None:
    """Raise JailError for what can be known of ``spec`` before anything is made."""
    given = {one.key: one.value for one in spec.cgroup_options}
    for option in spec.cgroup_options:
        _check_option(option)
    for option in spec.cgroup_options:  # each alone was right
        _translate(option, given)
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
    _translate(option, {name: option.value})


def _translate(option: CgroupOption, given: Mapping[str, str]) -> None:
    per_device = option.key == "io.max" or option.key.endswith("_device")
    needs = "MAJOR:MINOR and a value" if per_device else "a number"
    try:
        for version in (1, 2):
            cgroup_files.translate(option.key, option.value, version, given)
    except ValueError as error:
        raise JailError(
            f"cgroup-opt {option.key} needs {needs}, not {option.value!r}", origin=option.origin
        ) from error


def prepare(spec: JailSpec) -> Prepared:
    """Make the groups of ``spec``, set their values, open them. Raises JailError; undone then.

    Needs root; for others it returns an empty Prepared.
    """
    prepared = Prepared()
    if os.geteuid() != 0 or not spec.cgroups:
        return prepared
    check(spec)
    with contextlib.ExitStack() as failed:
        failed.callback(_undo, spec, prepared)
        for group in spec.cgroups:
            _prepare_one(group, spec, prepared)
        failed.pop_all()
    return prepared


def _undo(spec: JailSpec, prepared: Prepared) -> None:
    prepared.close()
    remove(prepared.created, timeout=0)
    for group in spec.cgroups:
        _remove_parents(os.path.dirname(group.path))


def _prepare_one(group: CgroupPath, spec: JailSpec, prepared: Prepared) -> None:
    driver = driver_of(group.path)
    assert driver is not None  # check() saw it
    try:
        _make_parents(os.path.dirname(group.path))
        driver.make_ready(group.path, spec.cgroup_options)
        _make(group.path, spec.cgroup_dir_mode, prepared)
        driver.complete(group.path)
        directory = Fd(os.open(group.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise JailError(
            f"cannot make the cgroup {group.path}", origin=group.origin, reason=reason_of(error)
        ) from error
    with directory:
        errors = write_options(group.path, spec.cgroup_options, driver, directory.fileno())
        if errors:
            raise errors[0]
        prepared.paths.append(group.path)
        prepared.parents += parents_of(group.path)
        if driver.version == 2:
            prepared.v2_fd = directory.release()
        else:
            flags = os.O_WRONLY | os.O_CLOEXEC
            prepared.tasks_fds.append(os.open("tasks", flags, dir_fd=directory.fileno()))


def _make(path: str, mode: int, prepared: Prepared) -> None:
    """Make ``path``; an old one gets the mode (uwsgi-facts 3.5)."""
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
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return  # another instance was faster; so it is that one's
    _made_parents.add(path)


def write_options(
    path: str, options: Sequence[CgroupOption], driver: Driver, directory: int
) -> list[JailError]:
    """Write values to the files of a group; return what the kernel refused.

    A file that this group does not have is skipped, as the original does. Limits of memory, and of
    memory with swap, must never cross (memory.rst §2.4): what is refused is tried again when the
    others are written.
    """
    pairs = [(one.option, pair) for one in driver.settings(options) for pair in one.written]
    refused = [(pair, error) for pair in pairs if (error := _set(path, directory, *pair))]
    again = (
        _set(path, directory, *pair) if _may_pass(error) else error for pair, error in refused
    )
    return [error for error in again if error is not None]


def _may_pass(error: JailError) -> bool:
    """Whether a value may be taken once others are written."""
    return error.reason == os.strerror(errno.EINVAL)


def _set(
    path: str, directory: int, option: CgroupOption, written: tuple[str, str]
) -> JailError | None:
    """Write one value; return what is wrong with it."""
    name, value = written
    try:
        file = Fd(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory))
    except FileNotFoundError:
        return None
    with file:
        try:
            syscalls.fault("cgroup_write")
            os.write(file.fileno(), value.encode())
        except OSError as error:
            what = f"cannot write {value} to {path}/{name}"
            return JailError(what, origin=option.origin, reason=reason_of(error))
    return None


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
        return describe(self.spec.cgroups, self.spec.cgroup_options)

    def walls(self) -> str:
        """Say what a running process cannot get rid of: groups, and values without a default."""
        lasting = [one for one in self.spec.cgroup_options if cgroup_files.default(one) is None]
        return describe(self.spec.cgroups, lasting)

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


def describe(groups: Sequence[CgroupPath], options: Sequence[CgroupOption]) -> str:
    """Say what will be written where, translated names included, and what is nowhere."""
    taken: set[str] = set()
    texts = []
    for group in groups:
        driver = driver_of(group.path)
        values = []
        families = driver.has_files(group.path) if driver and options else frozenset()
        for setting in driver.settings(options) if driver else ():
            written = [pair for pair in setting.written if pair[0].partition(".")[0] in families]
            values += [_shown(setting.option, *pair) for pair in written]
            taken |= {setting.option.key for _ in written}
        texts.append(f"enter the cgroup {group.path}")
        texts[-1] += f" with {', '.join(values)}" if values else ""
    lost = [f"{one.key}={one.value}" for one in options if one.key not in taken]
    if lost:
        texts.append(f"{', '.join(lost)} {'is' if len(lost) == 1 else 'are'} in none of them")
    return "; ".join(texts)


def _shown(option: CgroupOption, name: str, value: str) -> str:
    given = "" if name == option.key else f" (for {option.key}={option.value})"
    return f"{name}={value}{given}"
