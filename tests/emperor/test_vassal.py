"""The table: total, and sound whatever happens in whatever order."""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from donjon.emperor.vassal import TABLE, WORDS, Action, Event, State, step

ALIVE = {
    State.RUNNING,
    State.REREADING,
    State.STOPPING,
    State.RESTARTING,
    State.RETIRING,
    State.HALTING,
    State.DYING,
}
FILE = [Event.CHANGED, Event.REMOVED, Event.OWNER_CHANGED]
OPERATOR = [Event.START, Event.STOP, Event.RELOAD, Event.RAGNAROK]


def test_every_state_answers_every_event():
    for state, event in itertools.product(State, Event):
        following, actions = step(state, event)
        assert isinstance(following, State), (state, event)
        assert all(isinstance(action, Action) for action in actions), (state, event)


def test_the_table_has_no_row_too_many():
    assert set(TABLE) == set(State)
    assert all(set(row) == set(Event) for row in TABLE.values())


def test_a_forgotten_vassal_stays_forgotten():
    assert {step(State.FORGOTTEN, event) for event in Event} == {(State.FORGOTTEN, ())}


@pytest.mark.parametrize("state", [s for s in State if s is not State.FORGOTTEN])
def test_ragnarok_leads_out_of_every_state(state):
    following, _actions = step(state, Event.RAGNAROK)
    assert following in (State.STOPPING, State.FORGOTTEN)


@pytest.mark.parametrize("state", [s for s in State if s not in ALIVE])
def test_words_without_a_process_change_nothing(state):
    assert {step(state, word) for word in WORDS} == {(state, ())}


@pytest.mark.parametrize("state", sorted(ALIVE, key=lambda s: s.name))
def test_a_death_is_always_cleaned_up(state):
    for event in (Event.DIED, Event.EXILED):
        _following, actions = step(state, event)
        assert Action.CLEAN in actions


def test_an_exiled_vassal_is_not_started_again_by_itself():
    following, actions = step(State.RUNNING, Event.EXILED)
    assert following is State.WAITING
    assert Action.SCHEDULE not in actions


def test_a_start_by_hand_works_during_the_back_off():
    assert step(State.WAITING, Event.START) == (
        State.READING,
        (Action.UNSCHEDULE, Action.READ),
    )


class Life(RuleBasedStateMachine):
    """A model of what the loop keeps, driven by every event that can be real in it."""

    def __init__(self):
        super().__init__()
        self.state = State.WAITING
        self.process = False
        self.ordered = False
        self.reading = False
        self.scheduled = True
        self.listening = False

    def apply(self, event):
        self.state, actions = step(self.state, event)
        for action in actions:
            self.do(action)

    def do(self, action):
        if action is Action.SPAWN:
            assert not self.process, "two processes for one vassal"
            assert not self.ordered, "two orders for one vassal"
            self.ordered = True
        elif action is Action.READ:
            assert not self.reading, "two readings at once"
            self.reading = True
        elif action is Action.CANCEL_READ:
            self.reading = False
        elif action is Action.SCHEDULE:
            assert not self.scheduled, "two timers"
            self.scheduled = True
        elif action is Action.UNSCHEDULE:
            self.scheduled = False
        elif action is Action.LISTEN:
            assert not self.listening
            self.listening = True
        elif action is Action.UNLISTEN:
            assert self.listening
            self.listening = False
        elif action is Action.CLEAN:
            self.process = False
        elif action in (Action.TELL_STOP, Action.TELL_GRACEFUL, Action.TELL_RELOAD):
            assert self.process, "nobody to tell"
        elif action is Action.FORGET:
            assert not self.process, "a process nobody knows"

    @rule(event=st.sampled_from(FILE + OPERATOR))
    def outside(self, event):
        self.apply(event)

    @precondition(lambda self: self.scheduled)
    @rule(event=st.sampled_from([Event.DUE, Event.DOZE]))
    def time_passes(self, event):
        self.scheduled = False
        self.apply(event)

    @precondition(lambda self: self.reading)
    @rule(
        event=st.sampled_from(
            [Event.READ, Event.READ_OTHER_JAIL, Event.READ_FAILED, Event.NOT_YET]
        )
    )
    def reading_ends(self, event):
        self.reading = False
        self.apply(event)

    @precondition(lambda self: self.ordered)
    @rule(event=st.sampled_from([Event.BORN, Event.BIRTH_FAILED]))
    def birth(self, event):
        self.ordered = False
        self.process = event is Event.BORN
        self.apply(event)

    @precondition(lambda self: self.process)
    @rule(event=st.sampled_from([Event.DIED, Event.EXILED]))
    def death(self, event):
        self.apply(event)
        assert not self.process

    @precondition(lambda self: self.process)
    @rule(event=st.sampled_from([*WORDS, Event.LOST, Event.OVERDUE, Event.HUNG]))
    def life(self, event):
        self.apply(event)

    @precondition(lambda self: self.listening)
    @rule()
    def someone_connects(self):
        self.apply(Event.CONNECTED)

    @invariant()
    def state_and_facts_agree(self):
        assert self.process == (self.state in ALIVE) or self.ordered
        assert self.reading == (self.state in (State.READING, State.REREADING))
        assert self.listening == (self.state is State.ASLEEP)
        assert not self.scheduled or self.state is State.WAITING


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
