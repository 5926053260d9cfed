"""The steps that put a root together: ``rootfs``, ``tmpfs``, ``bind``, in the order they need.

The root first, with what every jail sees; then what the jail has of its own; then, over that, what
the configuration adds. The old root is left last.
"""

from __future__ import annotations

import os

from donjon.jail import (
    asked,
    binds,
    devices,
    etcfiles,
    hostview,
    image,
    lending,
    masks,
    mountmaps,
    mounts,
    overlay,
    proc,
    rootfs,
    runtime,
    sysfs,
)
from donjon.jail.asked import HOST, Wish
from donjon.jail.idmap import IdMap
from donjon.jail.phase import Phase
from donjon.jail.rootspec import DirectoryRoot, HostRoot, ImageRoot, OverlayRoot
from donjon.jail.step import Step

TMP_SIZE = 256 << 20
RUN_SIZE = 16 << 20
"""Bytes of the jail's own /tmp and /run, unless ``tmpfs`` says otherwise."""


def steps(wish: Wish) -> list[Step]:
    """Return the found that put the root together, the jail's own mounts last."""
    phase, spec = Phase.ROOT, wish.spec
    found: list[Step] = [mounts.MakePrivate(phase=phase, origin=wish.walls())]
    if "user" not in wish.unshare:
        found += lent_binds(wish, phase)
    if spec.rootfs:
        found += _new_root(wish)
    else:
        base = spec.chroot or (spec.pivot_root[0] if spec.pivot_root else "/")
        found.append(mounts.HoldRoot(phase=phase, base=base))
    found += _tmpfs(wish)
    if spec.rootfs == HOST:
        found += _late_views(wish)
    found += _binds(wish)
    found += _covers(wish)
    if spec.rootfs:
        origin = wish.origin("rootfs")
        sealed = isinstance(wish.root_kind, HostRoot | ImageRoot)
        found.append(rootfs.EnterRoot(phase=phase, origin=origin, seal=sealed))
    else:
        found.append(rootfs.ReleaseRoot(phase=phase))
    return found


def _inside(wish: Wish, target: str) -> str:
    """Return a mount point behind the links that a host root has: /var/run/x is /run/x."""
    if wish.spec.rootfs != HOST:
        return target
    return hostview.inside(target, hostview.host_root().links)


def _tmpfs(wish: Wish) -> list[Step]:
    return [
        mounts.TmpfsMount(
            phase=Phase.ROOT,
            origin=one.origin,
            target=_inside(wish, one.target),
            size=one.size,
            mode=one.mode,
            inodes=one.inodes,
        )
        for one in wish.spec.tmpfs
    ]


def _binds(wish: Wish) -> list[Step]:
    return [
        binds.BindMount(
            phase=Phase.ROOT,
            origin=bind.origin,
            source=bind.source,
            target=_inside(wish, bind.target),
            read_only=bind.read_only,
            optional=bind.optional,
            recursive=bind.recursive,
            idmap=bind.idmap,
        )
        for bind in wish.spec.binds
    ]


def lent_binds(wish: Wish, phase: Phase) -> list[Step]:
    """Return the steps that make mounts before the root, and outside the user namespace.

    Who is born in a user namespace is lent them by its parent.
    """
    if "user" in wish.born_in:
        return []
    root, found = wish.root_kind, list[Step]()
    if wish.ids is not None and isinstance(root, OverlayRoot | ImageRoot):
        origin = wish.origin("rootfs")
        found.append(lending.LendRoot(phase=phase, origin=origin, root=root, ids=wish.ids))
    mapped = tuple(bind for bind in wish.spec.binds if bind.idmap)
    if not mapped:
        return found
    who: mountmaps.Owner | IdMap
    if wish.ids is None:
        who = mountmaps.Owner(wish.identity.uid or 0, wish.identity.gid or 0)
    else:
        who = wish.ids
    origin = mapped[0].origin
    found.append(binds.LendBinds(phase=phase, origin=origin, binds=mapped, who=who))
    return found


def _covers(wish: Wish) -> list[Step]:
    phase, spec = Phase.ROOT, wish.spec
    found: list[Step] = [
        masks.ReadOnlyPath(phase=phase, origin=rule.origin, path=_inside(wish, rule.path))
        for rule in spec.readonly_paths
    ]
    found += [
        masks.MaskPath(phase=phase, origin=rule.origin, path=_inside(wish, rule.path))
        for rule in spec.mask_paths
    ]
    return found


def _powers_inside(wish: Wish) -> bool:
    """Whether the application may read what only root may, by its uid or by a capability."""
    return wish.stays_root or bool(asked.kept_capabilities(wish))


def _late_views(wish: Wish) -> list[Step]:
    """Show an interpreter or application that lives in the host's /tmp or /run in the jail's."""
    late = [(path, path) for path in hostview.late_trees()]
    late += [view for view in exposed(wish) if _is_late(*view)]
    origin = wish.origin("rootfs")
    return [
        binds.BindMount(
            phase=Phase.ROOT,
            origin=origin,
            source=source,
            target=target,
            read_only=True,
            recursive=True,
        )
        for source, target in late
    ]


def _new_root(wish: Wish) -> list[Step]:
    phase, origin, spec = Phase.ROOT, wish.origin("rootfs"), wish.spec
    found = _base(wish)
    if wish.shows_runtime:
        origin_of_runtime = wish.origin("runtime_mount", "rootfs")
        found.append(runtime.RuntimeMount(phase=phase, origin=origin_of_runtime))
    found += _proc_and_sys(wish)
    found.append(devices.DevMount(phase=phase, origin=origin, tty_group=wish.host_ids is None))
    given = {_inside(wish, one.target).rstrip("/") for one in spec.tmpfs}
    if "/tmp" not in given:
        found.append(mounts.TmpfsMount(phase=phase, origin=origin, target="/tmp", size=TMP_SIZE))
    if "/run" not in given:
        found.append(
            mounts.TmpfsMount(
                phase=phase,
                origin=origin,
                target="/run",
                size=RUN_SIZE,
                mode=0o755,
                uid=wish.inside.uid,
                gid=wish.inside.gid,
            )
        )
    return found + _etc_files(wish)


def _base(wish: Wish) -> list[Step]:
    """Return the steps that make the root itself."""
    phase, origin, root = Phase.ROOT, wish.origin("rootfs"), wish.root_kind
    if isinstance(root, DirectoryRoot):
        return [rootfs.NewDirectoryRoot(phase=phase, origin=origin, directory=root.path)]
    if isinstance(root, ImageRoot):
        inside = wish.host_ids is not None
        return [
            image.NewImageRoot(
                phase=phase, origin=origin, file=root.path, in_user_namespace=inside
            )
        ]
    if isinstance(root, OverlayRoot):
        return [
            overlay.NewOverlayRoot(
                phase=phase,
                origin=origin,
                root=root,
                in_user_namespace=wish.host_ids is not None,
                reset=wish.spec.rootfs_reset,
            )
        ]
    return _host_root(wish)


def _proc_and_sys(wish: Wish) -> list[Step]:
    phase, spec = Phase.ROOT, wish.spec
    found: list[Step] = []
    if "none" not in spec.rootfs_proc:
        hidden = [word for word in spec.rootfs_proc if word.startswith("hidepid=")]
        found.append(
            proc.ProcMount(
                phase=phase,
                origin=wish.origin("rootfs_proc", "rootfs"),
                own=wish.own_pids,
                root_inside=_powers_inside(wish),
                hidepid=hidden[0].partition("=")[2] if hidden else "",
                only_processes="subset=pid" in spec.rootfs_proc,
            )
        )
    if spec.rootfs_sys != "none":
        origin = wish.origin("rootfs_sys")
        found.append(sysfs.SysMount(phase=phase, origin=origin, mask=spec.rootfs_sys == "masked"))
    return found


def _etc_files(wish: Wish) -> list[Step]:
    """Return the step that makes files of /etc; a host root has the host's."""
    spec, is_host = wish.spec, wish.spec.rootfs == HOST
    asked_for = not is_host if spec.rootfs_etc is None else spec.rootfs_etc
    files = []
    granted = spec.network_grant.nameservers if spec.network_grant else ()
    if asked_for or spec.nameservers or granted:
        files.append("resolv.conf")
    if asked_for or spec.hostname:
        files.append("hosts")
    if spec.hostname and not is_host:  # whose /etc is read-only, and has no such file
        files.append("hostname")
    if not files or spec.rootfs_etc is False:
        return []
    step = etcfiles.EtcFiles(
        phase=Phase.ROOT,
        origin=wish.origin("rootfs_etc", "nameservers", "hostname", "rootfs"),
        files=tuple(files),
        hostname=spec.hostname,
        nameservers=spec.nameservers or granted,
        own_network="net" in wish.born_in | wish.unshare,
        required=bool(spec.rootfs_etc or spec.nameservers),
    )
    return [step]


def exposed(wish: Wish) -> list[tuple[str, str]]:
    """Return the application's paths that a host root must show, and where they are inside.

    Not those that are in a directory of the jail's own: the host need not have them.
    """
    view = hostview.host_root()
    own = [bind.target for bind in wish.spec.binds if not bind.optional]
    wanted = [
        path
        for path in map(os.path.normpath, wish.spec.expose)
        if not any(hostview.is_below(path, target) for target in own)
    ]
    shown = hostview.outermost(path for path in wanted if hostview.exposable(path, view.trees))
    return [(path, hostview.inside(path, view.links)) for path in shown]


def _is_late(source: str, target: str) -> bool:
    """Whether a view must wait for the jail's own /tmp and /run."""
    return hostview.in_scratch(target) or source != target


def _host_root(wish: Wish) -> list[Step]:
    phase, origin = Phase.ROOT, wish.origin("rootfs")
    application = tuple(path for path, target in exposed(wish) if not _is_late(path, target))
    targets = [
        *application,
        *(_inside(wish, bind.target) for bind in wish.spec.binds),
        *(_inside(wish, one.target) for one in wish.spec.tmpfs),
    ]
    shared = hostview.shared_tops(targets)
    found: list[Step] = [
        rootfs.NewHostRoot(
            phase=phase,
            origin=origin,
            own=hostview.part(frozenset(shared), without=True),
            shared=shared,
        )
    ]
    if application:
        found.append(
            rootfs.Expose(phase=phase, origin=origin, trees=application, why="the application")
        )
    found.append(rootfs.SealViews(phase=phase, origin=origin))
    return found
