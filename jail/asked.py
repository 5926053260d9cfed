"""What a JailSpec means on this host: names resolved, contradictions refused, conclusions drawn.

Everything here happens before a process exists for it, so that a mistake costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from donjon.errors import JailError
from donjon.jail import (
    capabilities,
    cgroups,
    freebsd,
    hostview,
    interpreter,
    namespaces,
    oldmounts,
    oldstyle,
    rootcheck,
    rootspec,
    userns,
    users,
)
from donjon.jail.idmap import IdMap
from donjon.jail.phase import ORDER, Phase
from donjon.jail.rootspec import DirectoryRoot, ImageRoot, OverlayRoot, Root
from donjon.jail.spec import JailSpec
from donjon.jail.step import Step
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

HOST = "host"
_MAX_HOSTNAME = 64  # sethostname(2)
_ROOT_ONLY = (
    "rootfs",
    "binds",
    "tmpfs",
    "mask_paths",
    "readonly_paths",
    "chroot",
    "pivot_root",
    "namespace",
    "unshare",
    "unshare2",
    "hostname",
    "id_range",
    "time_offsets",
)
_PRIVILEGED_HOOKS = frozenset({Phase.POST_JAIL, Phase.AS_ROOT, Phase.AS_USER})
"""Phases that an instance without root does not have (uwsgi-facts 2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A spec with the conclusions that the layers are made from."""

    spec: JailSpec
    hooks: tuple[Step, ...]
    outside: tuple[Step, ...]  # post-jail hooks of the old-style jail
    born_in: frozenset[str]
    root: bool
    unshare: frozenset[str]  # in the privilege phase, implied ones included
    identity: users.Identity
    ids: IdMap | None  # of the user namespace, None without one

    @property
    def host_ids(self) -> tuple[int, int] | None:
        """Who root of the user namespace is on the host."""
        return self.ids.root if self.ids else None

    @property
    def inside(self) -> users.Identity:
        """Who the application is, in the ids of the jail: root where there is nobody else."""
        only_root = self.ids is not None and self.spec.id_range is None
        return users.Identity() if only_root else self.identity

    @property
    def jailed(self) -> bool:
        """Whether any wall stands, so that the safe defaults apply."""
        return self.spec.is_jailed or bool(self.born_in & namespaces.NAMESPACES)

    @property
    def has_mounts(self) -> bool:
        """Whether the jail's own mounts are asked for."""
        spec = self.spec
        covers = spec.mask_paths or spec.readonly_paths
        return bool(spec.rootfs or spec.binds or spec.tmpfs or covers)

    @property
    def root_kind(self) -> Root | None:
        """What ``rootfs`` says, None without one. Raises JailError."""
        if not self.spec.rootfs:
            return None
        try:
            return rootspec.parse(self.spec.rootfs)
        except ValueError as error:
            raise JailError(
                f"rootfs {self.spec.rootfs}", origin=self.origin("rootfs"), reason=str(error)
            ) from error

    @property
    def own_pids(self) -> bool:
        """Whether this process is in a pid namespace of its own when the root is put together."""
        spec = self.spec
        early = spec.refork_post_jail or refork_first(self)
        return "pid" in self.born_in or ("pid" in self.unshare and early) or bool(spec.namespace)

    @property
    def stays_root(self) -> bool:
        """Whether the application has uid 0, be it of a user namespace."""
        return self.inside.uid in (None, 0)

    @property
    def shows_runtime(self) -> bool:
        """Whether the root gets what it lacks of this interpreter."""
        spec = self.spec
        if not spec.rootfs or spec.rootfs == HOST:
            return False
        if spec.runtime_mount is not None:
            return spec.runtime_mount
        return not (spec.privileged_exec or spec.unprivileged_exec)

    def walls(self) -> Origin:
        """Return who asked for mounts of the jail's own."""
        spec = self.spec
        for items in (spec.binds, spec.tmpfs, spec.mask_paths, spec.readonly_paths):
            if items and "rootfs" not in self.spec.origins:
                return items[0].origin
        return self.origin("rootfs", "unshare", "pivot_root", "clone_flags")

    def origin(self, *fields: str) -> Origin:
        """Return who set the first of ``fields`` that somebody set."""
        origins = self.spec.origins
        for name in fields:
            if name in origins:
                return origins[name]
        return DEFAULT


def kept_capabilities(wish: Wish) -> frozenset[int] | None:
    """Return what the application has after the drop, None to leave that to the kernel."""
    spec = wish.spec
    if spec.cap is not None:
        return spec.cap
    if not wish.stays_root:
        return frozenset()
    if not wish.jailed or spec.keep_root:
        return None
    if spec.emperor_cap is not None:
        return spec.emperor_cap
    return frozenset()


def refork_first(wish: Wish) -> bool:
    """Whether refork-as-root comes before the root, whose /proc is that of the new namespace."""
    spec = wish.spec
    entered = "pid" in wish.unshare and "pid" not in spec.unshare2
    return bool(spec.rootfs and spec.refork_as_root and entered)


def understand(
    spec: JailSpec, hooks: Sequence[Step], *, born_in: frozenset[str], root: bool
) -> Wish:
    """Return what ``spec`` means. Raises JailError for what cannot work."""
    freebsd.refuse_elsewhere(spec)
    born = namespaces.canonical(born_in)
    namespaces.canonical(spec.unshare2)
    _check_hostname(spec)
    _check_network(spec, born)
    if not root:
        return _without_root(spec, hooks, born)
    identity = users.resolve(spec)
    unshare = _unshare_words(spec, born)
    user = "user" in born | unshare
    inside, outside = _split_hooks(spec, hooks, unshare)
    wish = Wish(
        spec=spec,
        hooks=inside,
        outside=outside,
        born_in=born,
        root=True,
        unshare=unshare,
        identity=identity,
        ids=userns.map_of(spec, identity) if user else None,
    )
    if wish.has_mounts:
        oldmounts.lacking()
    _check_root(wish)
    _check_binds(wish)
    _check_capabilities(wish)
    _check_interpreter(wish)
    cgroups.check(spec)
    return wish


def _unshare_words(spec: JailSpec, born: frozenset[str]) -> frozenset[str]:
    have = born | (frozenset(oldstyle.WORDS) if spec.namespace else frozenset())
    wanted = namespaces.implied_words(spec) | namespaces.late_words(spec)
    return namespaces.canonical(spec.unshare) | (wanted - have)


def _split_hooks(
    spec: JailSpec, hooks: Sequence[Step], unshare: frozenset[str]
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the hooks that run inside, and those of the old-style jail's outer process."""
    post_jail = bool(unshare or spec.jailed or spec.rootfs)
    inside = tuple(step for step in hooks if post_jail or step.phase is not Phase.POST_JAIL)
    if not spec.namespace:
        return inside, ()
    return inside, tuple(step for step in hooks if step.phase is Phase.POST_JAIL)


def _without_root(spec: JailSpec, hooks: Sequence[Step], born: frozenset[str]) -> Wish:
    """Refuse what only root can do (the original exits with 1 for chroot, uid and gid)."""
    for name in _ROOT_ONLY:
        if getattr(spec, name):
            raise JailError(
                f"{name} needs root",
                origin=spec.origins.get(name),
                reason=f"this process has uid {os.geteuid()}",
            )
    identity = users.resolve(spec)
    for name, value, own in (
        ("uid", identity.uid if spec.uid else None, os.geteuid()),
        ("gid", identity.gid if spec.gid else None, os.getegid()),
    ):
        if value is not None and value != own:
            raise JailError(
                f"cannot become {name} {value}",
                origin=spec.origins.get(name),
                reason=f"only root may; this process has {name} {own}",
            )
    return Wish(
        spec=spec,
        hooks=tuple(step for step in hooks if step.phase not in _PRIVILEGED_HOOKS),
        outside=(),
        born_in=born,
        root=False,
        unshare=frozenset(),
        identity=users.Identity(),
        ids=None,
    )


def _check_network(spec: JailSpec, born: frozenset[str]) -> None:
    origin = spec.origins.get("network")
    if spec.own_network and spec.network_grant is None:
        raise JailError(
            f"network = {spec.network} is made by an Emperor",
            origin=origin,
            reason="this instance has none",
            hint="unshare = net gives it an empty network of its own",
        )
    if spec.network is not None and "net" in spec.unshare | spec.unshare2:
        raise JailError(
            f"network = {spec.network} and unshare = net contradict each other", origin=origin
        )
    if spec.own_network and spec.rootfs_sys != "none" and "user" in born:
        raise JailError(
            f"rootfs-sys = {spec.rootfs_sys} does not go with network = {spec.network}",
            origin=spec.origins.get("rootfs_sys"),
            reason="a user namespace has no power over a network that was made before it",
        )
    if spec.network is not None and (spec.namespace_net or spec.setns):
        raise JailError(
            f"network = {spec.network} does not go with namespace-net or setns", origin=origin
        )


def _check_hostname(spec: JailSpec) -> None:
    name = spec.hostname
    if name is not None and (not name or len(name.encode()) > _MAX_HOSTNAME or "\0" in name):
        raise JailError(
            f"{name!r} is not a host name",
            origin=spec.origins.get("hostname"),
            reason=f"it must have 1 to {_MAX_HOSTNAME} bytes",
        )


def _check_root(wish: Wish) -> None:
    spec = wish.spec
    origin = wish.origin("rootfs")
    if spec.rootfs:
        for name in ("chroot", "pivot_root", "namespace"):
            if getattr(spec, name):
                raise JailError(f"rootfs and {name} cannot both be the root", origin=origin)
    rootcheck.check(wish.root_kind, origin)
    if spec.rootfs_reset and not (
        isinstance(wish.root_kind, OverlayRoot) and wish.root_kind.upper is not None
    ):
        raise JailError(
            "rootfs-reset has nothing to empty",
            origin=wish.origin("rootfs_reset"),
            reason="only rootfs = overlay:LOWER:UPPER keeps what is written",
        )
    if spec.pivot_root:
        _check_pivot(*spec.pivot_root, wish.origin("pivot_root"))


def _check_pivot(new: str, old: str, origin: Origin) -> None:
    if not (
        new.startswith("/") and hostview.is_below(old, new) and old.strip("/") != new.strip("/")
    ):
        raise JailError(
            f"cannot pivot_root to {new} and keep the old root at {old}",
            origin=origin,
            reason="the second must be the absolute path of a directory under the first",
        )


def _may_appear(wish: Wish) -> bool:
    """Whether a hook runs before the mounts, which may make what is missing now."""
    return any(ORDER[step.phase] < ORDER[Phase.ROOT] for step in wish.hooks)


def _check_binds(wish: Wish) -> None:
    for bind in wish.spec.binds:
        if not (bind.source.startswith("/") and bind.target.startswith("/")):
            raise JailError(
                f"bind {bind.source}:{bind.target} needs absolute paths", origin=bind.origin
            )
        if bind.idmap and wish.stays_root and wish.host_ids is None:
            raise JailError(
                f"bind {bind.source} with idmap needs a uid",
                origin=bind.origin,
                reason="the owner of the source becomes the vassal, which is root here",
                hint="uid = NAME, or a user namespace",
            )
        if not (bind.optional or os.path.exists(bind.source) or _may_appear(wish)):
            raise JailError(f"bind source {bind.source} does not exist", origin=bind.origin)
    for rule in (*wish.spec.mask_paths, *wish.spec.readonly_paths):
        if not rule.path.startswith("/"):
            raise JailError(f"{rule.path} is not an absolute path", origin=rule.origin)
    for one in wish.spec.tmpfs:
        if not one.target.startswith("/"):
            raise JailError(f"tmpfs {one.target} needs an absolute path", origin=one.origin)


def _check_capabilities(wish: Wish) -> None:
    spec = wish.spec
    lacking = capabilities.lacking(spec.cap or ())
    if lacking and wish.host_ids is None:
        raise JailError(
            f"capability {capabilities.names(lacking)} cannot be kept",
            origin=wish.origin("cap"),
            reason="this process does not have it",
        )
    withheld = (spec.cap or frozenset()) - (spec.emperor_cap or frozenset())
    if spec.emperor_cap is not None and withheld - {capabilities.number("setpcap")}:
        raise JailError(
            f"capability {capabilities.names(withheld)} cannot be kept",
            origin=wish.origin("cap"),
            reason="emperor-cap does not grant it to vassals",
        )
    needed = wish.has_mounts or spec.pivot_root or spec.namespace
    if (
        spec.emperor_cap is not None
        and needed
        and capabilities.number("sys_admin") not in spec.emperor_cap
    ):
        raise JailError(
            "this jail's mounts need the capability sys_admin",
            origin=wish.walls(),
            reason="emperor-cap does not grant it to vassals",
        )
    late = namespaces.late_words(spec)
    if (
        spec.emperor_cap is not None
        and late
        and capabilities.number("sys_admin") not in spec.emperor_cap
    ):
        raise JailError(
            f"these namespaces need the capability sys_admin: {' '.join(sorted(late))}",
            origin=wish.origin("time_offsets", "cgroups"),
            reason="emperor-cap does not grant it to vassals",
        )


def _check_interpreter(wish: Wish) -> None:
    """An instance that serves Python goes on importing as another uid, in another root."""
    spec = wish.spec
    if spec.privileged_exec or spec.unprivileged_exec or spec.chroot or spec.pivot_root:
        return  # a foreign program, or a root that hooks put together
    if spec.namespace:
        return
    origin = wish.origin("uid", "rootfs")
    kind = wish.root_kind
    if wish.shows_runtime or isinstance(kind, OverlayRoot | ImageRoot):
        return
    if isinstance(kind, DirectoryRoot):
        interpreter.check_visible(kind.path, [bind.target for bind in spec.binds], origin)
        return
    uid, groups = wish.identity.may()
    if wish.ids is not None:
        inside = wish.inside
        uid = wish.ids.uid(inside.uid or 0)
        groups = frozenset(wish.ids.gid(one) for one in (inside.gid or 0, *(inside.groups or ())))
    trees: tuple[str, ...] = ("/",)
    if spec.rootfs == HOST:
        trees = (*hostview.host_root().trees, *hostview.late_trees())
    interpreter.check_readable(uid, groups, origin, trees)
