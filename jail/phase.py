"""The moments of an instance's life, in their order (uwsgi-facts 2.1, 2.2)."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """A moment at which steps and hooks run. Members stand in the order in which they happen.

    The value is the name that options use: ``hook-<value>``.
    """

    AS_EMPEROR = "as-emperor"  # in the Emperor, beside the vassal that was just born; never fatal
    AS_VASSAL = "as-vassal"  # in the vassal, before its program starts
    ASAP = "asap"  # configuration is read, nothing else happened; again on reload
    PRE_JAIL = "pre-jail"  # privileged, on the host's side; not on reload
    JAIL = "jail"  # born in, or entering, cgroup and namespaces; not on reload
    IN_JAIL = "in-jail"  # inside old-style namespace or cgroup; again on reload
    POST_JAIL = "post-jail"  # after unshare or clone, before the root changes
    ROOT = "root"  # the root file system is put together and entered
    AS_ROOT = "as-root"  # last privileged moment, in the final root
    DROP = "drop"  # groups, uid, capabilities, no_new_privs
    AS_USER = "as-user"  # as the vassal's user
    LIMITS = "limits"  # working directory and resource limits
    PRE_APP = "pre-app"  # in the generation, before the application is loaded; again on reload
    POST_APP = "post-app"  # after the application is loaded; again on reload
    MASTER_START = "master-start"  # the master enters its loop
    POST_FORK = "post-fork"  # in each worker
    ACCEPTING = "accepting"  # each worker, each time it begins to accept
    ACCEPTING_ONCE = "accepting-once"  # each worker slot, once a generation
    ACCEPTING1 = "accepting1"  # worker 1, each time
    ACCEPTING1_ONCE = "accepting1-once"  # worker 1, once a generation
    AS_MULE = "as-mule"
    AS_GATEWAY = "as-gateway"
    TOUCH = "touch"  # in the master, when a watched file changed; never fatal
    EMPEROR_START = "emperor-start"
    EMPEROR_STOP = "emperor-stop"
    EMPEROR_RELOAD = "emperor-reload"
    EMPEROR_LOST = "emperor-lost"
    AS_USER_ATEXIT = "as-user-atexit"  # in the master, at exit and before a reload; never fatal
    FAULT = "fault"  # in the Emperor, when a vassal met a limit; never fatal

    __hash__ = object.__hash__  # by identity, as they compare; enum's own is a call of Python


ORDER: dict[Phase, int] = {phase: index for index, phase in enumerate(Phase)}

ON_RELOAD = frozenset({Phase.ASAP, Phase.IN_JAIL, Phase.PRE_APP, Phase.POST_APP})
"""Start-up phases that run again when an instance reloads (uwsgi-facts 2.2)."""

NEVER_FATAL = frozenset(
    {
        Phase.AS_EMPEROR,
        Phase.TOUCH,
        Phase.EMPEROR_STOP,
        Phase.EMPEROR_RELOAD,
        Phase.EMPEROR_LOST,
        Phase.AS_USER_ATEXIT,
        Phase.FAULT,
    }
)
"""Phases in which a failing hook is logged and life goes on (uwsgi-facts 2.3)."""
