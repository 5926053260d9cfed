"""What was asked of a jail: frozen, typed, with the origin of each value. No decisions here.

User and group stay as written (name or number); ``plan`` resolves them on the host, before
anything of the jail's is looked at. Paths stay as written too.
"""

from __future__ import annotations

from collections.abc import Mapping

from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field


@dataclass(frozen=True, slots=True)
class Bind:
    """``bind = SRC[:DST][:ro]``: SRC of the host appears on DST of the jail."""

    source: str
    target: str
    origin: Origin = DEFAULT
    read_only: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """``tmpfs = DIR[:SIZE]``, an empty file system of ``size`` bytes, None for the kernel's."""

    target: str
    origin: Origin = DEFAULT
    size: int | None = None
    mode: int = 0o1777


@dataclass(frozen=True, slots=True)
class CgroupPath:
    """``cgroup = DIR``: created if missing; the jail is born in it."""

    path: str
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class CgroupOption:
    """``cgroup-opt = KEY=VALUE``: written to the file KEY of each cgroup that has one."""

    key: str
    value: str
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class KeepMount:
    """``namespace-keep-mount = SRC[:DST]`` of the old-style jail."""

    source: str
    target: str
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class WaitFor:
    """A gate of start-up: ``kind`` is interface, fs, file, dir, mountpoint or socket."""

    kind: str
    target: str
    origin: Origin = DEFAULT
    late: bool = False  # a customer's: looked at with the customer's rights, after the drop


@dataclass(frozen=True, slots=True)
class Exec:
    """A program that replaces this one: ``privileged-binary-patch`` and its kin (spec BIN).

    ``shell`` is the ``-arg`` form: ``command`` is a line for /bin/sh. Otherwise it is a path, and
    argv is ours.
    """

    command: str
    origin: Origin = DEFAULT
    shell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JailSpec:
    """Everything about isolation and privileges. Names of fields follow the options.

    ``origins`` maps a field's name to the place that set it; items of lists carry their own
    origin.
    """

    # namespaces: words of unshare (fs ipc pid uts net user cgroup time files io sysvsem)
    clone_flags: frozenset[str] = frozenset()  # emperor-use-clone: born in them
    unshare: frozenset[str] = frozenset()  # entered in the privilege phase
    unshare2: frozenset[str] = frozenset()  # entered after pivot_root
    jailed: bool = False  # forces post-jail without a namespace
    refork: bool = False
    refork_as_root: bool = False
    refork_post_jail: bool = False
    namespace: str | None = None  # old style: DIR[:HOSTNAME]
    namespace_net: str | None = None
    namespace_keep_mounts: tuple[KeepMount, ...] = ()
    setns: str | None = None
    setns_preopen: bool = False
    hostname: str | None = None

    # root file system
    rootfs: str | None = None  # "host" or a directory
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    expose: tuple[str, ...] = ()  # application paths that rootfs=host shows read-only
    chroot: str | None = None
    pivot_root: tuple[str, str] | None = None  # new, old; old as an absolute path below new

    # control groups
    cgroups: tuple[CgroupPath, ...] = ()
    cgroup_options: tuple[CgroupOption, ...] = ()
    cgroup_dir_mode: int = 0o700

    # identity and privileges
    uid: str | None = None
    gid: str | None = None
    add_gids: tuple[str, ...] = ()
    immediate_uid: str | None = None  # before every phase; uid cannot change it
    immediate_gid: str | None = None
    no_initgroups: bool = False
    cap: frozenset[int] | None = None  # kept after the drop; None: not asked for
    emperor_cap: frozenset[int] | None = None  # bounding set of vassals; None: untouched
    no_new_privs: bool | None = None  # None: on when the jail has namespaces or a root of its own
    master_as_root: bool = False
    drop_after_init: bool = False
    drop_after_apps: bool = False
    chown_socket: str | None = None
    drop_first: bool = False  # a customer's file: walls and drop come before all it asks for
    own_limits: frozenset[str] = frozenset()  # "prio", "max_fd": set without root's rights
    keep_root: bool = False  # itself an Emperor: without uid it keeps what its own vassals need

    # gates
    wait_for: tuple[WaitFor, ...] = ()
    wait_for_interface_timeout: int = 60  # seconds
    wait_for_fs_timeout: int = 60
    wait_for_mountpoint_timeout: int = 60
    wait_for_socket_timeout: int = 60

    # limits
    limit_as: int | None = None  # bytes of address space
    limit_nproc: int | None = None
    max_fd: int | None = None
    prio: int | None = None  # nice value

    # foreign programs
    privileged_exec: Exec | None = None
    unprivileged_exec: Exec | None = None

    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def is_jailed(self) -> bool:
        """Whether any wall was asked for, so that safe defaults apply (architecture §5)."""
        return bool(
            self.clone_flags
            or self.unshare
            or self.unshare2
            or self.rootfs
            or self.namespace
            or self.pivot_root
            or self.chroot
            or self.binds
            or self.tmpfs
            or self.jailed
        )
