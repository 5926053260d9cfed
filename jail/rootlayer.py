"""The steps that put a root together: ``rootfs``, ``tmpfs``, ``bind``, in the order they need.

The root first, with what every jail sees; then what the jail has of its own; then, over that, what
the configuration adds. The old root is left last.
"""

from __future__ import annotations

import os

from donjon.jail import asked, devices, hostview, mounts, proc, rootfs
from donjon.jail.asked import HOST, Wish
from donjon.jail.phase import Phase
from donjon.jail.step import Step

TMP_SIZE = 256 << 20
RUN_SIZE = 16 << 20
"""Bytes of the jail's own /tmp and /run, unless ``tmpfs`` says otherwise."""


def steps(wish: Wish) -> list[Step]:
    """Return the found that put the root together, the jail's own mounts last."""
    phase, spec = Phase.ROOT, wish.spec
    found: list[Step] = [mounts.MakePrivate(phase=phase, origin=wish.walls())]
    if spec.rootfs:
        found += _new_root(wish)
    else:
        base = spec.chroot or (spec.pivot_root[0] if spec.pivot_root else "/")
        found.append(mounts.HoldRoot(phase=phase, base=base))
    found += _tmpfs(wish)
    if spec.rootfs == HOST:
        found += _late_views(wish)
    found += _binds(wish)
    if spec.rootfs:
        origin = wish.origin("rootfs")
        found.append(rootfs.EnterRoot(phase=phase, origin=origin, seal=spec.rootfs == HOST))
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
        )
        for one in wish.spec.tmpfs
    ]


def _binds(wish: Wish) -> list[Step]:
    return [
        mounts.BindMount(
            phase=Phase.ROOT,
            origin=bind.origin,
            source=bind.source,
            target=_inside(wish, bind.target),
            read_only=bind.read_only,
            optional=bind.optional,
        )
        for bind in wish.spec.binds
    ]


def _powers_inside(wish: Wish) -> bool:
    """Whether the application may read what only root may, by its uid or by a capability."""
    return wish.stays_root or bool(asked.kept_capabilities(wish))


def _late_views(wish: Wish) -> list[Step]:
    """Show an interpreter or application that lives in the host's /tmp or /run in the jail's."""
    late = [(path, path) for path in hostview.late_trees()]
    late += [view for view in exposed(wish) if _is_late(*view)]
    origin = wish.origin("rootfs")
    return [
        mounts.BindMount(
            phase=Phase.ROOT, origin=origin, source=source, target=target, read_only=True
        )
        for source, target in late
    ]


def _new_root(wish: Wish) -> list[Step]:
    phase, origin, spec = Phase.ROOT, wish.origin("rootfs"), wish.spec
    found = _host_root(wish) if spec.rootfs == HOST else []
    if spec.rootfs and spec.rootfs != HOST:
        found.append(rootfs.NewDirectoryRoot(phase=phase, origin=origin, directory=spec.rootfs))
    found += [
        proc.ProcMount(
            phase=phase, origin=origin, own=wish.own_pids, root_inside=_powers_inside(wish)
        ),
        devices.DevMount(phase=phase, origin=origin, tty_group=wish.host_ids is None),
    ]
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
    return found


def exposed(wish: Wish) -> list[tuple[str, str]]:
    """Return the application's paths that a host root must show, and where they are inside."""
    view = hostview.host_root()
    wanted = [os.path.normpath(path) for path in wish.spec.expose]
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
