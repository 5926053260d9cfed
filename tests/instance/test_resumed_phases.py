"""A start that was begun without an interpreter: every step is done, each once, whatever was done
before."""

import pytest

from donjon.config.outline import outline
from donjon.config.spec import Launch
from donjon.instance.phases import InstancePhases
from donjon.jail.phase import Phase
from donjon.jail.plan import Plan
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass, replace
from donjon.server.phases import DropPoint

PHASES = (
    Phase.POST_JAIL,
    Phase.POST_JAIL,
    Phase.ROOT,
    Phase.DROP,
    Phase.DROP,
    Phase.DROP,
    Phase.AS_USER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Builtin):
    number: int
    done: list

    def describe(self):
        return f"note {self.number}"

    def execute(self, context):
        self.done.append(self.number)


@pytest.mark.parametrize("resume", [*range(len(PHASES) + 1), 0x4000])
def test_what_was_not_done_is_done_in_every_phase(resume):
    done = []
    steps = [Note(phase=phase, number=number, done=done) for number, phase in enumerate(PHASES)]
    launch = Launch()
    made = replace(
        outline(launch, root=False),
        plan=Plan((*steps, Note(phase=Phase.LIMITS, number=99, done=done))),
    )
    moments = InstancePhases(launch, made, Context())
    moments.have_done(resume)
    moments.drop(DropPoint.START)
    moments.drop(DropPoint.START)
    moments.enter(Phase.LIMITS)
    assert done == [*range(min(resume, len(PHASES)), len(PHASES)), 99]
