"""Faults: what happens to a vassal at its limits, counted, with a look at its processes.

The kernel counts; ``cgroup_driver.Counts`` reads. It tells by itself of memory (an eventfd on
version 1, a modified file on version 2), of refused forks on version 2, and of pressure where the
vassal's plan asks for it. Of throttling, and of refused forks on version 1, it tells nobody: a
vassal with such a limit is looked at every LOOK seconds, and whenever somebody asks. A fault is a
line in the log of Emperor and vassal, a count in the statistics, and a run of ``hook-fault``.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import select
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from donjon import log, syscalls
from donjon.emperor.live import pids_of
from donjon.emperor.roster import Vassal
from donjon.emperor.watch import OVERFLOW, Watch
from donjon.jail import cgroups
from donjon.jail.cgroup_driver import Counts
from donjon.records import dataclass, field

if TYPE_CHECKING:
    from donjon.emperor.loop import Emperor

LOOK = 10.0
"""Seconds between looks at counts of which the kernel does not tell."""

STEP = 0.5
"""Seconds between two turns of looking, each at a few vassals: no turn may hold the loop."""

HOOK_PAUSE = 10.0
"""Seconds between two runs of hook-fault for one kind of fault of one vassal; the next run is told
how often it happened."""

SILENCE = 60.0
"""Seconds between two lines about the same kind of fault in a log: a vassal can cause many."""

PAUSE = 1.0
"""Seconds between two looks for what the kernel tells."""

RECENT = 16
PROCESSES = 32
LOOKED_AT = 64
"""Processes of a group that are looked at for the largest: there may be thousands."""


class Kind(enum.Enum):
    """What can happen. The value is the word that hooks and statistics use."""

    OOM = "oom"
    MEMORY = "memory"
    MEMORY_HIGH = "memory-high"
    PIDS = "pids"
    THROTTLED = "throttled"
    PRESSURE_CPU = "pressure-cpu"
    PRESSURE_MEMORY = "pressure-memory"
    PRESSURE_IO = "pressure-io"


_COUNTED = {
    Kind.OOM: ("oom_kill", "out of memory, processes killed: {}"),
    Kind.MEMORY: ("memory_max", "memory was full, times: {}"),
    Kind.MEMORY_HIGH: ("memory_high", "slowed down for its use of memory, times: {}"),
    Kind.PIDS: ("pids", "no more processes allowed, refused: {}"),
    Kind.THROTTLED: ("throttled", "at its ceiling of processor time, periods: {}"),
}
_QUIET = frozenset({Kind.MEMORY, Kind.MEMORY_HIGH, Kind.THROTTLED})
"""What a busy vassal meets all the time: counted and told to the hook, but no line in a log."""

_RESOURCES = {
    "cpu": Kind.PRESSURE_CPU,
    "memory": Kind.PRESSURE_MEMORY,
    "io": Kind.PRESSURE_IO,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One process at the moment of a fault. ``rss`` is in bytes."""

    pid: int
    name: str
    rss: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happened ``count`` times; ``when`` is in seconds since the epoch."""

    kind: Kind
    count: int
    when: float
    text: str
    processes: tuple[Seen, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as values for programs."""
        return {
            "kind": self.kind.value,
            "count": self.count,
            "when": self.when,
            "text": self.text,
            "processes": [
                {"pid": one.pid, "name": one.name, "rss": one.rss} for one in self.processes
            ],
        }


@dataclass(slots=True)
class Record:
    """What is known of one vassal's faults, and what tells of more."""

    counts: Counts
    totals: Counter[Kind] = field(default_factory=Counter)
    recent: deque[Fault] = field(default_factory=lambda: deque(maxlen=RECENT))
    last: dict[Kind, Fault] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    pressure: int | None = None
    eventfds: list[int] = field(default_factory=list)
    triggers: list[int] = field(default_factory=list)
    watches: list[str] = field(default_factory=list)
    untold: Counter[Kind] = field(default_factory=Counter)
    told: dict[Kind, float] = field(default_factory=dict)
    said: dict[Kind, float] = field(default_factory=dict)  # when a log had a line of it
    due: set[Kind] = field(default_factory=set)  # kinds that the hook will be told of
    look_due: bool = False
    there: tuple[Seen, ...] = ()  # its processes when the kernel told of something
    silent: bool = False  # has a limit of which the kernel does not tell


class Faults:
    """Watches the groups of all vassals."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self.reactor = emperor.reactor
        self._records: dict[str, Record] = {}
        self._modified: Watch | None = None
        self._files: dict[str, set[str]] = {}  # a watched file → vassals: a group may have more
        self._looking = False
        self._round: list[str] = []  # who is still to be looked at

    def close(self) -> None:
        """Forget everything."""
        for name in list(self._records):
            self.forget(name)
        if self._modified is not None:
            self.reactor.forget(self._modified.fileno())
            self._modified.close()
            self._modified = None

    def watch(self, vassal: Vassal) -> None:
        """Watch the groups of a vassal that was just born, or whose plan changed."""
        groups = self.emperor.nursery.groups
        paths = tuple(groups.paths(vassal.name))
        record = self._records.get(vassal.name)
        if not paths:
            return
        hosting = vassal.process.reading.hosting if vassal.process else None
        pressure = hosting.pressure if hosting else None
        if record is not None and (record.paths, record.pressure) == (paths, pressure):
            self._mind(record, vassal)
            return
        kept = record or Record(cgroups.counts_of(paths))
        self._unwatch(vassal.name, kept)
        kept.paths, kept.pressure = paths, pressure
        self._records[vassal.name] = kept
        for path in paths:
            self._watch_group(kept, vassal.name, path)
        self._mind(kept, vassal)

    def _mind(self, record: Record, vassal: Vassal) -> None:
        """Look at it now and then where its limits are of the kind that nobody tells of."""
        jail = vassal.process.reading.launch.jail if vassal.process else None
        keys = {option.key for option in jail.cgroup_options} if jail else set()
        record.silent = bool(keys & {"cpu.max", "cpu.cfs_quota_us", "pids.max"})
        if record.silent and not self._looking:
            self._looking = True
            self.reactor.after(LOOK, self._look_around)

    def _look_around(self) -> None:
        """Look at the next of those, a few at a time: all of them once in LOOK seconds."""
        silent = [name for name, record in self._records.items() if record.silent]
        self._looking = bool(silent) and not self.emperor.ending
        if not self._looking:
            return
        self._round = self._round or silent
        pause = max(STEP, LOOK / len(silent))
        now = math.ceil(len(silent) * pause / LOOK)
        turn, self._round = self._round[:now], self._round[now:]
        for name in turn:
            self._look_at(name)
        self.reactor.after(pause, self._look_around)

    def _look_at(self, name: str) -> None:
        """Look at one that can have done something."""
        vassal = self.emperor.court.vassals.get(name)
        if vassal is not None and vassal.process and not self.emperor.resources.is_frozen(vassal):
            self.look(name)

    def _watch_group(self, record: Record, name: str, path: str) -> None:
        driver = cgroups.driver_of(path)
        if driver is None:
            return
        try:
            for notice in driver.notices(path):
                if notice.fd >= 0:
                    record.eventfds.append(notice.fd)
                    self.reactor.watch(notice.fd, self._drain(name, notice.fd))
                else:
                    self._watch_file(record, name, notice.path)
            if record.pressure is not None:
                for resource, kind in _RESOURCES.items():
                    trigger = driver.pressure(path, resource, record.pressure)
                    if trigger >= 0:
                        record.triggers.append(trigger)
                        self.reactor.watch(
                            trigger, self._pressed(name, kind, trigger), select.EPOLLPRI
                        )
        except OSError as error:
            log.write(f"[emperor] vassal {name}: cannot watch {path}: {error.strerror}")

    def _watch_file(self, record: Record, name: str, path: str) -> None:
        if self._modified is None:
            self._modified = Watch(syscalls.IN_MODIFY)
            self.reactor.watch(self._modified.fileno(), lambda _events: self._read_inotify())
        if not self._modified.add(path):
            log.write(f"[emperor] vassal {name}: cannot watch {path}")
            return
        self._files.setdefault(path, set()).add(name)
        record.watches.append(path)

    def _read_inotify(self) -> None:
        paths = {change.path for change in self._modified.read()} if self._modified else set()
        if OVERFLOW.path in paths:  # of some the kernel dropped
            paths = set(self._files)
        for name in sorted({name for path in paths for name in self._files.get(path, ())}):
            self._noticed(name)

    def _drain(self, name: str, fd: int) -> Callable[[int], None]:
        def drain(_events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(fd, 8)
            self._noticed(name)

        return drain

    def _pressed(self, name: str, kind: Kind, trigger: int) -> Callable[[int], None]:
        def pressed(events: int) -> None:
            if events & select.EPOLLERR:  # the group is gone (psi.rst)
                self.reactor.forget(trigger)
                return
            percent = self._records[name].pressure
            resource = kind.value.partition("-")[2]
            self._add(name, kind, 1, f"work waited {percent}% of the time for {resource}")

        return pressed

    def forget(self, name: str) -> None:
        """The groups of a vassal are about to go."""
        record = self._records.pop(name, None)
        if record is not None:
            self._unwatch(name, record)

    def _unwatch(self, name: str, record: Record) -> None:
        for fd in (*record.eventfds, *record.triggers):
            self.reactor.forget(fd)
            os.close(fd)
        for path in record.watches:
            self._files[path].discard(name)
            if not self._files[path] and self._modified is not None:
                del self._files[path]
                self._modified.remove(path)
        record.eventfds.clear()
        record.triggers.clear()
        record.watches.clear()

    # what happened

    def _noticed(self, name: str) -> None:
        """The kernel says that something happened, or is about to: of a lack of memory it tells
        before it kills. So there is a look at once and one when PAUSE is over, and no more: a
        vassal can make the kernel shout. Who is there is seen now."""
        record = self._records.get(name)
        if record is None or record.look_due:
            return
        record.look_due = True
        record.there = snapshot(record.paths)
        self.reactor.after(PAUSE, lambda: self._look_late(name))
        self.look(name)

    def _look_late(self, name: str) -> None:
        self.look(name)
        record = self._records.get(name)
        if record is not None:
            record.look_due, record.there = False, ()

    def look(self, name: str) -> None:
        """Compare the counts with those of the last look."""
        vassal = self.emperor.court.vassals.get(name)
        record = self._records.get(name)
        if vassal is None or record is None:
            return
        now, before = cgroups.counts_of(record.paths), record.counts
        record.counts = now
        for kind, (field_name, words) in _COUNTED.items():
            more = getattr(now, field_name) - getattr(before, field_name)
            if more > 0:
                self._add(name, kind, more, words.format(more))

    def _add(self, name: str, kind: Kind, count: int, text: str) -> None:
        vassal = self.emperor.court.vassals.get(name)
        record = self._records.get(name)
        if vassal is None or record is None:
            return
        record.totals[kind] += count
        there = record.there or snapshot(record.paths)
        record.last[kind] = Fault(kind, count, time.time(), text, there)
        record.recent.append(record.last[kind])
        record.untold[kind] += count
        if kind not in _QUIET and self._may_say(record, kind):
            log.write(f"[emperor] vassal {name}: {text}")
            vassal.log.say(text)
        self._tell(vassal, kind)

    def _may_say(self, record: Record, kind: Kind) -> bool:
        """Whether a log has room for it."""
        now = self.reactor.clock()
        if now - record.said.get(kind, -SILENCE) < SILENCE:
            return False
        record.said[kind] = now
        return True

    def _tell(self, vassal: Vassal, kind: Kind) -> None:
        """Run the hooks, at most once in HOOK_PAUSE for one kind."""
        record = self._records.get(vassal.name)
        if record is None or not record.untold[kind] or kind in record.due:
            return
        if not self.emperor.errands.fault_steps:
            return
        wait = record.told.get(kind, -HOOK_PAUSE) + HOOK_PAUSE - self.reactor.clock()
        if wait > 0:
            record.due.add(kind)
            self.reactor.after(wait, lambda: self._tell_late(vassal.name, kind))
            return
        record.told[kind] = self.reactor.clock()
        count, record.untold[kind] = record.untold[kind], 0
        self._run_hooks(vassal, kind, count, record)

    def _tell_late(self, name: str, kind: Kind) -> None:
        vassal, record = self.emperor.court.vassals.get(name), self._records.get(name)
        if vassal is not None and record is not None:
            record.due.discard(kind)
            self._tell(vassal, kind)

    def _run_hooks(self, vassal: Vassal, kind: Kind, count: int, record: Record) -> None:
        last = record.last[kind]
        self.emperor.errands.fault(
            vassal.name,
            {
                **self.emperor.conduct.variables(vassal),
                "DONJON_FAULT": kind.value,
                "DONJON_FAULT_COUNT": str(count),
                "DONJON_FAULT_TEXT": last.text,
                "DONJON_FAULT_PROCESSES": " ".join(
                    f"{one.pid}:{one.name}:{one.rss}" for one in last.processes
                ),
            },
        )

    # what is shown

    def totals(self, name: str) -> dict[str, int]:
        """Return how often each kind happened."""
        record = self._records.get(name)
        return {kind.value: count for kind, count in record.totals.items()} if record else {}

    def recent(self, name: str) -> list[dict[str, Any]]:
        """Return the last faults of a vassal, the newest last."""
        record = self._records.get(name)
        return [fault.to_json() for fault in record.recent] if record else []


def snapshot(paths: Sequence[str]) -> tuple[Seen, ...]:
    """Return the processes of a vassal's groups, the largest first."""
    pids = {pid for path in paths for pid in pids_of(path)}
    found = [one for pid in sorted(pids)[:LOOKED_AT] if (one := _look_at(pid)) is not None]
    return tuple(sorted(found, key=lambda one: (-one.rss, one.pid))[:PROCESSES])


def _look_at(pid: int) -> Seen | None:
    """Return a process's name, without what a hook or a terminal could take for more than that."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    clean = "".join(one if one.isalnum() or one in "-_./+" else "?" for one in name)
    pages = rest.split()[21]  # field 24 of proc_pid_stat(5)
    return Seen(pid, clean, int(pages) * os.sysconf("SC_PAGE_SIZE"))
