"""The jail's own steps, phase by phase, from a spec that is understood.

One function a phase, nothing else.
"""

from __future__ import annotations

import os
import resource

from donjon.jail import (
    asked,
    capabilities,
    cgroups,
    devices,
    execs,
    gates,
    limits,
    mounts,
    namespaces,
    oldstyle,
    proc,
    refork,
    rootfs,
    setns,
    userns,
    users,
)
from donjon.jail.asked import HOST, Wish
from donjon.jail.phase import Phase
from donjon.jail.spec import WaitFor
from donjon.jail.step import Step

TMP_SIZE = 256 << 20
RUN_SIZE = 16 << 20
"""Bytes of the jail's own /tmp and /run, unless ``tmpfs`` says otherwise."""

_GATE_ORDER = ("interface", "fs", "file", "dir", "mountpoint")


def before_hooks(wish: Wish) -> dict[Phase, list[Step]]:
    """Return the steps that stand before the hooks of each phase."""
    return {
        Phase.AS_VASSAL: _as_vassal(wish),
        Phase.PRE_JAIL: _pre_jail(wish),
        Phase.JAIL: _jail(wish),
        Phase.POST_JAIL: _post_jail(wish),
        Phase.ROOT: _root(wish),
        Phase.AS_ROOT: _gates(wish),
        Phase.DROP: _drop(wish),
        Phase.LIMITS: _limits(wish),
    }


def after_hooks(wish: Wish) -> dict[Phase, list[Step]]:
    """Return the steps that stand after the hooks of each phase."""
    spec = wish.spec
    after: dict[Phase, list[Step]] = {}
    if spec.privileged_exec:
        program = spec.privileged_exec
        after[Phase.PRE_JAIL] = [
            execs.Execute(phase=Phase.PRE_JAIL, origin=program.origin, program=program)
        ]
    if wish.root and spec.refork_post_jail:
        after[Phase.POST_JAIL] = [_refork(wish, Phase.POST_JAIL, "refork_post_jail")]
    if spec.unprivileged_exec:
        program = spec.unprivileged_exec
        after[Phase.AS_USER] = [
            execs.Execute(phase=Phase.AS_USER, origin=program.origin, program=program)
        ]
    return after


def _refork(wish: Wish, phase: Phase, field: str) -> Step:
    return refork.Refork(phase=phase, origin=wish.origin(field))


def _as_vassal(wish: Wish) -> list[Step]:
    phase = Phase.AS_VASSAL
    steps: list[Step] = []
    if wish.root and "user" in wish.born_in:
        steps.append(userns.BecomeRootInside(phase=phase, origin=wish.origin("uid")))
    if wish.root and "fs" in wish.born_in:
        steps.append(mounts.MakePrivate(phase=phase))
    if wish.root and wish.spec.emperor_cap is not None:
        origin = wish.origin("emperor_cap")
        steps.append(capabilities.Bound(phase=phase, origin=origin, caps=wish.spec.emperor_cap))
    return steps


def _pre_jail(wish: Wish) -> list[Step]:
    path = wish.spec.setns
    if not path:
        return []
    origin = wish.origin("setns")
    return [setns.JoinNamespaces(phase=Phase.PRE_JAIL, origin=origin, path=path)]


def _jail(wish: Wish) -> list[Step]:
    phase, spec = Phase.JAIL, wish.spec
    if not wish.root:
        return []
    steps: list[Step] = []
    if spec.cgroups:
        origin = spec.cgroups[0].origin
        steps.append(cgroups.EnterCgroup(phase=phase, origin=origin, spec=spec))
    if spec.namespace:
        steps += _old_style(wish, spec.namespace)
    return steps


def _old_style(wish: Wish, value: str) -> list[Step]:
    phase, origin = Phase.JAIL, wish.origin("namespace")
    directory, hostname = oldstyle.split(value)
    words = (*oldstyle.WORDS, *(("net",) if wish.spec.namespace_net else ()))
    steps: list[Step] = [
        oldstyle.CloneJail(phase=phase, origin=origin, words=words, outside=wish.outside),
        mounts.MakePrivate(phase=phase, origin=origin),
    ]
    if hostname:
        steps.append(namespaces.SetHostname(phase=phase, origin=origin, name=hostname))
    keep = wish.spec.namespace_keep_mounts
    steps += [
        oldstyle.OldRoot(phase=phase, origin=origin, directory=directory, keep=keep),
        proc.ProcMount(phase=phase, origin=origin, own=True, mask=False),
        rootfs.EnterRoot(phase=phase, origin=origin, seal=False),
    ]
    return steps


def _post_jail(wish: Wish) -> list[Step]:
    phase, spec = Phase.POST_JAIL, wish.spec
    if not wish.root:
        return []
    steps: list[Step] = []
    if wish.unshare:
        steps.append(_unshare(wish, phase))
    if "fs" in wish.unshare:
        steps.append(mounts.MakePrivate(phase=phase))
    if spec.hostname is not None:
        origin = wish.origin("hostname")
        steps.append(namespaces.SetHostname(phase=phase, origin=origin, name=spec.hostname))
    return steps


def _unshare(wish: Wish, phase: Phase) -> Step:
    origin = wish.origin("unshare", "rootfs", "binds", "tmpfs", "pivot_root", "hostname")
    words = tuple(sorted(wish.unshare))
    if "user" in wish.unshare and wish.host_ids is not None:
        uid, gid = wish.host_ids
        return userns.UnshareUser(phase=phase, origin=origin, words=words, uid=uid, gid=gid)
    return namespaces.Unshare(phase=phase, origin=origin, words=words)


def _root(wish: Wish) -> list[Step]:
    phase, spec = Phase.ROOT, wish.spec
    if not wish.root:
        return []
    steps: list[Step] = []
    first = asked.refork_first(wish)
    if first:
        steps.append(_refork(wish, phase, "refork_as_root"))
    if wish.host_ids is not None and not spec.keep_root and "user" not in spec.unshare2:
        steps.append(userns.ForbidNested(phase=phase, origin=wish.origin("uid")))
    if wish.has_mounts:
        steps += _mounts(wish)
    if spec.chroot:
        origin = wish.origin("chroot")
        steps.append(rootfs.Chroot(phase=phase, origin=origin, directory=spec.chroot))
    if spec.pivot_root:
        new, old = spec.pivot_root
        origin = wish.origin("pivot_root")
        steps.append(rootfs.PivotRoot(phase=phase, origin=origin, new=new, old=old))
    if spec.unshare2:
        words = tuple(sorted(namespaces.canonical(spec.unshare2)))
        origin = wish.origin("unshare2")
        steps.append(namespaces.Unshare(phase=phase, origin=origin, words=words))
        if "fs" in words:
            steps.append(mounts.MakePrivate(phase=phase, origin=origin))
    if spec.refork_as_root and not first:
        steps.append(_refork(wish, phase, "refork_as_root"))
    return steps


def _mounts(wish: Wish) -> list[Step]:
    """Return the steps that put the root together, the jail's own mounts last."""
    phase, spec = Phase.ROOT, wish.spec
    steps: list[Step] = [mounts.MakePrivate(phase=phase)]
    if spec.rootfs:
        steps += _new_root(wish)
    else:
        base = spec.chroot or (spec.pivot_root[0] if spec.pivot_root else "/")
        steps.append(mounts.HoldRoot(phase=phase, base=base))
    steps += _tmpfs(wish)
    if spec.rootfs == HOST:
        steps += _late_views(wish)
    steps += _binds(wish)
    if spec.rootfs:
        origin = wish.origin("rootfs")
        steps.append(rootfs.EnterRoot(phase=phase, origin=origin, seal=spec.rootfs == HOST))
    else:
        steps.append(rootfs.ReleaseRoot(phase=phase))
    return steps


def _inside(wish: Wish, target: str) -> str:
    """Return a mount point behind the links that a host root has: /var/run/x is /run/x."""
    if wish.spec.rootfs != HOST:
        return target
    return rootfs.inside(target, rootfs.host_root()[1].links)


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
    return wish.stays_root or bool(kept_capabilities(wish))


def _late_views(wish: Wish) -> list[Step]:
    """Show an interpreter or application that lives in the host's /tmp or /run in the jail's."""
    late = [(path, path) for path in rootfs.late_trees()]
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
    steps = _host_root(wish) if spec.rootfs == HOST else []
    if spec.rootfs and spec.rootfs != HOST:
        steps.append(rootfs.NewDirectoryRoot(phase=phase, origin=origin, directory=spec.rootfs))
    steps += [
        proc.ProcMount(
            phase=phase, origin=origin, own=wish.own_pids, root_inside=_powers_inside(wish)
        ),
        devices.DevMount(phase=phase, origin=origin, tty_group=wish.host_ids is None),
    ]
    given = {_inside(wish, one.target).rstrip("/") for one in spec.tmpfs}
    if "/tmp" not in given:
        steps.append(mounts.TmpfsMount(phase=phase, origin=origin, target="/tmp", size=TMP_SIZE))
    if "/run" not in given:
        inside = wish.identity if wish.host_ids is None else users.Identity()
        steps.append(
            mounts.TmpfsMount(
                phase=phase,
                origin=origin,
                target="/run",
                size=RUN_SIZE,
                mode=0o755,
                uid=inside.uid,
                gid=inside.gid,
            )
        )
    return steps


def exposed(wish: Wish) -> list[tuple[str, str]]:
    """Return the application's paths that a host root must show, and where they are inside."""
    layout = rootfs.host_root()[1]
    wanted = [os.path.normpath(path) for path in wish.spec.expose]
    shown = rootfs.outermost(path for path in wanted if rootfs.exposable(path, layout.trees))
    return [(path, rootfs.inside(path, layout.links)) for path in shown]


def _is_late(source: str, target: str) -> bool:
    """Whether a view must wait for the jail's own /tmp and /run."""
    return rootfs.in_scratch(target) or source != target


def _host_root(wish: Wish) -> list[Step]:
    phase, origin = Phase.ROOT, wish.origin("rootfs")
    directories, layout = rootfs.host_root()
    application = tuple(path for path, target in exposed(wish) if not _is_late(path, target))
    targets = [
        *application,
        *(_inside(wish, bind.target) for bind in wish.spec.binds),
        *(_inside(wish, one.target) for one in wish.spec.tmpfs),
    ]
    steps: list[Step] = [
        rootfs.NewHostRoot(
            phase=phase,
            origin=origin,
            directories=directories,
            layout=layout,
            shared=rootfs.shared_tops(layout, targets),
        )
    ]
    if application:
        steps.append(
            rootfs.Expose(phase=phase, origin=origin, trees=application, why="the application")
        )
    steps.append(rootfs.SealViews(phase=phase, origin=origin))
    return steps


def _gates(wish: Wish) -> list[Step]:
    if not wish.root:
        return []
    found = [one for one in wish.spec.wait_for if one.kind in _GATE_ORDER]
    found.sort(key=lambda one: _GATE_ORDER.index(one.kind))
    return [_gate(wish, Phase.AS_ROOT, one) for one in found]


def _drop(wish: Wish) -> list[Step]:
    phase, spec = Phase.DROP, wish.spec
    steps: list[Step] = []
    if wish.root and wish.jailed and not spec.keep_root:
        steps.append(limits.NoCoreDumps(phase=phase))
    if spec.max_fd is not None:
        steps.append(_limit(wish, phase, resource.RLIMIT_NOFILE, spec.max_fd, "max_fd"))
    if spec.prio is not None:
        steps.append(limits.Priority(phase=phase, origin=wish.origin("prio"), nice=spec.prio))
    steps += _privileges(wish)
    if _no_new_privileges(wish):
        origin = wish.origin("no_new_privs")
        steps.append(capabilities.NoNewPrivileges(phase=phase, origin=origin))
    if wish.root and spec.refork:
        steps.append(_refork(wish, phase, "refork"))
    return steps


def _no_new_privileges(wish: Wish) -> bool:
    if wish.spec.no_new_privs is not None:
        return wish.spec.no_new_privs
    return wish.root and wish.jailed and not (wish.spec.keep_root and wish.stays_root)


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


def _privileges(wish: Wish) -> list[Step]:
    phase, spec, who = Phase.DROP, wish.spec, wish.identity
    caps = kept_capabilities(wish)
    origin = wish.origin("cap", "uid")
    steps: list[Step] = []
    keep = bool(caps) and not wish.stays_root
    if wish.root and caps is not None and (wish.jailed or keep):
        steps.append(
            capabilities.BeforeDrop(
                phase=phase, origin=origin, caps=caps, bounding=wish.jailed, keep=keep
            )
        )
    if wish.root and wish.host_ids is None and who != users.Identity():
        steps.append(
            users.Become(phase=phase, origin=wish.origin("uid", "gid", "add_gids"), identity=who)
        )
    if caps is not None and (wish.root or caps):
        ambient = spec.cap is not None
        steps.append(capabilities.Hold(phase=phase, origin=origin, caps=caps, ambient=ambient))
    return steps


def _limit(wish: Wish, phase: Phase, kind: int, value: int, field: str) -> Step:
    return limits.Limit(phase=phase, origin=wish.origin(field), kind=kind, value=value)


def _limits(wish: Wish) -> list[Step]:
    phase, spec = Phase.LIMITS, wish.spec
    steps: list[Step] = [_gate(wish, phase, one) for one in spec.wait_for if one.kind == "socket"]
    if spec.limit_nproc is not None:
        kind = resource.RLIMIT_NPROC
        steps.append(_limit(wish, phase, kind, spec.limit_nproc, "limit_nproc"))
    if spec.limit_as is not None:
        steps.append(_limit(wish, phase, resource.RLIMIT_AS, spec.limit_as, "limit_as"))
    return steps


def _gate(wish: Wish, phase: Phase, one: WaitFor) -> Step:
    spec = wish.spec
    seconds = {
        "interface": spec.wait_for_interface_timeout,
        "mountpoint": spec.wait_for_mountpoint_timeout,
        "socket": spec.wait_for_socket_timeout,
    }
    timeout = seconds.get(one.kind, spec.wait_for_fs_timeout)
    return gates.Gate(
        phase=phase, origin=one.origin, kind=one.kind, target=one.target, timeout=timeout
    )
