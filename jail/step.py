"""A step: one small thing that is done once, in one phase, and can say what it is."""

from __future__ import annotations

from typing import ClassVar, Protocol

from donjon.jail.phase import Phase
from donjon.origin import DEFAULT, Origin
from donjon.records import dataclass, field


@dataclass(slots=True)
class Context:
    """What steps of one start share while they run.

    ``reload`` tells a reload from a first start. ``name`` is the vassal's, "" for a plain
    instance. ``born_in`` are the words of the namespaces in which clone3 made this process,
    ``""``-free. ``descriptors`` are descriptors that earlier steps opened for later ones, by a
    name; whoever takes one out owns it.
    """

    name: str = ""
    reload: bool = False
    born_in: frozenset[str] = frozenset()
    descriptors: dict[str, int] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    argv: tuple[str, ...] = ()  # what a foreign program is started with; its argv[0] is replaced
    stacked: int = 0  # mounts over / that are between the host's root and the one being made
    inherit: list[int] = field(default_factory=list)  # descriptors that a foreign program keeps


class Step(Protocol):
    """One value of a Plan.

    Frozen and picklable; all that can be checked was checked when it was made.
    """

    @property
    def phase(self) -> Phase:
        """When it runs."""
        ...

    @property
    def origin(self) -> Origin:
        """Who asked for it."""
        ...

    def describe(self) -> str:
        """Say in a few words what execute() will do, for ``donjon plan`` and ``--debug``."""
        ...

    def execute(self, context: Context) -> None:
        """Do it. Raises OSError or DonjonError; the runner of the plan adds the origin."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Builtin:
    """What the jail's own steps have in common.

    ``at_join`` steps are repeated by who joins the running jail (``join``), as its user and just
    before the first foreign instruction: walls that cannot be read off a process of the jail.
    There ``execute`` can import nothing any more, and their Context is new.
    """

    at_join: ClassVar[bool] = False
    phase: Phase
    origin: Origin = DEFAULT
