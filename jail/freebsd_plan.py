"""The plan of a start on FreeBSD: what a spec means there, and the steps around the hooks.

Of the phases those remain that FreeBSD has something for: the jail before the post-jail hooks,
chroot, gates, limits, the change of user, foreign programs. What only Linux has is refused by
name. A reload runs hooks alone: the instance is in its jail already.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence

from donjon.errors import JailError
from donjon.jail import execs, freebsd, gates, limits, rootfs, users
from donjon.jail.phase import ORDER, Phase
from donjon.jail.spec import JailSpec, WaitFor
from donjon.jail.step import Context, Step
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass

_LINUX_ONLY = {
    "clone_flags": "emperor-use-clone",
    "unshare": "unshare",
    "unshare2": "unshare2",
    "namespace": "namespace",
    "setns": "setns",
    "hostname": "hostname",
    "rootfs": "rootfs",
    "binds": "bind",
    "tmpfs": "tmpfs",
    "pivot_root": "pivot-root",
    "cgroups": "cgroup",
    "cgroup_options": "cgroup-opt",
    "cap": "cap",
    "emperor_cap": "emperor-cap",
    "no_new_privs": "no-new-privs",
    "refork": "refork",
    "refork_as_root": "refork-as-root",
    "refork_post_jail": "refork-post-jail",
}
_HINTS = {
    "hostname": "jail2 = host.hostname=NAME",
    "rootfs": "jail2 = path=DIR",
    "pivot_root": "jail2 = path=DIR",
    "unshare": "jail2 = vnet gives a network of its own",
    "setns": "jail-attach = NAME",
}
_WAYS = {"jail": "jail", "jail_parameters": "jail2", "jail_attach": "jail-attach"}
_ROOT_ONLY = ("jail", "jail_parameters", "jail_attach", "chroot", "uid", "gid")
_PRIVILEGED_HOOKS = frozenset({Phase.POST_JAIL, Phase.AS_ROOT, Phase.AS_USER})
_GATES = ("fs", "file", "dir", "socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A spec with what follows from it on FreeBSD."""

    spec: JailSpec
    hooks: tuple[Step, ...]
    root: bool
    identity: users.Identity

    def origin(self, field: str) -> Origin:
        """Return who set ``field``."""
        return _place(self.spec, field)


@dataclass(frozen=True, slots=True, kw_only=True)
class Become(users.Become):
    """Groups first, the uid last; FreeBSD keeps a death signal through it (procctl(2))."""

    def execute(self, context: Context) -> None:  # noqa: ARG002, D102
        users.become(self.identity)


def understand(spec: JailSpec, hooks: Sequence[Step], *, root: bool) -> Wish:
    """Return what ``spec`` means on FreeBSD. Raises JailError for what cannot work."""
    _refuse_linux(spec)
    way = _way(spec)
    _check_belongings(spec, way)
    if not root:
        _refuse_without_root(spec)
    inside = bool(way or spec.jailed)
    left_out = frozenset() if root else _PRIVILEGED_HOOKS
    kept = tuple(
        step
        for step in hooks
        if step.phase not in left_out and (inside or step.phase is not Phase.POST_JAIL)
    )
    _check_path(spec, kept)
    identity = users.resolve(spec) if root else users.Identity()
    return Wish(spec=spec, hooks=kept, root=root, identity=identity)


def before_hooks(wish: Wish) -> dict[Phase, list[Step]]:
    """Return the steps that stand before the hooks of each phase."""
    return {
        Phase.POST_JAIL: _jail(wish),
        Phase.ROOT: _root(wish),
        Phase.AS_ROOT: [_gate(wish, Phase.AS_ROOT, one) for one in _early(wish)],
        Phase.DROP: _drop(wish),
        Phase.LIMITS: _limits(wish),
    }


def after_hooks(wish: Wish) -> dict[Phase, list[Step]]:
    """Return the foreign programs, which stand after the hooks of their phase."""
    found: dict[Phase, list[Step]] = {}
    for phase, program in (
        (Phase.PRE_JAIL, wish.spec.privileged_exec),
        (Phase.AS_USER, wish.spec.unprivileged_exec),
    ):
        if program:
            found[phase] = [execs.Execute(phase=phase, origin=program.origin, program=program)]
    return found


def _place(spec: JailSpec, field: str) -> Origin:
    return spec.origins.get(field, DEFAULT)


def _refuse_linux(spec: JailSpec) -> None:
    for field, option in _LINUX_ONLY.items():
        if getattr(spec, field):
            hint = f"here: {_HINTS[field]}" if field in _HINTS else ""
            raise JailError(
                f"{option} needs Linux",
                origin=_place(spec, field),
                reason="this is FreeBSD",
                hint=hint,
            )
    for one in spec.wait_for:
        if one.kind not in _GATES:
            raise JailError(
                f"wait-for-{one.kind} needs Linux", origin=one.origin, reason="this is FreeBSD"
            )


def _way(spec: JailSpec) -> str:
    """Return the field that says which jail to enter, "" for none."""
    ways = [field for field in _WAYS if getattr(spec, field)]
    if len(ways) > 1:
        raise JailError(
            f"{_WAYS[ways[0]]} and {_WAYS[ways[1]]} cannot both be the jail",
            origin=_place(spec, ways[1]),
            hint="jail2 alone can say all that jail says",
        )
    return ways[0] if ways else ""


def _check_belongings(spec: JailSpec, way: str) -> None:
    for field in ("jail_ip4", "jail_ip6"):
        if getattr(spec, field) and way != "jail":
            raise JailError(
                f"{field.replace('_', '-')} needs jail",
                origin=_place(spec, field),
                hint=f"with jail2: jail2 = {field[5:8]}.addr=ADDRESS",
            )
    if spec.jidfile and not way:
        raise JailError("jidfile needs jail, jail2 or jail-attach", origin=_place(spec, "jidfile"))


def _refuse_without_root(spec: JailSpec) -> None:
    for field in _ROOT_ONLY:
        if getattr(spec, field):
            raise JailError(
                f"{_WAYS.get(field, field)} needs root",
                origin=_place(spec, field),
                reason=f"this process has uid {os.geteuid()}",
            )


def _check_path(spec: JailSpec, hooks: Sequence[Step]) -> None:
    """Refuse a root that is not there, unless a hook before the jail may make it."""
    if any(ORDER[step.phase] < ORDER[Phase.POST_JAIL] for step in hooks):
        return
    found = [(spec.jail.path, _place(spec, "jail"))] if spec.jail else []
    found += [(one.value or "", one.origin) for one in spec.jail_parameters if one.key == "path"]
    for path, origin in found:
        if not os.path.isdir(path):
            raise JailError(f"the jail's root {path} is not a directory", origin=origin)


def _jail(wish: Wish) -> list[Step]:
    spec, phase = wish.spec, Phase.POST_JAIL
    if spec.jail:
        return [
            freebsd.CreateOldJail(
                phase=phase,
                origin=wish.origin("jail"),
                jail=spec.jail,
                ip4=spec.jail_ip4,
                ip6=spec.jail_ip6,
                jidfile=spec.jidfile,
            )
        ]
    if spec.jail_parameters:
        return [
            freebsd.CreateJail(
                phase=phase,
                origin=spec.jail_parameters[0].origin,
                parameters=spec.jail_parameters,
                jidfile=spec.jidfile,
            )
        ]
    if spec.jail_attach:
        origin = wish.origin("jail_attach")
        return [
            freebsd.AttachJail(
                phase=phase, origin=origin, jail=spec.jail_attach, jidfile=spec.jidfile
            )
        ]
    return []


def _root(wish: Wish) -> list[Step]:
    if not wish.spec.chroot:
        return []
    origin = wish.origin("chroot")
    return [rootfs.Chroot(phase=Phase.ROOT, origin=origin, directory=wish.spec.chroot)]


def _early(wish: Wish) -> list[WaitFor]:
    found = [one for one in wish.spec.wait_for if one.kind != "socket" and not one.late]
    return sorted(found, key=lambda one: _GATES.index(one.kind)) if wish.root else []


def _gate(wish: Wish, phase: Phase, one: WaitFor) -> Step:
    spec = wish.spec
    timeout = spec.wait_for_socket_timeout if one.kind == "socket" else spec.wait_for_fs_timeout
    return gates.Gate(
        phase=phase, origin=one.origin, kind=one.kind, target=one.target, timeout=timeout
    )


def _drop(wish: Wish) -> list[Step]:
    spec, phase = wish.spec, Phase.DROP
    steps: list[Step] = []
    if spec.max_fd is not None:
        steps.append(_limit(wish, phase, "max_fd", resource.RLIMIT_NOFILE, spec.max_fd))
    if spec.prio is not None:
        steps.append(limits.Priority(phase=phase, origin=wish.origin("prio"), nice=spec.prio))
    if wish.identity != users.Identity():
        field = next((name for name in ("uid", "gid") if name in spec.origins), "add_gids")
        steps.append(Become(phase=phase, origin=wish.origin(field), identity=wish.identity))
    return steps


def _limits(wish: Wish) -> list[Step]:
    spec, phase = wish.spec, Phase.LIMITS
    late = [one for one in spec.wait_for if one.kind == "socket" or one.late]
    steps = [_gate(wish, phase, one) for one in late]
    if spec.limit_nproc is not None:
        steps.append(_limit(wish, phase, "limit_nproc", resource.RLIMIT_NPROC, spec.limit_nproc))
    if spec.limit_as is not None:
        steps.append(_limit(wish, phase, "limit_as", resource.RLIMIT_AS, spec.limit_as))
    return steps


def _limit(wish: Wish, phase: Phase, field: str, kind: int, value: int) -> Step:
    return limits.Limit(phase=phase, origin=wish.origin(field), kind=kind, value=value)
