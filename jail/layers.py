"""The jail's own steps, phase by phase, from a spec that is understood.

One function a phase, nothing else.
"""

from __future__ import annotations

import resource

from donjon.jail import (
    asked,
    capabilities,
    cgroups,
    confinement,
    execs,
    gates,
    limits,
    mounts,
    namespaces,
    oldstyle,
    proc,
    refork,
    rootfs,
    rootlayer,
    setns,
    userns,
    users,
)
from donjon.jail.asked import Wish
from donjon.jail.phase import Phase
from donjon.jail.spec import WaitFor
from donjon.jail.step import Step
from donjon.netns import naming

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
    if wish.spec.network_grant is not None:
        origin = wish.origin("network")
        grant = wish.spec.network_grant
        steps.append(namespaces.EnterNetwork(phase=phase, origin=origin, grant=grant))
    if wish.root and "user" in wish.born_in:
        origin = wish.origin("id_range", "uid")
        steps.append(userns.BecomeRootInside(phase=phase, origin=origin, ids=wish.ids))
    if wish.root and "fs" in wish.born_in:
        steps.append(mounts.MakePrivate(phase=phase, origin=wish.walls()))
    if wish.root and wish.spec.emperor_cap is not None:
        origin = wish.origin("emperor_cap")
        steps.append(capabilities.Bound(phase=phase, origin=origin, caps=wish.spec.emperor_cap))
    return steps


def _pre_jail(wish: Wish) -> list[Step]:
    path = wish.spec.setns
    if not path:
        return []
    origin = wish.origin("setns")
    uids = frozenset(wish.spec.setns_uids)
    return [setns.JoinNamespaces(phase=Phase.PRE_JAIL, origin=origin, path=path, uids=uids)]


def _jail(wish: Wish) -> list[Step]:
    phase, spec = Phase.JAIL, wish.spec
    steps: list[Step] = confinement.in_sight_of_the_host(wish)
    if not wish.root:
        return steps
    if spec.cgroups:
        origin = spec.cgroups[0].origin
        steps.append(cgroups.EnterCgroup(phase=phase, origin=origin, spec=spec))
    if spec.namespace:
        steps += _old_style(wish, spec.namespace)
    return steps


def _old_style(wish: Wish, value: str) -> list[Step]:
    phase, origin = Phase.JAIL, wish.origin("namespace")
    directory, hostname = oldstyle.split(value)
    network = wish.spec.namespace_net
    named = bool(network) and naming.exists(network or "")
    words = (*oldstyle.WORDS, *(("net",) if network and not named else ()))
    steps: list[Step] = [
        oldstyle.CloneJail(phase=phase, origin=origin, words=words, outside=wish.outside),
        mounts.MakePrivate(phase=phase, origin=origin),
    ]
    if network and named:
        where = wish.origin("namespace_net")
        steps.append(namespaces.JoinNetwork(phase=phase, origin=where, name=network))
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
    if "user" in wish.unshare:
        steps += rootlayer.lent_binds(wish, phase)
    if wish.unshare:
        steps.append(_unshare(wish, phase))
    if "fs" in wish.unshare:
        steps.append(mounts.MakePrivate(phase=phase, origin=wish.walls()))
    if spec.hostname is not None:
        origin = wish.origin("hostname")
        steps.append(namespaces.SetHostname(phase=phase, origin=origin, name=spec.hostname))
    return steps


def _unshare(wish: Wish, phase: Phase) -> Step:
    origin = wish.origin(
        "unshare", "rootfs", "binds", "tmpfs", "pivot_root", "hostname", "time_offsets"
    )
    words, offsets = tuple(sorted(wish.unshare)), wish.spec.time_offsets
    if "user" in wish.unshare and wish.ids is not None:
        origin = wish.origin("unshare", "id_range")
        return userns.UnshareUser(
            phase=phase, origin=origin, words=words, ids=wish.ids, offsets=offsets
        )
    return namespaces.Unshare(phase=phase, origin=origin, words=words, offsets=offsets)


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
        steps += rootlayer.steps(wish)
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


def _gates(wish: Wish) -> list[Step]:
    if not wish.root:
        return []
    found = [one for one in wish.spec.wait_for if one.kind in _GATE_ORDER and not one.late]
    found.sort(key=lambda one: _GATE_ORDER.index(one.kind))
    return [_gate(wish, Phase.AS_ROOT, one) for one in found]


def _drop(wish: Wish) -> list[Step]:
    phase, spec = Phase.DROP, wish.spec
    steps: list[Step] = []
    if spec.setns_preopen:
        origin, skip = wish.origin("setns_preopen"), frozenset(spec.setns_skip)
        steps.append(setns.HoldNamespaces(phase=phase, origin=origin, skip=skip))
    steps += confinement.before(wish)
    bounds = _bounds(wish)
    steps += [step for name, step in bounds.items() if name not in spec.own_limits]
    steps += _privileges(wish)
    steps += [step for name, step in bounds.items() if name in spec.own_limits]
    if confinement.no_new_privileges(wish):
        origin = wish.origin("no_new_privs")
        steps.append(capabilities.NoNewPrivileges(phase=phase, origin=origin))
    steps += confinement.after(wish)
    if wish.root and spec.refork:
        steps.append(_refork(wish, phase, "refork"))
    return steps


def _bounds(wish: Wish) -> dict[str, Step]:
    """Return what is set before the drop, with root's rights, unless a customer asks for it."""
    phase, spec = Phase.DROP, wish.spec
    bounds: dict[str, Step] = {}
    if spec.max_fd is not None:
        bounds["max_fd"] = _limit(wish, phase, resource.RLIMIT_NOFILE, spec.max_fd, "max_fd")
    if spec.prio is not None:
        origin = wish.origin("prio")
        bounds["prio"] = limits.Priority(phase=phase, origin=origin, nice=spec.prio)
    return bounds


def _privileges(wish: Wish) -> list[Step]:
    phase, spec, who = Phase.DROP, wish.spec, wish.inside
    caps = asked.kept_capabilities(wish)
    origin = wish.origin("cap", "uid")
    steps: list[Step] = []
    locks = confinement.locks(wish, caps)
    keep = bool(caps or locks) and not wish.stays_root
    # set-user-id programs that were let in could do nothing with an empty set
    bounding = wish.jailed and (wish.stays_root or spec.no_new_privs is not False)
    if wish.root and caps is not None and (bounding or keep):
        steps.append(
            capabilities.BeforeDrop(
                phase=phase, origin=origin, caps=caps, bounding=bounding, keep=keep
            )
        )
    if wish.root and who != users.NOBODY_ELSE:
        steps.append(
            users.Become(phase=phase, origin=wish.origin("uid", "gid", "add_gids"), identity=who)
        )
    if caps is not None and (wish.root or caps):
        ambient = spec.cap is not None
        steps.append(
            capabilities.Hold(phase=phase, origin=origin, caps=caps, ambient=ambient, locks=locks)
        )
    return steps


def _limit(wish: Wish, phase: Phase, kind: int, value: int, field: str) -> Step:
    return limits.Limit(phase=phase, origin=wish.origin(field), kind=kind, value=value)


def _limits(wish: Wish) -> list[Step]:
    phase, spec = Phase.LIMITS, wish.spec
    late = [one for one in spec.wait_for if one.kind == "socket" or one.late]
    steps: list[Step] = [_gate(wish, phase, one) for one in late]
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
    if one.kind == "interface":
        from donjon.jail import interfaces  # noqa: PLC0415  (slow, and most jails never need it)

        return interfaces.InterfaceGate(
            phase=phase, origin=one.origin, target=one.target, timeout=timeout
        )
    return gates.Gate(
        phase=phase, origin=one.origin, kind=one.kind, target=one.target, timeout=timeout
    )
