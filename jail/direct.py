"""Steps of a plan as calls of a tape (see ``tape``), for a jail that a foreign program runs in.

A step is written down here only if it is one of those below with exactly the fields that are
known; what has any other step, or is not plain on this host (a link on the way to a source, a
mount point that is missing), is left to Python, which does the same by ``execute``. A test makes
each jail both ways and compares all that can be seen of it.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterable
from typing import Any

from donjon import syscalls
from donjon.jail import (
    binds,
    capabilities,
    devices,
    etcfiles,
    execs,
    hostview,
    limits,
    mounts,
    namespaces,
    oldmounts,
    proc,
    rootfs,
    seccomp,
    standing,
    template,
    users,
)
from donjon.jail.step import Step
from donjon.jail.tape import Argument, Misfit, Program, Register, Tape

_NO_EXEC = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
_CAPABILITY_VERSION_3 = 0x20080522
_AT_ONCE = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS | syscalls.RESOLVE_CACHED


class Writer:
    """Writes the steps of one jail; ``root`` is its root while it is put together."""

    def __init__(self, argv: tuple[str, ...], environment: Iterable[tuple[str, str]]) -> None:
        self.tape = Tape()
        self.root: Register | None = None
        self.base = ""  # the directory that the root is, "" for one in memory
        self.covered: set[str] = set()  # where something is mounted already
        self.made: set[str] = set()  # directories of a root in memory
        self.argv = argv
        self.environment = tuple(environment)

    def write(self, steps: Iterable[Step]) -> Program:
        """Write all steps up to the program that ends them. Raises Misfit."""
        if oldmounts.lacking():
            raise Misfit("this kernel has no mounts by descriptor")
        for step in steps:
            if isinstance(step, execs.Execute):
                return self.program(step)
            how = _WRITERS.get(type(step))
            if how is None:
                raise Misfit(f"{type(step).__name__} is left to Python")
            self.tape.what = f"{step.origin}: cannot {step.describe()}"
            how(self, step)
        raise Misfit("no program follows")

    def program(self, step: execs.Execute) -> Program:
        """Return what is executed."""
        command = step.program.command
        name, argv = command, (command, *self.argv[1:])
        if step.program.shell:
            name, argv = execs.SHELL, (execs.SHELL, "-c", command)
        if not name.startswith("/"):
            raise Misfit("the program must be looked for")
        environment = tuple(os.fsencode(f"{key}={value}") for key, value in self.environment)
        what = f"{step.origin}: cannot {step.describe()}"
        return Program(os.fsencode(name), tuple(map(os.fsencode, argv)), environment, what)

    def the_root(self) -> Register:
        """Return the root that later steps mount below."""
        if self.root is None:
            raise Misfit("no root of its own")
        return self.root

    def target(self, path: str, *, directory: bool = True) -> Register:
        """Open a mount point. In a directory of the host's it must be there; Python makes one."""
        clean = os.path.normpath(path)
        if any(clean.startswith(f"{other}/") for other in self.covered):
            raise Misfit("a mount point on a mount")
        if self.base:
            _check_plain(self.base + clean, directory=directory)
        elif directory:
            self._make(clean)
        else:
            raise Misfit("a file in a new root")
        self.covered.add(clean)
        return self.tape.open_target(self.the_root(), path, directory=directory)

    def _make(self, path: str) -> None:
        """Make what is missing of a path in a root in memory, which only we know yet."""
        for wanted in hostview.with_parents((path,), self.made):
            self.tape.call("mkdirat", self.the_root(), os.fsencode(wanted[1:]), 0o755)
            self.made.add(wanted)

    def mount(self, tree: Register, path: str) -> None:
        """Attach a mount at a mount point of the root."""
        where = self.target(path)
        self.tape.attach(tree, where)
        self.tape.close(where)


def _check_plain(path: str, *, directory: bool = True) -> None:
    """Raise Misfit unless ``path`` is there (as a directory) and no link leads to it.

    Only what the kernel has in mind counts (RESOLVE_CACHED): a file system that does not answer
    must not stop whoever asks here.
    """
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if directory else 0)
    try:
        number = syscalls.openat2(syscalls.AT_FDCWD, path, flags, resolve=_AT_ONCE)
    except OSError as error:
        raise Misfit(path) from error
    os.close(number)


def _make_private(to: Writer, _step: mounts.MakePrivate) -> None:
    to.tape.make_private()


def _hostname(to: Writer, step: namespaces.SetHostname) -> None:
    name = os.fsencode(step.name)
    to.tape.call("sethostname", name, len(name))


def _stack_over(to: Writer, root: Register) -> None:
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
    to.tape.call("move_mount", root, b"", syscalls.AT_FDCWD, b"/", flags)
    to.root = root


def _directory_root(to: Writer, step: rootfs.NewDirectoryRoot) -> None:
    _check_plain(step.directory)
    source = to.tape.open_source(step.directory)
    root = to.tape.clone_tree(source)
    to.tape.close(source)
    to.tape.set_attributes(root, mounts.SAFE)
    _stack_over(to, root)
    to.base = step.directory


def _host_root(to: Writer, step: rootfs.NewHostRoot) -> None:
    lent = template.lend()
    if lent is None or template.is_stale(lent) or not lent.tops.issuperset(step.shared):
        raise Misfit("no template of host roots")
    tape, view = to.tape, step.own
    options = {"mode": "755", "size": hostview.ROOT_SIZE}
    root = tape.new_filesystem("tmpfs", options, mounts.SAFE)
    _stack_over(to, root)
    for top in step.shared:
        tape.call("mkdirat", root, os.fsencode(top), 0o755)
        tape.attach(tape.clone_tree(lent.number, os.fsencode(top)), root, os.fsencode(top))
        to.covered.add(f"/{top}")
    for path in view.directories:
        tape.call("mkdirat", root, os.fsencode(path[1:]), 0o755)
    for link, target in view.links:
        tape.call("symlinkat", os.fsencode(target), root, os.fsencode(link[1:]))
    for path in view.files:
        tape.call("mknodat", root, os.fsencode(path[1:]), stat.S_IFREG | 0o444, 0)
    for path in (*view.trees, *view.files):
        tree = tape.clone_tree(syscalls.AT_FDCWD, os.fsencode(path))
        tape.attach(tree, root, os.fsencode(path[1:]))
    to.made.update(view.directories)
    to.covered.update((*view.trees, *view.files))


def _expose(to: Writer, step: rootfs.Expose) -> None:
    for path in step.trees:
        _check_plain(path)
        source = to.tape.open_source(path)
        tree = to.tape.clone_tree(source)
        to.tape.close(source)
        to.mount(tree, path)


def _seal_views(to: Writer, _step: rootfs.SealViews) -> None:
    to.tape.set_attributes(to.the_root(), mounts.READ_ONLY)
    read_only = syscalls.MOUNT_ATTR_RDONLY
    to.tape.set_attributes(to.the_root(), 0, recursive=False, clear=read_only)


def _proc(to: Writer, step: proc.ProcMount) -> None:
    tape = to.tape
    options = {}
    if step.hidepid or not step.own:
        options["hidepid"] = step.hidepid or "invisible"
    if step.only_processes:
        options["subset"] = "pid"
    tree = tape.new_filesystem("proc", options, mounts.SAFE | syscalls.MOUNT_ATTR_NOEXEC)
    where = to.target("/proc")
    tape.call("move_mount", tree, b"", where, b"", _ONTO)
    tape.close(where)
    if step.mask and not step.only_processes:
        _cover(tape, tree, root_inside=step.root_inside)
    tape.close(tree)


_ONTO = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH


def _cover(tape: Tape, tree: Register, *, root_inside: bool) -> None:
    present = proc.names_present()
    files = proc.MASKED_FILES + proc.ROOTS_FILES if root_inside else proc.MASKED_FILES
    for name in proc.READ_ONLY:
        if name in present:
            part = tape.clone_tree(tree, name.encode(), recursive=False)
            tape.set_attributes(part, mounts.READ_ONLY, recursive=False)
            tape.attach(part, tree, name.encode())
    for name in files:
        if name in present:
            null = tape.clone_tree(syscalls.AT_FDCWD, b"/dev/null", recursive=False)
            tape.attach(null, tree, name.encode())
    names = [name for name in proc.MASKED_DIRECTORIES if name in present]
    if names:
        empty = tape.new_filesystem("tmpfs", {"mode": "555"}, mounts.READ_ONLY)
        flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH
        tape.call("move_mount", empty, b"", tree, names[0].encode(), flags)
        for name in names[1:]:
            tape.attach(tape.clone_tree(empty), tree, name.encode())
        tape.close(empty)


def _dev(to: Writer, step: devices.DevMount) -> None:
    tape, lent = to.tape, template.lend()
    if lent is None or devices.NAME not in lent.tops:
        raise Misfit("no template of /dev")
    where = to.target("/dev")
    dev = tape.clone_tree(lent.number, devices.NAME.encode())
    tape.call("move_mount", dev, b"", where, b"", _ONTO)
    tape.close(where)
    options = {"ptmxmode": "0666", "mode": "0620", "max": str(devices.TERMINALS)}
    if step.tty_group:
        options["gid"] = "5"
    tape.attach(tape.new_filesystem("devpts", options, _NO_EXEC), dev, b"pts")
    shm = {"mode": "1777", "size": str(devices.SHM_SIZE)}
    attributes = _NO_EXEC | syscalls.MOUNT_ATTR_NODEV
    tape.attach(tape.new_filesystem("tmpfs", shm, attributes), dev, b"shm")
    tape.close(dev)


def _tmpfs(to: Writer, step: mounts.TmpfsMount) -> None:
    options = {"mode": f"{step.mode:o}"}
    for key, value in (
        ("size", step.size),
        ("nr_inodes", step.inodes),
        ("uid", step.uid),
        ("gid", step.gid),
    ):
        if value is not None:
            options[key] = str(value)
    to.mount(to.tape.new_filesystem("tmpfs", options, mounts.SAFE), step.target)


def _etc_files(to: Writer, step: etcfiles.EtcFiles) -> None:
    tape = to.tape
    options = {"mode": "755", "size": "64k"}
    store = tape.new_filesystem("tmpfs", options, mounts.SAFE | syscalls.MOUNT_ATTR_NOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    for name in step.files:
        text = step.text(name).encode()
        file = tape.open("openat", store, name.encode(), flags, 0o444)
        tape.call("write", file, text, len(text))
        tape.close(file)
    tape.set_attributes(store, mounts.READ_ONLY, recursive=False)
    for name in step.files:
        tree = tape.clone_tree(store, name.encode(), recursive=False)
        where = to.target(f"/etc/{name}", directory=False)
        tape.attach(tree, where)
        tape.close(where)
    tape.close(store)


def _bind(to: Writer, step: binds.BindMount) -> None:
    if step.idmap:
        raise Misfit("a mount with mapped ids")
    _check_plain(step.source)
    source = to.tape.open_source(step.source)
    tree = to.tape.clone_tree(source, recursive=step.recursive)
    to.tape.close(source)
    to.tape.set_attributes(tree, mounts.READ_ONLY if step.read_only else mounts.SAFE)
    to.mount(tree, step.target)


def _enter(to: Writer, step: rootfs.EnterRoot) -> None:
    tape, root = to.tape, to.the_root()
    if step.seal:
        tape.set_attributes(root, syscalls.MOUNT_ATTR_RDONLY, recursive=False)
    tape.call("fchdir", root)
    tape.call("pivot_root", b".", b".")
    tape.call("umount2", b".", syscalls.MNT_DETACH)
    tape.close(root)
    tape.call("chdir", b"/")
    to.root = None


def _no_core_dumps(to: Writer, _step: limits.NoCoreDumps) -> None:
    to.tape.call("prlimit64", 0, _RLIMIT_CORE, struct.pack("=2Q", 1, 1), 0)


_RLIMIT_CORE = 4  # asm-generic/resource.h


def _before_drop(to: Writer, step: capabilities.BeforeDrop) -> None:
    if step.bounding:
        for cap in range(syscalls.last_cap() + 1):
            if cap not in step.caps:
                to.tape.call("prctl", syscalls.PR_CAPBSET_DROP, cap, 0, 0, 0)
    if step.keep:
        to.tape.call("prctl", syscalls.PR_SET_KEEPCAPS, 1, 0, 0, 0)


def _become(to: Writer, step: users.Become) -> None:
    who, tape = step.identity, to.tape
    if who.groups is not None:
        groups = struct.pack(f"={len(who.groups)}I", *who.groups)
        tape.call("setgroups", len(who.groups), groups)
    if who.gid is not None:
        tape.call("setresgid", who.gid, who.gid, who.gid)
    if who.uid is not None:
        tape.call("setresuid", who.uid, who.uid, who.uid)
    die_with_parent(tape)  # a change of ids clears it


def die_with_parent(tape: Tape) -> None:
    """Be killed when the parent dies."""
    tape.call("prctl", syscalls.PR_SET_PDEATHSIG, 9, 0, 0, 0)


def _hold(to: Writer, step: capabilities.Hold) -> None:
    bits = capabilities.mask(step.caps)
    setpcap = 1 << syscalls.CAP_SETPCAP
    if step.locks and not syscalls.capget()[1] & setpcap:
        raise Misfit("setpcap is gone")
    clear = syscalls.PR_CAP_AMBIENT_CLEAR_ALL
    to.tape.call("prctl", syscalls.PR_CAP_AMBIENT, clear, 0, 0, 0)
    _capset(to.tape, bits | (setpcap if step.locks else 0), bits)
    for cap in sorted(step.caps) if step.ambient else ():
        arguments: tuple[Argument, ...] = (syscalls.PR_CAP_AMBIENT_RAISE, cap, 0, 0)
        to.tape.call("prctl", syscalls.PR_CAP_AMBIENT, *arguments)
    if step.locks:
        held = syscalls.prctl(syscalls.PR_GET_SECUREBITS) & ~syscalls.SECBIT_KEEP_CAPS
        to.tape.call("prctl", syscalls.PR_SET_SECUREBITS, held | step.locks, 0, 0, 0)
        _capset(to.tape, bits, bits)


def _capset(tape: Tape, held: int, inheritable: int) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    words = (
        word for half in (0, 32) for word in (held >> half, held >> half, inheritable >> half)
    )
    tape.call("capset", header, struct.pack("=6I", *(word & 0xFFFFFFFF for word in words)))


def _keyring(to: Writer, _step: standing.NewKeyring) -> None:
    to.tape.call("keyctl", _JOIN_SESSION_KEYRING, 0, lenient=True)


_JOIN_SESSION_KEYRING = 1  # linux/keyctl.h
_SET_MODE_FILTER = 1  # linux/seccomp.h


def _filter(to: Writer, step: seccomp.FilterCalls) -> None:
    to.tape.call("seccomp", _SET_MODE_FILTER, 0, [step.code])


def _no_new_privileges(to: Writer, _step: capabilities.NoNewPrivileges) -> None:
    to.tape.call("prctl", syscalls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


_KNOWN: tuple[tuple[type, str, Callable[[Writer, Any], None]], ...] = (
    (mounts.MakePrivate, "", _make_private),
    (namespaces.SetHostname, "name", _hostname),
    (rootfs.NewDirectoryRoot, "directory", _directory_root),
    (rootfs.NewHostRoot, "own shared", _host_root),
    (rootfs.Expose, "trees why", _expose),
    (rootfs.SealViews, "", _seal_views),
    (proc.ProcMount, "own mask root_inside hidepid only_processes", _proc),
    (devices.DevMount, "tty_group", _dev),
    (mounts.TmpfsMount, "target size mode uid gid inodes", _tmpfs),
    (binds.BindMount, "source target read_only optional recursive idmap", _bind),
    (etcfiles.EtcFiles, "files hostname nameservers own_network required", _etc_files),
    (rootfs.EnterRoot, "seal", _enter),
    (limits.NoCoreDumps, "", _no_core_dumps),
    (capabilities.BeforeDrop, "caps bounding keep", _before_drop),
    (users.Become, "identity", _become),
    (standing.NewKeyring, "", _keyring),
    (capabilities.Hold, "caps ambient locks", _hold),
    (capabilities.NoNewPrivileges, "", _no_new_privileges),
    (seccomp.FilterCalls, "profile code", _filter),
)
"""Steps that can be written, the fields that make all of each, and how."""


def _fields(step: Any) -> set[str]:
    return set(step.__slots__) - {"phase", "origin"}


_WRITERS = {step: how for step, names, how in _KNOWN if _fields(step) == set(names.split())}
