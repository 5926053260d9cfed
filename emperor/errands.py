"""Programs and hooks that the Emperor runs beside its loop: as-emperor hooks, the stop hook.

Each is a child of the Emperor (a hook that moves an interface into a vassal's namespace relies on
its parent), those of one vassal run one after the other in the order written, and none ever blocks
the loop. They are not fatal: a failure is logged (uwsgi-facts 2.3).
"""

from __future__ import annotations

import functools
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from donjon import log, syscalls
from donjon.emperor import mercy
from donjon.emperor.janitor import kill
from donjon.emperor.reactor import Reactor
from donjon.errors import DonjonError
from donjon.hooks import runner
from donjon.hooks.action import Facts
from donjon.hooks.spec import Hook, Kind
from donjon.jail.phase import Phase
from donjon.jail.step import Context
from donjon.records import dataclass

SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to do in a child. ``work`` returns an exit status or replaces the process."""

    words: str
    work: Callable[[], int]


class Errands:
    """Queues of children, one queue a vassal."""

    def __init__(self, reactor: Reactor, hooks: Sequence[Hook]) -> None:
        self.reactor = reactor
        self.steps = runner.steps(
            [hook for hook in hooks if hook.phase is Phase.AS_EMPEROR], Facts()
        )
        self.fault_steps = runner.steps(
            [hook for hook in hooks if hook.phase is Phase.FAULT], Facts()
        )
        self._queues: dict[str, deque[Errand]] = {}
        self._children: dict[str, tuple[int, int]] = {}
        self.idle: Callable[[], None] = lambda: None

    @property
    def busy(self) -> bool:
        """Whether any child is at work."""
        return bool(self._queues)

    def greet(self, name: str, variables: Mapping[str, str]) -> None:
        """Run the as-emperor hooks for a vassal that was just born."""
        for step in self.steps:
            work = functools.partial(_run, step, name, variables)
            self._add(name, Errand(step.describe(), work))

    def fault(self, name: str, variables: Mapping[str, str]) -> None:
        """Run the hooks for a fault of a vassal."""
        for step in self.fault_steps:
            work = functools.partial(_run, step, name, variables)
            self._add(name, Errand(step.describe(), work))

    def program(self, name: str, argv: Sequence[str], variables: Mapping[str, str]) -> None:
        """Run a program without a shell (uwsgi-facts 1.4)."""
        self._add(name, Errand(argv[0], lambda: _exec(argv, variables)))

    def owns(self, pid: int) -> bool:
        """Whether ``pid`` is a child of an errand, reaped by its pidfd."""
        return any(pid == child for child, _pidfd in self._children.values())

    def kill(self) -> list[str]:
        """End what is at work, drop what waits, and name the vassals it was for."""
        for name, (_pid, pidfd) in self._children.items():
            self._queues[name].clear()
            kill(pidfd)
        return list(self._children)

    def _add(self, name: str, errand: Errand) -> None:
        queue = self._queues.get(name)
        if queue is not None:
            queue.append(errand)
            return
        self._queues[name] = deque()
        self._start(name, errand)

    def _start(self, name: str, errand: Errand) -> None:
        emperor = os.getpid()
        pid, pidfd = syscalls.clone3(syscalls.CLONE_PIDFD)
        if pid == 0:
            _be_child(errand, emperor)
        self._children[name] = (pid, pidfd)
        self.reactor.watch(pidfd, lambda _events: self._done(name, errand, pidfd))

    def _done(self, name: str, errand: Errand, pidfd: int) -> None:
        self.reactor.forget(pidfd)
        del self._children[name]
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        if result is not None and result.si_status:
            log.write(f"[emperor] {errand.words} for {name} ended with {result.si_status}")
        queue = self._queues[name]
        if queue:
            self._start(name, queue.popleft())
        else:
            del self._queues[name]
            self.idle()


def _be_child(errand: Errand, emperor: int) -> NoReturn:
    status = 127
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        mercy.as_before()
        syscalls.set_pdeathsig(signal.SIGKILL)
        if os.getppid() not in (0, emperor):
            os._exit(1)
        syscalls.close_range(3, 0xFFFFFFFF, syscalls.CLOSE_RANGE_CLOEXEC)
        status = errand.work()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 0
    except (OSError, DonjonError) as error:
        log.write(f"[emperor] {errand.words}: {error}")
    finally:
        os._exit(status)


def _run(step: runner.HookStep, name: str, variables: Mapping[str, str]) -> int:
    if step.kind is Kind.EXEC:  # executed by the child itself: its parent is the Emperor
        return _exec((SHELL, "-c", step.text.removeprefix("!")), variables)
    os.environ.update(variables)
    step.execute(Context(name=name, variables=dict(variables)))
    return 0


def _exec(argv: Sequence[str], variables: Mapping[str, str]) -> int:
    os.execvpe(argv[0], list(argv), {**os.environ, **variables})
