"""Births without Python: a vassal whose jail is plain and whose program is not ours.

The spawner asks here before it clones. The answer is a process that is on its way to its program
already, or None: then it is forked, and does the same step by step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from donjon import syscalls
from donjon.config.outline import Outline
from donjon.config.spec import Launch
from donjon.emperor.birth import EMPEROR_FD, Birth
from donjon.emperor.orders import Order
from donjon.fd import Fd
from donjon.jail import direct
from donjon.jail.hostview import is_below
from donjon.jail.spec import JailSpec
from donjon.jail.tape import Misfit, Program, Tape
from donjon.server.spec import ServerSpec

_INSTANCE = "donjon.instance.entry"
"""Where the entry lives that goes through a plan, as we do here."""

_ROLES = frozenset({"control", "launch", "error", "log", "tasks", "cgroup"})
_NEEDED = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
_SHARED = _NEEDED | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWNET
_PATH = os.O_PATH | os.O_CLOEXEC
_MOVED = 64  # where descriptors wait for the numbers that they get


def bear(order: Order, fds: list[int], entry: Callable[..., object]) -> tuple[int, int] | None:
    """Make the vassal of ``order`` and return pid and pidfd, or None to have it forked.

    Raises OSError if there can be no process.
    """
    birth = order.birth
    if birth is None or entry.__module__ != _INSTANCE or not _is_plain(order, birth, fds):
        return None
    try:
        tape, program = _write(order, birth, fds)
    except Misfit:
        return None
    named = dict(zip(order.roles, fds, strict=True))
    in_groups = bool({"tasks", "cgroup"} & set(order.roles))
    return tape.play(
        order.clone_flags | syscalls.CLONE_PARENT,
        named["error"],
        program,
        # who is out of memory is killed with all that share it; and whose the program is, or the
        # file system that it is in, could keep us waiting for the exec
        share=not in_groups and _is_roots(birth.launch.jail, os.fsdecode(program.path)),
        cgroup=named.get("cgroup", -1),
    )


def _is_roots(jail: JailSpec, path: str) -> bool:
    """Whether a program is root's file: the owner's lease holds up its exec (fcntl(2))."""
    if jail.drop_first:
        return False
    root = jail.rootfs if jail.rootfs and jail.rootfs != "host" else "/"
    for bind in jail.binds:
        if is_below(path, bind.target):
            root, path = "/", bind.source + path[len(bind.target.rstrip("/")) :]
    inside = syscalls.RESOLVE_IN_ROOT
    try:
        with (
            Fd(os.open(root, _PATH)) as above,
            Fd(syscalls.openat2(above.fileno(), path.lstrip("/"), _PATH, resolve=inside)) as file,
        ):
            return os.fstat(file.fileno()).st_uid == 0
    except OSError:
        return False


def _is_plain(order: Order, birth: Birth, fds: list[int]) -> bool:
    """Whether nothing is asked for but a jail and a program."""
    asks_more = (
        order.hooks
        or order.start_hook
        or order.command
        or order.evaluate
        or order.cap is not None
        or order.uid is not None
        or order.gid is not None
    )
    flags = order.clone_flags
    return (
        not asks_more
        and flags & _NEEDED == _NEEDED
        and not flags & ~_SHARED
        and set(order.roles) <= _ROLES
        and min(fds) > EMPEROR_FD
        and birth.outline is not None
        and not birth.outline.hooks
        and _is_program_only(birth.launch)
    )


# a program comes before chdir, which only says what of the host it sees
_IDLE = frozenset({"options", "origins", "master", "chdir"})
_NOTHING = ServerSpec()
_ASKED = tuple(
    (name, getattr(_NOTHING, name)) for name in ServerSpec.__annotations__ if name not in _IDLE
)
"""What a server could be asked for, and how it is when nobody asked."""


def _is_program_only(launch: Launch) -> bool:
    """Whether the configuration serves nothing itself, and drops its privileges at once."""
    jail, server = launch.jail, launch.server
    late = jail.master_as_root or jail.drop_after_init or jail.drop_after_apps or jail.chown_socket
    return (
        launch.emperor is None
        and launch.fallback_config is None
        and not late
        and jail.immediate_uid is None
        and jail.immediate_gid is None
        and all(getattr(server, name) == value for name, value in _ASKED)
    )


def _write(order: Order, birth: Birth, fds: list[int]) -> tuple[Tape, Program]:
    outline: Outline | None = birth.outline
    if outline is None:
        raise Misfit("no plan was made")
    writer = direct.Writer(birth.argv, birth.environment.items())
    _settle(writer.tape, order, dict(zip(order.roles, fds, strict=True)))
    _join_groups(writer.tape, order, fds)
    return writer.tape, writer.write(outline.plan.steps)


def _settle(tape: Tape, order: Order, named: Mapping[str, int]) -> None:
    """Do what ``newborn`` does first: die with the Emperor, a session, standard descriptors."""
    direct.die_with_parent(tape)
    tape.call("setsid")
    tape.what = f"cannot change to {order.cwd}"
    tape.call("chdir", os.fsencode(order.cwd))
    tape.what = "cannot arrange descriptors"
    null = tape.open("openat", syscalls.AT_FDCWD, b"/dev/null", os.O_RDONLY | os.O_CLOEXEC, 0)
    for number, source in (
        (0, null),
        (1, named["log"]),
        (2, named["log"]),
        (EMPEROR_FD, named["control"]),
    ):
        moved = tape.open("fcntl", source, _F_DUPFD_CLOEXEC, _MOVED)
        tape.call("dup3", moved, number, 0)
        tape.close(moved)


_F_DUPFD_CLOEXEC = 1030  # linux/fcntl.h


def _join_groups(tape: Tape, order: Order, fds: list[int]) -> None:
    """Be in the control groups of version 1 before anything is used; 0 is the writer."""
    tape.what = "cannot join a control group"
    for role, fd in zip(order.roles, fds, strict=True):
        if role == "tasks":
            tape.call("write", fd, b"0", 1)
