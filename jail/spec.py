"""What was asked of a jail: frozen, typed, with the origin of each value. No decisions here.

User and group stay as written (name or number); ``plan`` resolves them on the host, before
anything of the jail's is looked at. Paths stay as written too.
"""

from __future__ import annotations

from collections.abc import Mapping

from donjon.jail.freebsd_spec import JailParameter, OldJail
from donjon.jail.idmap import SIZE, IdMap, IdRange
from donjon.jail.seccomp_profile import Profile
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field


@dataclass(frozen=True, slots=True)
class Bind:
    """``bind = SRC[:DST][:WORD…]``: SRC of the host appears on DST of the jail."""

    source: str
    target: str
    origin: Origin = DEFAULT
    read_only: bool = False
    optional: bool = False
    recursive: bool = False  # with the mounts below it
    idmap: bool = False  # what its owner has on the disk is the jail's


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """``tmpfs = DIR[:size=,inodes=,mode=]``, an empty file system; None for the kernel's."""

    target: str
    origin: Origin = DEFAULT
    size: int | None = None  # bytes
    mode: int = 0o1777
    inodes: int | None = None


@dataclass(frozen=True, slots=True)
class PathRule:
    """``mask-path`` or ``readonly-path``: a path of the jail."""

    path: str
    origin: Origin = DEFAULT


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


@dataclass(frozen=True, slots=True)
class FileRule:
    """``landlock = PATH[:MODE]``, or ``auto`` as ``path``; ``mode`` is ro, exec, rw or all."""

    path: str
    mode: str = "ro"
    origin: Origin = DEFAULT
    optional: bool = False  # one that was derived, of a path that need not be there

    def __str__(self) -> str:
        return f"{self.path}:{self.mode}"


@dataclass(frozen=True, slots=True)
class ResourceLimit:
    """``rlimit-NAME = SOFT[:HARD]``; None is no limit."""

    kind: int
    soft: int | None
    hard: int | None
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class Published:
    """``publish = [ADDRESS:]PORT:INNER[/udp]``: a port of the host that leads to the jail."""

    port: int
    inner: int
    protocol: str = "tcp"
    address: str | None = None
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True)
class Allowed:
    """``network-allow = VASSAL | NETWORK[:PORTS]``: what it reaches besides the outside."""

    text: str
    origin: Origin = DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGrant:
    """What ``network`` came to: the namespace that is made before the birth.

    ``addresses`` are written with their prefix, ``routers`` without. None are known where nobody
    gave them out yet (``donjon plan``).
    """

    kind: str  # none, veth or tap
    bridge: str = ""
    addresses: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    mtu: int = 0  # 0: the kernel's
    nameservers: tuple[str, ...] = ()  # for its resolv.conf, where it names none

    def describe(self) -> str:
        """Say what it is, in a few words."""
        if self.kind == "none":
            return "nothing but a loopback device"
        words = [f"veth in the bridge {self.bridge}" if self.kind == "veth" else "tap"]
        words += self.addresses or ["an address of the pool"]
        if self.routers:
            words.append(f"router {' '.join(self.routers)}")
        if self.mtu:
            words.append(f"MTU {self.mtu}")
        return ", ".join(words)


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
    setns_preopen: bool = False  # opened before the drop
    setns_skip: tuple[str, ...] = ()
    setns_uids: tuple[int, ...] = ()  # whose namespaces are joined, besides root's and our own
    hostname: str | None = None
    time_offsets: tuple[tuple[str, int], ...] = ()  # clock, seconds; brings a time namespace
    id_range: IdRange | None = None  # brings a user namespace
    id_range_size: int = SIZE
    id_range_ledger: str | None = None
    id_map: IdMap | None = None  # what id_range came to: given out before the plan is made

    # network
    network: str | None = None  # none, host, tap or veth:BRIDGE
    network_addresses: tuple[str, ...] = ()  # as written; none: of the Emperor's pool
    network_mtu: int | None = None
    network_allow: tuple[Allowed, ...] = ()
    publish: tuple[Published, ...] = ()
    network_grant: NetworkGrant | None = None  # what network came to, made before the birth

    # root file system
    rootfs: str | None = None  # as written; rootspec reads it
    rootfs_reset: bool = False  # an overlay's upper layer is emptied at each start
    rootfs_proc: frozenset[str] = frozenset()  # none; or subset=pid and hidepid=WORD
    rootfs_sys: str = "none"  # none, ro or masked
    rootfs_etc: bool | None = None  # None: made for every root but the host's
    nameservers: tuple[str, ...] = ()
    runtime_mount: bool | None = None  # None: for every root but the host's that serves Python
    mask_paths: tuple[PathRule, ...] = ()
    readonly_paths: tuple[PathRule, ...] = ()
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    expose: tuple[str, ...] = ()  # application paths that rootfs=host shows read-only
    chroot: str | None = None
    pivot_root: tuple[str, str] | None = None  # new, old; old as an absolute path below new

    # control groups
    cgroups: tuple[CgroupPath, ...] = ()
    cgroup_options: tuple[CgroupOption, ...] = ()
    cgroup_dir_mode: int = 0o700

    # FreeBSD's jails
    jail: OldJail | None = None
    jail_ip4: tuple[str, ...] = ()
    jail_ip6: tuple[str, ...] = ()
    jail_parameters: tuple[JailParameter, ...] = ()  # jail2
    jail_attach: str | None = None  # jid or name
    jidfile: str | None = None

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
    merges: bool = False  # ksm: the operator lets its pages be merged with others'
    keep_root: bool = False  # itself an Emperor: without uid it keeps what its own vassals need

    # confinement: what is taken on around the drop
    seccomp: Profile | None = None  # None: default in a jail, none elsewhere
    landlock: tuple[FileRule, ...] = ()
    rlimits: tuple[ResourceLimit, ...] = ()
    oom_score_adj: int | None = None
    io_priority: tuple[int, int] | None = None  # class and level of ioprio_set(2)
    securebits: int | None = None  # None: the locks of a jail
    keep_keyring: bool = False  # False: a session keyring of the jail's own
    apparmor_profile: str | None = None

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
    def in_freebsd_jail(self) -> bool:
        """Whether a jail of FreeBSD was asked for."""
        return bool(self.jail or self.jail_parameters or self.jail_attach)

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
            or self.mask_paths
            or self.readonly_paths
            or self.jailed
            or self.id_range
            or self.time_offsets
            or self.own_network
            or self.in_freebsd_jail
        )

    @property
    def own_network(self) -> bool:
        """Whether a network namespace is made for it ahead of its birth."""
        return self.network not in (None, "host")
