"""Where orders become processes: the Emperor's use of its spawner.

For each birth the descriptors are made here (control pair, launch pair, error pipe, log pipe), the
child's ends are lent to the order and closed after it was sent, and ours go into the vassal's
record when the answer comes. A few orders may be under way at once; more wait here, so that
sending never blocks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from donjon import syscalls
from donjon.config.spec import EmperorSpec
from donjon.emperor.birth import Birth
from donjon.emperor.groups import Groups
from donjon.emperor.janitor import kill
from donjon.emperor.orders import Adopted, Answer, Leftover, Made, Order
from donjon.emperor.prepare import Reading, vassal_environment
from donjon.emperor.reactor import Reactor
from donjon.emperor.roster import Process, Vassal
from donjon.emperor.spawner import Spawner
from donjon.fd import Fd
from donjon.hooks.spec import Hook
from donjon.jail import cgroups, userns
from donjon.jail import plan as plans
from donjon.jail.phase import Phase
from donjon.records import dataclass, field, replace

UNDER_WAY = 4
"""Orders that the spawner may have at once; all fit its socket buffer."""

SHARING = syscalls.CLONE_FILES | syscalls.CLONE_FS | syscalls.CLONE_IO | syscalls.CLONE_SYSVSEM
"""Flags that share a table with the caller. The caller is the spawner: nothing is shared with
it."""

Arrived = Callable[[Answer], None]


@dataclass(slots=True)
class Waiting:
    """An order with the descriptors lent to it, closed once it was sent."""

    order: Order
    fds: list[int]
    arrived: Arrived


@dataclass(slots=True, kw_only=True)
class Cradle:
    """The Emperor's ends of a birth under way."""

    vassal: Vassal
    reading: Reading
    control: socket.socket
    launch: socket.socket
    error: int
    log: int
    go: int = -1
    foreign: bool = False
    lent: list[int] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)

    def lend(self, role: str, fd: int) -> None:
        """Give a descriptor to the order; it is closed here after it was sent."""
        self.roles.append(role)
        self.lent.append(fd)

    def close(self) -> None:
        """No child: give everything back."""
        self.control.close()
        self.launch.close()
        for fd in (self.error, self.log, self.go):
            if fd >= 0:
                os.close(fd)


class Nursery:
    """Sends orders, matches answers."""

    def __init__(
        self,
        reactor: Reactor,
        spawner: Spawner,
        spec: EmperorSpec,
        hooks: tuple[Hook, ...],
    ) -> None:
        self.reactor = reactor
        self.spawner = spawner
        self.spec = spec
        self.as_vassal = tuple(hook for hook in hooks if hook.phase is Phase.AS_VASSAL)
        self.groups = Groups(reactor, spec.plan_cgroup)
        self.groups.removed, self.groups.added = self.unnote, self._note_groups
        self._numbers = 0
        self._notes: dict[str, tuple[int, int]] = {}
        self._queue: deque[Waiting] = deque()
        self._under_way: dict[int, Arrived] = {}
        self._environment = vassal_environment(os.environ)
        self.lost: Callable[[], None] = lambda: None
        self._assistants: dict[int, int] = {}  # pidfd → pid
        reactor.watch(spawner.link.fileno(), lambda _events: self._answer())

    def use(self, spawner: Spawner, processes: Iterable[tuple[str, Process]]) -> None:
        """Go on with another spawner; what its janitor has to know is told."""
        self.spawner = spawner
        self.reactor.watch(spawner.link.fileno(), lambda _events: self._answer())
        for name, process in processes:
            adopted = Adopted(
                cgroups=self.groups.made_for(name), parents=self.groups.parents_of(name)
            )
            spawner.send(adopted, (process.pidfd.fileno(),))
        for path, identity in self._notes.items():
            spawner.send(Leftover(path=path, identity=identity))

    def order_vassal(
        self,
        vassal: Vassal,
        reading: Reading,
        arrived: Callable[[Cradle, Answer], None],
        *,
        network: Fd | None = None,
    ) -> None:
        """Order the birth of ``vassal``, in the namespace ``network`` if there is one, which is
        taken over. Raises DonjonError or OSError when it cannot be ordered."""
        cradle = self._cradle(vassal, reading)
        if network is not None:
            cradle.lend("network", network.release())
        order = self._order(cradle)
        self._send(Waiting(order, cradle.lent, lambda answer: arrived(cradle, answer)))

    def order_evaluator(
        self,
        vassal: Vassal,
        request: Mapping[str, Any],
        pipe: int,
        *,
        tyrant: bool,
        arrived: Callable[[int], None],
    ) -> None:
        """Order a process that evaluates a configuration and writes its answer to ``pipe``."""
        self._numbers += 1
        order = Order(
            number=self._numbers,
            emperor_pid=os.getpid(),
            roles=("answer", "log"),
            cwd=vassal.source.cwd,
            uid=vassal.found.uid if tyrant else None,
            gid=vassal.found.gid if tyrant else None,
            clone_flags=self._walls_of_evaluation() if tyrant else 0,
            evaluate=request,
        )
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

        def answered(answer: Answer) -> None:
            if answer.pidfd >= 0:
                self._assistants[answer.pidfd] = answer.pid
            arrived(answer.pidfd)

        self._send(Waiting(order, [pipe, null], answered))

    def _walls_of_evaluation(self) -> int:
        """Return the namespaces in which a customer's text is evaluated.

        What it starts ends with the first process of a pid namespace, and sees no more than a
        vassal does. A user namespace would need id maps, for nothing: root is given up anyway.
        """
        if os.geteuid() != 0:
            return 0
        return plans.clone_flags(self.spec.use_clone - {"user"}) | syscalls.CLONE_NEWPID

    def dismiss(self, pidfd: int) -> None:
        """Kill an assisting process that is not wanted any more, and reap it when it is gone."""
        if pidfd < 0:
            return
        kill(pidfd)
        self._assistants.setdefault(pidfd, -1)
        self.reactor.watch(pidfd, lambda _events: self._reap_assistant(pidfd))

    def environment(self, vassal: Vassal) -> dict[str, str]:
        """Return the environment of a vassal."""
        if not vassal.zerg:
            return self._environment
        return {**self._environment, "UWSGI_BROODLORD_NUM": str(vassal.zerg)}

    def note(self, path: str, identity: tuple[int, int]) -> None:
        """Have a file unlinked if the Emperor is killed."""
        self._notes[path] = identity
        with contextlib.suppress(OSError):  # the spawner is gone: nobody will clean
            self.spawner.send(Leftover(path=path, identity=identity))

    def unnote(self, path: str) -> None:
        """The file is gone already."""
        self._notes.pop(path, None)
        with contextlib.suppress(OSError):  # the spawner is gone, and its notes with it
            self.spawner.send(Leftover(path=path, forget=True))

    def _note_groups(self, paths: tuple[str, ...]) -> None:
        """Have groups removed if the Emperor is killed."""
        with contextlib.suppress(OSError):  # the spawner is gone; the next one is told of all
            self.spawner.send(Made(cgroups=paths))

    def owns(self, pid: int) -> bool:
        """Whether ``pid`` was born from an order, but is no vassal yet, or only assists."""
        return pid in self._assistants.values()

    @property
    def busy(self) -> bool:
        """Whether an order is waiting or under way, or an assisting process is not reaped."""
        return bool(self._queue or self._under_way or self._assistants)

    def _reap_assistant(self, pidfd: int) -> None:
        self.reactor.forget(pidfd)
        self._assistants.pop(pidfd, None)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)

    def _cradle(self, vassal: Vassal, reading: Reading) -> Cradle:
        prepared = self.groups.prepare(vassal.name, reading.launch.jail)
        control, far_control = socket.socketpair()
        launch, far_launch = socket.socketpair()
        control.settimeout(0)
        launch.settimeout(0)
        error, far_error = os.pipe2(os.O_CLOEXEC)
        output, far_output = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(error, False)
        os.set_blocking(output, False)
        cradle = Cradle(
            vassal=vassal,
            reading=reading,
            control=control,
            launch=launch,
            error=error,
            log=output,
            foreign=self._executes(reading),
        )
        cradle.lend("control", far_control.detach())
        cradle.lend("launch", far_launch.detach())
        cradle.lend("error", far_error)
        cradle.lend("log", far_output)
        self._lend_the_rest(cradle, prepared)
        return cradle

    def _lend_the_rest(self, cradle: Cradle, prepared: cgroups.Prepared | None) -> None:
        doorbell = cradle.vassal.doorbell
        if doorbell is not None:
            cradle.lend("stdin", os.dup(doorbell.fileno()))
        if prepared is not None:
            if prepared.v2_fd >= 0:
                cradle.lend("cgroup", prepared.v2_fd)
            for fd in prepared.tasks_fds:
                cradle.lend("tasks", fd)
        if cradle.reading.clone_flags & syscalls.CLONE_NEWUSER:
            far, cradle.go = os.pipe2(os.O_CLOEXEC)
            cradle.lend("go", far)

    def _executes(self, reading: Reading) -> bool:
        spec = self.spec
        wrapped = bool(spec.wrapper or spec.wrapper_override or spec.wrapper_fallback)
        return wrapped or (reading.launch.spawn or spec.spawn) == "exec"

    def _order(self, cradle: Cradle) -> Order:
        vassal, reading = cradle.vassal, cradle.reading
        self._numbers += 1
        return Order(
            number=self._numbers,
            emperor_pid=os.getpid(),
            roles=tuple(cradle.roles),
            clone_flags=reading.clone_flags & ~SHARING,
            cwd=vassal.source.cwd,
            uid=reading.uid,
            gid=reading.gid,
            cap=self.spec.cap,
            birth=self._birth(vassal, reading),
            hooks=self.as_vassal,
            start_hook=self.spec.vassals_start_hook,
            vassals_directory=vassal.source.cwd,
            command=reading.argv if cradle.foreign else (),
            wrapper=self.spec.wrapper,
            wrapper_override=self.spec.wrapper_override,
            wrapper_fallback=self.spec.wrapper_fallback,
            cgroups=self.groups.made_for(vassal.name),
            parents=self.groups.parents_of(vassal.name),
        )

    def _birth(self, vassal: Vassal, reading: Reading) -> Birth:
        """Return what the newborn needs to know, and no more: it pays for each page it reads."""
        launch = replace(reading.launch, entries=())
        in_cgroups = bool(launch.jail.cgroups)
        return Birth(
            name=vassal.name,
            launch=launch,
            born_in=reading.clone_words,
            in_cgroups=in_cgroups,
            environment=self.environment(vassal),
            argv=reading.argv,
            outline=reading.outline.in_cgroups() if in_cgroups else reading.outline,
            shares_environment=not vassal.zerg,
        )

    def _send(self, waiting: Waiting) -> None:
        self._queue.append(waiting)
        self._pump()

    def _pump(self) -> None:
        while self._queue and len(self._under_way) < UNDER_WAY:
            waiting = self._queue.popleft()
            self._under_way[waiting.order.number] = waiting.arrived
            try:
                self.spawner.send(waiting.order, tuple(waiting.fds))
            except OSError as error:
                self._fail(waiting.order.number, f"no spawner: {error.strerror}")
            except Exception as error:  # one order that cannot be written must not end all others
                reason = f"internal error: {type(error).__name__}: {error}"
                self._fail(waiting.order.number, reason)
            finally:
                for fd in waiting.fds:
                    os.close(fd)

    def _answer(self) -> None:
        answer = self.spawner.receive()
        if answer is None:
            self.reactor.forget(self.spawner.link.fileno())
            self.lost()
            for number in list(self._under_way):
                self._fail(number, "the spawner died")
            return
        arrived = self._under_way.pop(answer.number)
        self._pump()
        arrived(answer)

    def _fail(self, number: int, reason: str) -> None:
        arrived = self._under_way.pop(number)
        self.reactor.after(0.0, lambda: arrived(Answer(number=number, error=reason)))

    def to_process(self, cradle: Cradle, answer: Answer) -> Process:
        """Make the record of a process that was born; its id maps are written first."""
        if cradle.go >= 0:
            self._map_ids(cradle, answer.pid)
        return Process(
            pid=answer.pid,
            pidfd=Fd(answer.pidfd),
            control=cradle.control,
            launch=cradle.launch,
            reading=cradle.reading,
            foreign=cradle.foreign or cradle.reading.is_foreign,
            started=self.reactor.clock(),
        )

    def _map_ids(self, cradle: Cradle, pid: int) -> None:
        go, cradle.go = cradle.go, -1
        try:
            if cradle.reading.ids is not None:
                userns.write_id_map(pid, cradle.reading.ids)
            os.write(go, b"g")
        finally:
            os.close(go)


def send_signal(process: Process, number: signal.Signals) -> None:
    """Signal a vassal by its pidfd; it may be gone already."""
    try:
        syscalls.pidfd_send_signal(process.pidfd.fileno(), number)
    except ProcessLookupError:
        return
