"""What a jail takes on around the drop, in its order: standing, privileges, files, system calls.

Three lists for ``layers``: what is set while there are root's rights, what holds when they are
gone, and whether a process may gain privileges by executing programs. A filter and Landlock need
no_new_privs or CAP_SYS_ADMIN (seccomp(2), landlock_restrict_self(2)): where the operator wants
programs that gain privileges, both come just before the drop instead of after.
"""

from __future__ import annotations

import resource

from donjon.errors import JailError
from donjon.jail import (
    apparmor,
    asked,
    capabilities,
    landlock,
    limits,
    seccomp,
    seccomp_learn,
    seccomp_profile,
    standing,
)
from donjon.jail.asked import Wish
from donjon.jail.phase import Phase
from donjon.jail.seccomp_profile import Profile
from donjon.jail.spec import JailSpec
from donjon.jail.step import Step

_PHASE = Phase.DROP


def needs_rights(spec: JailSpec) -> bool:
    """Whether the operator asked for something that a customer's own rights are too few for."""
    learns = spec.seccomp is not None and spec.seccomp.learns
    return bool(
        learns
        or spec.cap
        or spec.rlimits
        or spec.oom_score_adj is not None
        or spec.io_priority is not None
        or spec.apparmor_profile
    )


def in_sight_of_the_host(wish: Wish) -> list[Step]:
    """Return what is done while the host's files are in sight (phase jail)."""
    phase, spec = Phase.JAIL, wish.spec
    steps: list[Step] = []
    if spec.seccomp is not None and spec.seccomp.learns:
        origin = wish.origin("seccomp")
        record = spec.seccomp.record
        steps.append(seccomp_learn.OpenRecord(phase=phase, origin=origin, record=record))
    if spec.oom_score_adj is not None:
        origin = wish.origin("oom_score_adj")
        steps.append(standing.SetOomScore(phase=phase, origin=origin, score=spec.oom_score_adj))
    return steps


def before(wish: Wish) -> list[Step]:
    """Return the steps before privileges are dropped."""
    spec = wish.spec
    steps: list[Step] = []
    core = any(one.kind == resource.RLIMIT_CORE for one in spec.rlimits)
    if wish.root and wish.jailed and not spec.keep_root and not core:
        steps.append(limits.NoCoreDumps(phase=_PHASE))
    if wish.jailed and not spec.keep_keyring:
        steps.append(standing.NewKeyring(phase=_PHASE, origin=wish.origin("keep_keyring")))
    for limit in spec.rlimits:
        steps.append(standing.LimitResource(phase=_PHASE, origin=limit.origin, limit=limit))
    if spec.io_priority is not None:
        kind, level = spec.io_priority
        origin = wish.origin("io_priority")
        steps.append(standing.SetIoPriority(phase=_PHASE, origin=origin, kind=kind, level=level))
    if spec.apparmor_profile is not None:
        steps.append(apparmor.step(spec.apparmor_profile, wish.origin("apparmor_profile")))
    steps += _rules(wish)
    if not no_new_privileges(wish):
        steps += _walls(wish)
    return steps


def after(wish: Wish) -> list[Step]:
    """Return the steps after privileges are dropped; the filter is the last."""
    return _walls(wish) if no_new_privileges(wish) else []


def no_new_privileges(wish: Wish) -> bool:
    """Whether programs that are executed give no privileges any more."""
    spec = wish.spec
    if spec.no_new_privs is not None:
        return spec.no_new_privs
    if spec.keep_root and wish.stays_root and wish.root:
        return False
    if not wish.root and spec.keep_root:
        return bool(spec.landlock) or _profile(wish) is not None
    return wish.jailed or bool(spec.landlock) or _profile(wish) is not None


def locks(wish: Wish, caps: frozenset[int] | None) -> int:
    """Return the securebits that a process with ``caps`` takes on.

    Not where programs shall gain what ``emperor-cap`` allows, or what set-user-id gives, or
    vassals are to be made.
    """
    spec = wish.spec
    if caps is None or not wish.root:
        return 0
    if spec.securebits is not None:
        return spec.securebits
    by_execution = (bool(caps) and spec.cap is None) or spec.no_new_privs is False
    return 0 if not wish.jailed or spec.keep_root or by_execution else capabilities.JAIL_LOCKS


def _rules(wish: Wish) -> list[Step]:
    rules = landlock.rules_of(wish.spec)
    if not rules:
        return []
    emperor = wish.spec.keep_root and wish.stays_root
    landlock.check(rules, emperor=emperor)
    scoped = any(rule.path == landlock.AUTO for rule in wish.spec.landlock)
    origin = rules[0].origin
    return [landlock.MakeRules(phase=_PHASE, origin=origin, rules=rules, scoped=scoped)]


def _walls(wish: Wish) -> list[Step]:
    spec = wish.spec
    steps: list[Step] = []
    if spec.landlock:
        origin = spec.landlock[0].origin
        steps.append(landlock.RestrictFiles(phase=_PHASE, origin=origin))
    profile = _profile(wish)
    if profile is not None:
        steps.append(_filter(wish, profile))
    return steps


def _filter(wish: Wish, profile: Profile) -> Step:
    origin = wish.origin("seccomp")
    if profile.learns:
        code, names = seccomp_learn.program()
        return seccomp_learn.RecordCalls(phase=_PHASE, origin=origin, code=code, names=names)
    refused = profile.refused()
    _check(wish, frozenset(refused))
    code = seccomp.program(refused)
    return seccomp.FilterCalls(phase=_PHASE, origin=origin, profile=str(profile), code=code)


def _check(wish: Wish, refused: frozenset[str]) -> None:
    """Refuse a filter that the rest of the start could not pass. Raises JailError."""
    origin = wish.origin("seccomp")
    needed = seccomp_profile.DROPPING & refused
    if needed and not no_new_privileges(wish):
        raise JailError(
            f"seccomp refuses {' '.join(sorted(needed))}, and the drop is still to come",
            origin=origin,
            reason="with no-new-privs = false the filter must stand before it",
        )
    if wish.spec.unprivileged_exec and "exec" in refused:
        raise JailError(
            "seccomp refuses exec, and a program is to be executed",
            origin=origin,
            reason=f"by {wish.spec.unprivileged_exec.command}",
        )


def _profile(wish: Wish) -> Profile | None:
    """Return the profile that holds, None for no filter.

    Unasked, every jail has one. Who has no right to install it without no_new_privs, and is to
    gain privileges by programs, goes without.
    """
    spec = wish.spec
    if spec.seccomp is None:
        silent = not wish.root and (spec.no_new_privs is False or spec.keep_root)
        if not wish.jailed or silent:
            return None
        emperor = spec.keep_root and wish.stays_root
        base = Profile("emperor" if emperor else "default")
    elif spec.seccomp.is_off:
        return None
    else:
        base = spec.seccomp
    if not wish.root and spec.no_new_privs is False:
        raise JailError(
            "seccomp needs no-new-privs",
            origin=wish.origin("seccomp"),
            reason="only root may filter system calls without",
        )
    return base.granting(asked.kept_capabilities(wish) or (), merging=spec.merges)
