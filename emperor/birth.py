"""What a newborn vassal is given, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from donjon.config.outline import Outline
from donjon.config.spec import Launch
from donjon.records import dataclass, field
from donjon.server.takeover import UnderWay

EMPEROR_FD = 3
"""Number of the control socket in a newborn; UWSGI_EMPEROR_FD names it."""

LAUNCH_FD = 4
ERROR_FD = 5
FIRST_FREE_FD = 6

AFTER_DROP = 0x4000
SOCKETS = 0x8000
"""Where to go on in a start of which a part was done without an interpreter; less than these: the
number of steps of the privilege phase that are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A start that was begun without an interpreter (``flat``), and needs one now.

    Without ``under_way`` an act failed and the start goes on at ``resume``, in words of our own.
    With it this process is the master that was woken, or (``is_worker``) worker 1. ``builds`` is
    a process beside the newborn that shares its root, and ends when the jail is built.
    """

    resume: int = SOCKETS
    under_way: UnderWay | None = None
    is_worker: bool = False
    builds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """All that a vassal gets from the Emperor.

    ``emperor_fd`` is the control socket (protocol bytes both ways), inheritable. On ``launch_fd``
    the Emperor sends a new Launch before byte 1: 4 bytes little-endian length, then a pickle; the
    vassal never writes there. ``error_fd`` is a pipe for one line of at most 4096 bytes when
    set-up fails; it is closed when the vassal is ready. ``born_in`` are the words of the
    namespaces given by clone3, ``in_cgroups`` says that the cgroups of the jail are made and
    entered already. ``environment`` is the whole environment, already in ``os.environ``. ``argv``
    is the command line that stands for this vassal (uwsgi-facts 1.4): /proc/PID/cmdline shows it,
    and a foreign program started by a binary patch receives it. ``outline`` is what the Emperor
    made of ``launch``, to be carried out; without it the vassal makes its own.
    ``shares_environment`` says that ``environment`` is that of every vassal.
    """

    name: str
    launch: Launch
    emperor_fd: int = EMPEROR_FD
    launch_fd: int = LAUNCH_FD
    error_fd: int = ERROR_FD
    born_in: frozenset[str] = frozenset()
    in_cgroups: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    outline: Outline | None = None
    shares_environment: bool = False
    begun: Begun | None = None
