"""The life of a vassal as a table: every state and every event → the next state and what to do.

The table is pure and total. The loop turns what happened into an ``Event``, asks ``step``, stores
the state and carries the actions out in order; it decides nothing by itself. ``ready``,
``accepting`` and ``loyal`` are facts about a running vassal, not states: a vassal may announce
them in any order, or lie.

A vassal that is being stopped may be so for four reasons, and what follows its death differs,
hence four states: STOPPING (forgotten), RESTARTING (started again at once), RETIRING (asleep on
its socket), HALTING (down until an operator starts it). DYING has lost its link and goes by
itself.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a vassal stands. The value is the word that ``donjon ls`` shows."""

    WAITING = "waiting"  # for its back-off, or for a change of a file that cannot run
    ASLEEP = "on-demand"  # its socket listens in the Emperor
    READING = "reading"  # its configuration is being evaluated, nothing runs
    BEING_BORN = "starting"  # the spawner has the order
    RUNNING = "running"
    REREADING = "reloading"  # runs, while its changed configuration is being evaluated
    STOPPING = "stopping"
    RESTARTING = "restarting"
    RETIRING = "retiring"
    HALTING = "halting"
    DYING = "dying"
    HALTED = "stopped"
    FORGOTTEN = "gone"

    __hash__ = object.__hash__  # by identity, as they compare; enum's own is a call of Python


class Event(enum.Enum):
    """What can happen to a vassal."""

    # its file
    CHANGED = enum.auto()
    REMOVED = enum.auto()
    OWNER_CHANGED = enum.auto()
    # reading it
    READ = enum.auto()  # what runs, if anything runs, may go on with it
    READ_OTHER_JAIL = enum.auto()  # needs another jail than what runs
    READ_FAILED = enum.auto()
    NOT_YET = enum.auto()  # the file is empty or half written
    # time
    DUE = enum.auto()  # the back-off is over
    DOZE = enum.auto()  # the same, for a vassal on demand
    OVERDUE = enum.auto()  # told to stop, and still there after the curse tolerance
    HUNG = enum.auto()  # heartbeats stopped
    # process
    CONNECTED = enum.auto()  # someone connected to the socket of a sleeper
    BORN = enum.auto()
    BIRTH_FAILED = enum.auto()
    DIED = enum.auto()
    EXILED = enum.auto()  # died with the code that says: do not start me again
    LOST = enum.auto()  # its end of the control socket is closed
    # its words
    SPAWNED = enum.auto()
    ACCEPTING = enum.auto()
    LOYAL = enum.auto()
    HEARTBEAT = enum.auto()
    CONFIG = enum.auto()
    LEAVE = enum.auto()
    REINFORCE = enum.auto()
    # the operator's
    START = enum.auto()
    STOP = enum.auto()
    RELOAD = enum.auto()
    RAGNAROK = enum.auto()

    __hash__ = object.__hash__  # by identity, as they compare; enum's own is a call of Python


class Action(enum.Enum):
    """What the loop does, in the order given."""

    READ = enum.auto()  # evaluate the configuration
    CANCEL_READ = enum.auto()
    READ_AGAIN = enum.auto()  # it changed while it was read: once more after this
    SPAWN = enum.auto()
    SCHEDULE = enum.auto()  # DUE or DOZE when the back-off allows
    UNSCHEDULE = enum.auto()
    LISTEN = enum.auto()  # wait for a connection on its socket
    UNLISTEN = enum.auto()
    TELL_STOP = enum.auto()  # byte 0 (or 2), and curse it
    TELL_GRACEFUL = enum.auto()  # byte 2, and curse it
    TELL_RELOAD = enum.auto()  # the new Launch where it takes one, then byte 1
    CURSE = enum.auto()  # it has the curse tolerance to go
    KILL = enum.auto()
    CLEAN = enum.auto()  # it is dead: give back descriptors, cgroup, files
    BLAME = enum.auto()  # blacklist it if it never was loyal
    FORGET = enum.auto()  # drop the record
    MARK_READY = enum.auto()
    MARK_ACCEPTING = enum.auto()
    MARK_LOYAL = enum.auto()
    MARK_BEAT = enum.auto()
    SEND_CONFIG = enum.auto()
    REINFORCE = enum.auto()

    __hash__ = object.__hash__  # by identity, as they compare; enum's own is a call of Python


_EVENTS = frozenset(Event)

Outcome = tuple[State, tuple[Action, ...]]
Row = dict[Event, Outcome]

WORDS = frozenset(
    {
        Event.SPAWNED,
        Event.ACCEPTING,
        Event.LOYAL,
        Event.HEARTBEAT,
        Event.CONFIG,
        Event.LEAVE,
        Event.REINFORCE,
    }
)
"""What a vassal can say. Without a process nobody can have said it: a leftover byte is ignored."""

READING_EVENTS = frozenset({Event.READ, Event.READ_OTHER_JAIL, Event.READ_FAILED, Event.NOT_YET})
BIRTH_EVENTS = frozenset({Event.BORN, Event.BIRTH_FAILED})
DEATH_EVENTS = frozenset({Event.DIED, Event.EXILED})
CLOCK_EVENTS = frozenset({Event.DUE, Event.DOZE})

_S, _E, _A = State, Event, Action


def _row(state: State, outcomes: Row, *ignored: frozenset[Event] | set[Event]) -> Row:
    """A row of the table. What is not handled must be named as ignored, so that nothing is
    forgotten."""
    row = dict(outcomes)
    for event in frozenset().union(*ignored):
        if event in row:
            raise ValueError(f"{state} handles and ignores {event}")
        row[event] = (state, ())
    missing = _EVENTS - row.keys()
    if missing:
        raise ValueError(f"{state} has no answer to {missing}")
    return row


def _facts(state: State) -> Row:
    """What a live vassal may say without changing its state."""
    return {
        _E.SPAWNED: (state, (_A.MARK_READY,)),
        _E.ACCEPTING: (state, (_A.MARK_ACCEPTING,)),
        _E.LOYAL: (state, (_A.MARK_LOYAL,)),
        _E.HEARTBEAT: (state, (_A.MARK_BEAT,)),
        _E.CONFIG: (state, (_A.SEND_CONFIG,)),
    }


def _leaving(state: State, after: Outcome, changes: Row, *ignored: set[Event]) -> Row:
    """A row for a vassal that was told to stop: it may still speak, be born, linger, die."""
    row: Row = {
        **_facts(state),
        _E.BORN: (state, (_A.TELL_STOP,)),
        _E.BIRTH_FAILED: after,
        _E.DIED: (after[0], (_A.CLEAN, *after[1])),
        _E.EXILED: (after[0], (_A.CLEAN, *after[1])),
        _E.OVERDUE: (state, (_A.KILL, _A.CURSE)),
        _E.HUNG: (state, (_A.KILL,)),
        **changes,
    }
    quiet = {_E.LOST, _E.LEAVE, _E.REINFORCE, _E.CONNECTED}
    return _row(state, row, quiet, READING_EVENTS, CLOCK_EVENTS, *ignored)


def _idle(state: State, changes: Row, *ignored: set[Event]) -> Row:
    """A row for a vassal without a process."""
    return _row(
        state,
        changes,
        {_E.OVERDUE, _E.HUNG, _E.LOST},
        WORDS,
        BIRTH_EVENTS,
        DEATH_EVENTS,
        *ignored,
    )


_GONE: Outcome = (_S.FORGOTTEN, (_A.FORGET,))

TABLE: dict[State, Row] = {
    _S.WAITING: _idle(
        _S.WAITING,
        {
            _E.CHANGED: (_S.WAITING, (_A.UNSCHEDULE, _A.SCHEDULE)),
            _E.OWNER_CHANGED: (_S.WAITING, (_A.UNSCHEDULE, _A.SCHEDULE)),
            _E.REMOVED: (_S.FORGOTTEN, (_A.UNSCHEDULE, _A.FORGET)),
            _E.DUE: (_S.READING, (_A.READ,)),
            _E.DOZE: (_S.ASLEEP, (_A.LISTEN,)),
            _E.START: (_S.READING, (_A.UNSCHEDULE, _A.READ)),
            _E.RELOAD: (_S.READING, (_A.UNSCHEDULE, _A.READ)),
            _E.STOP: (_S.HALTED, (_A.UNSCHEDULE,)),
            _E.RAGNAROK: (_S.FORGOTTEN, (_A.UNSCHEDULE, _A.FORGET)),
        },
        {_E.CONNECTED},
        set(READING_EVENTS),
    ),
    _S.ASLEEP: _idle(
        _S.ASLEEP,
        {
            _E.CONNECTED: (_S.READING, (_A.UNLISTEN, _A.READ)),
            _E.START: (_S.READING, (_A.UNLISTEN, _A.READ)),
            _E.STOP: (_S.HALTED, (_A.UNLISTEN,)),
            _E.REMOVED: (_S.FORGOTTEN, (_A.UNLISTEN, _A.FORGET)),
            _E.RAGNAROK: (_S.FORGOTTEN, (_A.UNLISTEN, _A.FORGET)),
        },
        {_E.CHANGED, _E.OWNER_CHANGED, _E.RELOAD},
        set(READING_EVENTS),
        set(CLOCK_EVENTS),
    ),
    _S.READING: _idle(
        _S.READING,
        {
            _E.READ: (_S.BEING_BORN, (_A.SPAWN,)),
            _E.READ_OTHER_JAIL: (_S.BEING_BORN, (_A.SPAWN,)),
            _E.READ_FAILED: (_S.WAITING, (_A.BLAME, _A.SCHEDULE)),
            _E.NOT_YET: (_S.WAITING, ()),
            _E.CHANGED: (_S.READING, (_A.CANCEL_READ, _A.READ)),
            _E.OWNER_CHANGED: (_S.READING, (_A.CANCEL_READ, _A.READ)),
            _E.REMOVED: (_S.FORGOTTEN, (_A.CANCEL_READ, _A.FORGET)),
            _E.STOP: (_S.HALTED, (_A.CANCEL_READ,)),
            _E.RAGNAROK: (_S.FORGOTTEN, (_A.CANCEL_READ, _A.FORGET)),
        },
        {_E.START, _E.RELOAD, _E.CONNECTED},
        set(CLOCK_EVENTS),
    ),
    _S.BEING_BORN: _row(
        _S.BEING_BORN,
        {
            _E.BORN: (_S.RUNNING, ()),
            _E.BIRTH_FAILED: (_S.WAITING, (_A.CLEAN, _A.BLAME, _A.SCHEDULE)),
            _E.CHANGED: (_S.BEING_BORN, (_A.READ_AGAIN,)),
            _E.RELOAD: (_S.BEING_BORN, (_A.READ_AGAIN,)),
            _E.OWNER_CHANGED: (_S.RESTARTING, ()),
            _E.REMOVED: (_S.STOPPING, ()),
            _E.STOP: (_S.HALTING, ()),
            _E.RAGNAROK: (_S.STOPPING, ()),
        },
        {_E.START, _E.CONNECTED, _E.OVERDUE, _E.HUNG, _E.LOST},
        WORDS,
        READING_EVENTS,
        DEATH_EVENTS,
        CLOCK_EVENTS,
    ),
    _S.RUNNING: _row(
        _S.RUNNING,
        {
            **_facts(_S.RUNNING),
            _E.CHANGED: (_S.REREADING, (_A.READ,)),
            _E.RELOAD: (_S.REREADING, (_A.READ,)),
            _E.OWNER_CHANGED: (_S.RESTARTING, (_A.TELL_STOP,)),
            _E.REMOVED: (_S.STOPPING, (_A.TELL_STOP,)),
            _E.STOP: (_S.HALTING, (_A.TELL_STOP,)),
            _E.RAGNAROK: (_S.STOPPING, (_A.TELL_STOP,)),
            _E.LEAVE: (_S.RETIRING, (_A.TELL_STOP,)),
            _E.REINFORCE: (_S.RUNNING, (_A.REINFORCE,)),
            _E.LOST: (_S.DYING, (_A.CURSE,)),
            _E.HUNG: (_S.DYING, (_A.KILL, _A.CURSE)),
            _E.DIED: (_S.WAITING, (_A.CLEAN, _A.BLAME, _A.SCHEDULE)),
            _E.EXILED: (_S.WAITING, (_A.CLEAN, _A.BLAME)),
        },
        {_E.START, _E.CONNECTED, _E.OVERDUE},
        BIRTH_EVENTS,
        READING_EVENTS,
        CLOCK_EVENTS,
    ),
    _S.REREADING: _row(
        _S.REREADING,
        {
            **_facts(_S.REREADING),
            _E.READ: (_S.RUNNING, (_A.TELL_RELOAD,)),
            _E.READ_OTHER_JAIL: (_S.RESTARTING, (_A.TELL_GRACEFUL,)),
            _E.READ_FAILED: (_S.RUNNING, ()),
            _E.NOT_YET: (_S.RUNNING, ()),
            _E.CHANGED: (_S.REREADING, (_A.READ_AGAIN,)),
            _E.RELOAD: (_S.REREADING, (_A.READ_AGAIN,)),
            _E.OWNER_CHANGED: (_S.RESTARTING, (_A.CANCEL_READ, _A.TELL_STOP)),
            _E.REMOVED: (_S.STOPPING, (_A.CANCEL_READ, _A.TELL_STOP)),
            _E.STOP: (_S.HALTING, (_A.CANCEL_READ, _A.TELL_STOP)),
            _E.RAGNAROK: (_S.STOPPING, (_A.CANCEL_READ, _A.TELL_STOP)),
            _E.LEAVE: (_S.RETIRING, (_A.CANCEL_READ, _A.TELL_STOP)),
            _E.REINFORCE: (_S.REREADING, (_A.REINFORCE,)),
            _E.LOST: (_S.DYING, (_A.CANCEL_READ, _A.CURSE)),
            _E.HUNG: (_S.DYING, (_A.CANCEL_READ, _A.KILL, _A.CURSE)),
            _E.DIED: (_S.WAITING, (_A.CANCEL_READ, _A.CLEAN, _A.BLAME, _A.SCHEDULE)),
            _E.EXILED: (_S.WAITING, (_A.CANCEL_READ, _A.CLEAN, _A.BLAME)),
        },
        {_E.START, _E.CONNECTED, _E.OVERDUE},
        BIRTH_EVENTS,
        CLOCK_EVENTS,
    ),
    _S.STOPPING: _leaving(
        _S.STOPPING,
        _GONE,
        {_E.CHANGED: (_S.RESTARTING, ())},  # the file came back before its vassal was gone
        {_E.OWNER_CHANGED, _E.REMOVED, _E.START, _E.STOP, _E.RELOAD, _E.RAGNAROK},
    ),
    _S.RESTARTING: _leaving(
        _S.RESTARTING,
        (_S.READING, (_A.READ,)),
        {
            _E.REMOVED: (_S.STOPPING, ()),
            _E.RAGNAROK: (_S.STOPPING, ()),
            _E.STOP: (_S.HALTING, ()),
        },
        {_E.CHANGED, _E.OWNER_CHANGED, _E.START, _E.RELOAD},
    ),
    _S.RETIRING: _leaving(
        _S.RETIRING,
        (_S.WAITING, (_A.SCHEDULE,)),
        {
            _E.REMOVED: (_S.STOPPING, ()),
            _E.RAGNAROK: (_S.STOPPING, ()),
            _E.STOP: (_S.HALTING, ()),
            _E.START: (_S.RESTARTING, ()),
        },
        {_E.CHANGED, _E.OWNER_CHANGED, _E.RELOAD},
    ),
    _S.HALTING: _leaving(
        _S.HALTING,
        (_S.HALTED, ()),
        {
            _E.REMOVED: (_S.STOPPING, ()),
            _E.RAGNAROK: (_S.STOPPING, ()),
            _E.START: (_S.RESTARTING, ()),
        },
        {_E.CHANGED, _E.OWNER_CHANGED, _E.STOP, _E.RELOAD},
    ),
    _S.DYING: _leaving(
        _S.DYING,
        (_S.WAITING, (_A.BLAME, _A.SCHEDULE)),
        {
            _E.EXILED: (_S.WAITING, (_A.CLEAN, _A.BLAME)),
            _E.REMOVED: (_S.STOPPING, ()),
            _E.RAGNAROK: (_S.STOPPING, (_A.KILL,)),  # it cannot be told any more
            _E.STOP: (_S.HALTING, ()),
        },
        {_E.CHANGED, _E.OWNER_CHANGED, _E.START, _E.RELOAD},
    ),
    _S.HALTED: _idle(
        _S.HALTED,
        {
            _E.START: (_S.READING, (_A.READ,)),
            _E.REMOVED: _GONE,
            _E.RAGNAROK: _GONE,
        },
        {_E.CHANGED, _E.OWNER_CHANGED, _E.STOP, _E.RELOAD, _E.CONNECTED},
        set(READING_EVENTS),
        set(CLOCK_EVENTS),
    ),
    _S.FORGOTTEN: _row(_S.FORGOTTEN, {}, _EVENTS),
}


def step(state: State, event: Event) -> Outcome:
    """Return what follows ``event`` in ``state``. Defined for every pair."""
    return TABLE[state][event]
