"""A crew: the workers of one generation, as the master keeps them.

States of a crew::

    STARTING ──all slots accept──▶ SERVING ──retire()──▶ RETIRING ──last worker gone──▶ (forgotten)
        └──a worker ends before the application is loaded──▶ failed

A slot is one place for a worker. Its worker may have a *replacement* under way (max-requests,
lifetime, a chain reload): the old one serves until the new one accepts. A worker that dies is
replaced at once; one that dies again and again waits longer each time, so that a broken
application does not eat the machine.
"""

from __future__ import annotations

import enum
import functools
import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from donjon import log
from donjon.errors import DonjonError
from donjon.records import dataclass, field
from donjon.server import generation
from donjon.server.board import BANKS, Board, Core, total
from donjon.server.channel import Channel, Message, Word
from donjon.server.children import Child, Children
from donjon.server.loop import Loop, Timer
from donjon.server.order import Order
from donjon.server.phases import Phases
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import ServerSpec
from donjon.server.takeover import UnderWay
from donjon.server.worker import GRACEFUL, SHELL_ENDED, SHELL_ONCE

QUICK = 1.0
"""Seconds; a worker that lived shorter counts as a failed attempt of its slot."""

PATIENCE = 30.0
"""Seconds between attempts at most."""

PIECES = 256
"""Packets of an environment at most: a megabyte."""


class State(enum.Enum):
    """Where a crew stands."""

    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"


@dataclass(slots=True, eq=False)
class Worker:
    """A living worker process."""

    slot: int
    bank: int
    child: Child
    born: float
    accepting: bool = False
    retiring: bool = False
    replaces: Worker | None = None
    mercy: Timer | None = None
    harakiri: bool = False


@dataclass(slots=True)
class Slot:
    """A place for a worker, and what its former workers counted."""

    number: int
    worker: Worker | None = None
    respawns: int = 0
    failures: int = 0
    harakiris: int = 0
    last_spawn: int = 0  # seconds since the epoch
    past: Core = field(default_factory=Core)
    retry: Timer | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """What a crew needs of its master."""

    loop: Loop
    children: Children
    channel: Channel
    sockets: Sockets
    emperor_fd: int
    drain: Callable[[], None]
    loaded: Callable[[Crew], None]
    serving: Callable[[Crew], None]
    failed: Callable[[Crew, int], None]
    empty: Callable[[Crew], None]
    pty_line: Callable[[ServerSpec], int]


class Crew:
    """The workers of one generation."""

    def __init__(
        self,
        owner: Owner,
        number: int,
        spec: ServerSpec,
        phases: Phases,
        served: tuple[Bound, ...],
        *,
        board: Board | None = None,
    ) -> None:
        """Prepare a generation; ``start`` makes its first process."""
        self._owner = owner
        self.number = number
        self.spec = spec
        self.phases = phases
        self.served = served
        self.board = board or Board(spec.processes, spec.threads)
        self.state = State.STARTING
        self.slots = {number: Slot(number) for number in range(1, spec.processes + 1)}
        self._workers: set[Worker] = set()
        self._environment: bytes | None = None
        self._pieces: list[bytes] = []
        self._once: set[int] = set()
        self._chain: list[int] = []
        self._before: ServerSpec | None = None
        self._go = self._goer = -1
        self._had_shell = False

    # -- beginning

    def start(self, before: ServerSpec | None = None) -> None:
        """Fork the child that loads the application; ``before`` is what a reload replaces."""
        self._before = before
        self._go, self._goer = os.pipe2(os.O_CLOEXEC)
        slots = tuple(self.slots)
        must = before is not None or self.spec.need_app
        try:
            order = self._order(slots, bank=0, adopt=None, must=must)
            self._born(self.slots[1], 0, order)
        except (OSError, DonjonError):
            self._close_go()
            raise

    def take_over(self, under_way: UnderWay) -> None:
        """Own workers that another master of this process started."""
        for living in under_way.workers:
            worker = Worker(living.slot, 0, Child(0, -1), living.born, living.accepting)
            worker.child = self._owner.children.own(
                living.pid, living.pidfd, functools.partial(self._ended, worker)
            )
            self._workers.add(worker)
            slot = self.slots[living.slot]
            slot.worker, slot.respawns = worker, 1
            slot.last_spawn = int(time.time() - (time.monotonic() - living.born))
            if living.once:
                self._once.add(living.slot)
        if under_way.loaded:
            self._environment = under_way.environment
        elif under_way.environment:
            self._pieces.append(under_way.environment)
        if under_way.serving:
            self.state = State.SERVING

    def _order(
        self, slots: tuple[int, ...], *, bank: int, adopt: bytes | None, must: bool
    ) -> Order:
        return Order(
            number=self.number, spec=self.spec, phases=self.phases, sockets=self._owner.sockets,
            served=self.served, board=self.board, channel=self._owner.channel, master=os.getpid(),
            slots=slots, bank=bank, before=self._before if adopt is None else None,
            adopt=adopt, once=frozenset(self._once), must=must,
            go_fd=self._go if adopt is None else -1, emperor_fd=self._owner.emperor_fd,
            die_with_parent=self.spec.no_orphans or self._owner.emperor_fd >= 0,
            pty_line=self._owner.pty_line(self.spec) if self.spec.pty else -1,
            shell=self.spec.pyshell is not None and not self._had_shell,
        )  # fmt: skip

    def _born(self, slot: Slot, bank: int, order: Order) -> Worker:
        worker = Worker(slot.number, bank, Child(0, -1), time.monotonic())
        worker.child = self._owner.children.fork(
            lambda: self._main(order), lambda status: self._ended(worker, status)
        )
        self._take(slot, worker)
        return worker

    def _main(self, order: Order) -> NoReturn:
        """In the child: the master's end of the pipe is the master's alone."""
        if self._goer >= 0:
            os.close(self._goer)
        generation.main(order)

    def _take(self, slot: Slot, worker: Worker) -> None:
        self._workers.add(worker)
        if slot.worker is None:
            slot.worker = worker
        slot.respawns += 1
        slot.last_spawn = int(time.time())
        verb = "spawned" if slot.respawns == 1 else "Respawned"
        detail = f"pid: {worker.child.pid}, cores: {self.spec.threads}"
        log.write(
            f"{verb} uWSGI worker {slot.number} ({'new ' if slot.respawns > 1 else ''}{detail})"
        )

    # -- what workers say

    def hear(self, message: Message) -> None:
        """Take a packet of one of the workers."""
        slot = self.slots.get(message.slot)
        if slot is None:
            return
        if message.word is Word.SPAWNED:
            self._sibling(slot, message.pid)
        elif message.word is Word.LOADED:
            self._loaded(message)
        elif message.word is Word.MORE:
            if self._environment is None and len(self._pieces) < PIECES:
                self._pieces.append(message.payload)
        elif message.word is Word.ONCE:
            self._once.add(message.slot)
        elif message.word is Word.ACCEPTING:
            worker = self._find(message) or self._sibling(slot, message.pid)
            if worker is not None and not worker.retiring:
                self._accepting(slot, worker)
        elif message.word is Word.DUE and (worker := self._find(message)):
            self._due(slot, worker)

    def _find(self, message: Message) -> Worker | None:
        for worker in self._workers:
            if worker.child.pid == message.pid and worker.slot == message.slot:
                return worker
        return None

    def _sibling(self, slot: Slot, pid: int) -> Worker | None:
        """Own a worker that another one made; one for which there is no place is ended again."""
        worker = Worker(slot.number, 0, Child(0, -1), time.monotonic())
        child = self._owner.children.adopt(pid, lambda status: self._ended(worker, status))
        if child is None:  # it died before we heard of it, or was never ours
            if slot.worker is None and self.state is State.STARTING:
                self._again(slot)
            return None
        worker.child = child
        if self.state is State.RETIRING or slot.worker is not None:
            self._workers.add(worker)
            self._retire(worker, signal.SIGINT)
        else:
            self._take(slot, worker)
        return worker

    def _loaded(self, message: Message) -> None:
        """Keep what the first worker made of the environment, before the customer's code spoke."""
        if self._environment is None:
            self._environment = b"".join((*self._pieces, message.payload))
            self._pieces.clear()
            self._owner.loaded(self)
            self._close_go()

    def _close_go(self) -> None:
        """End the first worker's wait: the other end of its pipe closes."""
        if self._goer >= 0:
            os.close(self._goer)
            os.close(self._go)
            self._go = self._goer = -1

    def _accepting(self, slot: Slot, worker: Worker) -> None:
        worker.accepting = True
        if worker.replaces is not None:
            self._hand_over(slot, worker)
        if self.spec.max_worker_lifetime:
            self._owner.loop.after(self.spec.max_worker_lifetime, lambda: self._due(slot, worker))
        if self.state is State.STARTING and self._is_complete():
            self.state = State.SERVING
            self._owner.serving(self)

    def _is_complete(self) -> bool:
        return all(
            slot.worker is not None and slot.worker.accepting for slot in self.slots.values()
        )

    # -- replacing

    def replace(self, slot: Slot) -> None:
        """Start a new worker for the slot; the old one serves until the new one accepts."""
        old = slot.worker
        if old is None or any(worker.replaces is old for worker in self._workers):
            return
        bank = (old.bank + 1) % BANKS
        self._remember(slot, bank)
        order = self._order((slot.number,), bank=bank, adopt=self._environment or b"", must=True)
        self._born(slot, bank, order).replaces = old

    def _remember(self, slot: Slot, bank: int) -> None:
        """Add what the block counts to the slot's past, and clear it for its next worker."""
        slot.past = total([slot.past, total(self.board.cores(slot.number, bank))])
        slot.past.busy_since = slot.past.accepting = slot.past.connections = 0
        self.board.clear(slot.number, bank)

    def _hand_over(self, slot: Slot, worker: Worker) -> None:
        old, worker.replaces = worker.replaces, None
        slot.worker = worker
        slot.failures = 0
        if old is not None:
            self._retire(old, signal.SIGHUP)
        if self._chain and self._chain[0] == slot.number:
            self._chain.pop(0)
            self._next_of_chain()

    def _due(self, slot: Slot, worker: Worker) -> None:
        """Replace a worker that served its time, but not before its least lifetime."""
        if worker not in self._workers or worker.retiring or self.state is not State.SERVING:
            return
        left = worker.born + self.spec.min_worker_lifetime - time.monotonic()
        if left > 0 and self.spec.max_requests and self.spec.min_worker_lifetime:
            self._owner.loop.after(left, lambda: self._due(slot, worker))
        elif slot.worker is worker:
            log.write(
                f"...worker {slot.number} (pid: {worker.child.pid}) served its time, replacing it"
            )
            self.replace(slot)

    def reload_workers(self, *, chain: bool = False, brutal: bool = False) -> None:
        """Renew every worker: all at once, one after the other, or by killing them."""
        if brutal:
            for worker in list(self._workers):
                worker.child.kill()
        elif chain:
            self._chain = list(self.slots)
            log.write("chain reload starting...")
            self._next_of_chain()
        else:
            for slot in self.slots.values():
                self.replace(slot)

    def _next_of_chain(self) -> None:
        if not self._chain:
            log.write("chain reload complete")
            return
        log.write(f"chain reload next victim is worker {self._chain[0]}")
        self.replace(self.slots[self._chain[0]])

    # -- ending

    def retire(self, number: int = signal.SIGHUP) -> None:
        """End all workers: SIGHUP lets requests finish, SIGINT does not. Nothing is respawned."""
        self.state = State.RETIRING
        self._close_go()
        self._chain.clear()
        for slot in self.slots.values():
            if slot.retry is not None:
                slot.retry.cancel()
        for worker in list(self._workers):
            self._retire(worker, number)
        if not self._workers:
            self._owner.empty(self)

    def _retire(self, worker: Worker, number: int) -> None:
        worker.retiring = True
        if worker.slot == 1 and (self.spec.pty or self.spec.pyshell is not None):
            number = signal.SIGTERM if number == signal.SIGINT else number  # that one is typed
        worker.child.signal(number)
        if worker.mercy is None:
            worker.mercy = self._owner.loop.after(self.mercy(), lambda: self._no_mercy(worker))

    def mercy(self) -> float:
        """Return how many seconds a worker gets to end."""
        return float(min(self.spec.reload_mercy, self.spec.worker_reload_mercy))

    def _no_mercy(self, worker: Worker) -> None:
        log.write(
            f"worker {worker.slot} (pid: {worker.child.pid}) is taking too much time to die..."
            "NO MERCY !!!"
        )
        worker.child.kill()

    def signal_all(self, number: int) -> None:
        """Send a signal to every worker."""
        for worker in self._workers:
            worker.child.signal(number)

    def _ended(self, worker: Worker, status: int) -> None:
        self._owner.drain()  # what it said before it ended, siblings above all
        self._workers.discard(worker)
        if worker.mercy is not None:
            worker.mercy.cancel()
        slot = self.slots[worker.slot]
        current = slot.worker is worker
        if current:
            slot.worker = None
            self._remember(slot, worker.bank)
        if self.state is State.RETIRING:
            if not self._workers:
                self._owner.empty(self)
        elif self._is_hopeless(status):
            self._owner.failed(self, status)
        else:
            self._mourn(slot, worker, status, current=current)

    def _is_hopeless(self, status: int) -> bool:
        """A generation that never loaded has failed; so has a reload in which any worker dies."""
        starting = self.state is State.STARTING and (
            self._environment is None or self._before is not None
        )
        return starting or (status == 22 and not any(each.accepting for each in self._workers))

    def _mourn(self, slot: Slot, worker: Worker, status: int, *, current: bool) -> None:
        """Say how a worker ended, and see to it that the slot has one again."""
        name = f"worker {slot.number} (pid: {worker.child.pid})"
        if worker.retiring:
            log.write(f"{name} ended with status {status}")
        elif status < 0:
            log.write(f"DAMN ! {name} died, killed by signal {-status} :( trying respawn ...")
        elif status == SHELL_ONCE:
            self._had_shell = True
            log.write(f"...restoring {name}...")
        elif status == SHELL_ENDED:
            log.write(f"the shell of {name} has ended")
        elif status == GRACEFUL:
            log.write(f"...The work of process {worker.child.pid} is done. Seeya!")
        else:
            log.write(f"DAMN ! {name} died, exit status {status} :( trying respawn ...")
        replacement = next((each for each in self._workers if each.replaces is worker), None)
        if replacement is not None:
            replacement.replaces, slot.worker = None, replacement
        elif current:
            self._count(slot, worker)
            self._again(slot)
            self._fill()
        elif worker.replaces is not None:
            self._count(slot, worker)
            log.write(f"the replacement of worker {slot.number} failed, the old one goes on")

    def _count(self, slot: Slot, worker: Worker) -> None:
        lived = time.monotonic() - worker.born
        slot.failures = slot.failures + 1 if lived < QUICK or not worker.accepting else 0

    def _again(self, slot: Slot) -> None:
        """Respawn: at once the first time, later with a pause that doubles."""
        if slot.failures < 2:
            self._respawn(slot)
            return
        pause = min(PATIENCE, 0.1 * 2 ** min(slot.failures, 10))
        log.write(
            f"worker {slot.number} died {slot.failures} times in a row, next try in {pause:g} s"
        )
        slot.retry = self._owner.loop.after(pause, lambda: self._respawn(slot))

    def _fill(self) -> None:
        """Give a worker to slots that the first worker could not fill before it died."""
        for slot in self.slots.values():
            if slot.worker is None and slot.retry is None and slot.respawns == 0:
                self._respawn(slot)

    def _respawn(self, slot: Slot) -> None:
        slot.retry = None
        if slot.worker is not None or self.state is State.RETIRING:
            return
        self._remember(slot, 0)
        others = any(worker.accepting for worker in self._workers)
        must = self.spec.need_app or others
        order = self._order((slot.number,), bank=0, adopt=self._environment or b"", must=must)
        try:
            self._born(slot, 0, order)
        except OSError as error:
            log.write(f"cannot fork worker {slot.number}: {error.strerror}")
            slot.failures += 2
            self._again(slot)

    # -- looking

    @property
    def channel(self) -> Channel:
        """The line to the master."""
        return self._owner.channel

    def living(self) -> tuple[Worker, ...]:
        """Return the workers there are, retiring ones included."""
        return tuple(self._workers)

    def counters(self, slot: Slot) -> Core:
        """Return what the present and past workers of a slot have done."""
        if slot.worker is None:
            return slot.past
        return total([slot.past, total(self.board.cores(slot.number, slot.worker.bank))])

    def check_harakiri(self) -> None:
        """Kill workers in which a request runs longer than ``harakiri`` seconds."""
        now = time.monotonic_ns() // 1000
        for worker in self.living():
            cores = self.board.cores(worker.slot, worker.bank)
            late = [
                i
                for i, core in enumerate(cores)
                if core.busy_since and now - core.busy_since > self.spec.harakiri * 1_000_000
            ]
            if late and not worker.harakiri:
                self._harakiri(worker, late[0])

    def _harakiri(self, worker: Worker, core: int) -> None:
        worker.harakiri = True
        self.slots[worker.slot].harakiris += 1
        log.write(
            f"*** HARAKIRI ON WORKER {worker.slot} (pid: {worker.child.pid},"
            " try: 1, graceful: no) ***"
        )
        log.write(f"HARAKIRI triggered by worker {worker.slot} core {core} !!!")
        worker.child.kill()
