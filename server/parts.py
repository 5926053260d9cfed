"""What a master keeps beside its workers: mules, gateways, companions and attached daemons.

A part is a child that is brought back when it ends; the n-th quick end makes it wait about n
seconds. A mule or gateway is this program; an attached daemon is another one, in a session of its
own, that dies with the master.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from donjon import log, syscalls
from donjon.errors import DonjonError
from donjon.jail.phase import Phase
from donjon.records import dataclass
from donjon.server import loader, procname, uwsgi_module, worker
from donjon.server.children import Child, Children
from donjon.server.crew import Crew
from donjon.server.loop import Loop, Timer
from donjon.server.phases import DropPoint
from donjon.server.sockets import Sockets
from donjon.server.spec import Daemon

QUICK = 3.0
"""Seconds; a part that ends sooner is throttled."""

LONGEST_PAUSE = 300

SHELL_WORDS = frozenset({"if", "while", "until", "for", "case", "{", "!", "exec", "."})
"""Words that only a shell understands."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a part is made. ``main`` runs in the child and returns its exit status."""

    name: str
    main: Callable[[], int]
    stop_signal: int = signal.SIGINT
    group: bool = False  # the stop signal goes to its whole process group
    control: bool = False  # its end is the end of the instance


class Part:
    """A living part."""

    def __init__(
        self,
        recipe: Recipe,
        loop: Loop,
        children: Children,
        sockets: Sockets,
        on_control: Callable[[], None],
    ) -> None:
        """Prepare it; ``start`` forks."""
        self.recipe = recipe
        self.child: Child | None = None
        self.respawns = -1
        self._loop = loop
        self._children = children
        self._sockets = sockets
        self._on_control = on_control
        self._born = 0.0
        self._failures = 0
        self._stopping = False
        self._retry: Timer | None = None

    def start(self) -> None:
        """Fork it."""
        if self._stopping:
            return
        self._born = time.monotonic()
        self.respawns += 1
        self.child = self._children.fork(self._main, self._ended)

    def _main(self) -> NoReturn:
        self._sockets.lend_only(())
        worker.live(self.recipe.main, self.recipe.name)

    def _ended(self, status: int) -> None:
        self.child = None
        if self._stopping:
            return
        if self.recipe.control:
            log.write(f"{self.recipe.name} ended, and the instance with it")
            self._on_control()
            return
        self._failures = self._failures + 1 if time.monotonic() - self._born < QUICK else 0
        pause = min(self._failures, LONGEST_PAUSE)
        ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        log.write(f"OOOPS the {self.recipe.name} died ({ending}), respawning in {pause} s...")
        self._retry = self._loop.after(pause, self.start)

    def stop(self, *, kill_after: float) -> None:
        """Ask it to end, and see that it does."""
        self._stopping = True
        if self._retry is not None:
            self._retry.cancel()
        if self.child is not None:
            self.signal(self.recipe.stop_signal)
            self._loop.after(kill_after, lambda: self.signal(signal.SIGKILL))

    def signal(self, number: int) -> None:
        """Send a signal, if it lives; to its whole group where it has one."""
        if self.child is None:
            return
        self.child.signal(number)
        if self.recipe.group:
            try:
                os.killpg(self.child.pid, number)
            except ProcessLookupError:
                return  # it has not made its group yet, or it has ended


def mule(crew: Crew, number: int, script: str) -> Recipe:
    """Make mule ``number``: it runs ``script``, or waits."""

    def main() -> int:
        spec = crew.spec
        procname.name_part(spec, f"uWSGI mule {number}")
        crew.phases.drop(DropPoint.WORKER)
        _die_with_master(crew)
        life = uwsgi_module.Life(spec, os.getppid(), crew.board, crew.channel, mule=number)
        uwsgi_module.install(life)
        crew.phases.run(Phase.AS_MULE)
        if script:
            loader.prepare(spec)
            loader.import_file(script)
            return 0
        return _wait()

    return Recipe(f"mule {number}", main)


def gateway(crew: Crew, address: str) -> Recipe:
    """Make the process of an ``http`` gateway.

    Workers accept on the gateway's listener themselves, which saves a copy and a process switch a
    request; this process is where its hook runs and what tools find.
    """

    def main() -> int:
        procname.name_part(crew.spec, "uWSGI http 1")
        crew.phases.drop(DropPoint.WORKER)
        _die_with_master(crew)
        crew.phases.run(Phase.AS_GATEWAY)
        return _wait()

    return Recipe(f"http gateway {address}", main)


def companion(name: str, run: Callable[[], int]) -> Recipe:
    """Make a part of another package (the Emperor beside a server)."""

    def main() -> int:
        syscalls.set_pdeathsig(signal.SIGKILL)
        return run()

    return Recipe(name, main)


def daemon(wanted: Daemon) -> Recipe:
    """Make an attached daemon from its option. Raises DonjonError for a bad one."""
    settings = _settings(wanted)
    command = settings.get("cmd") or settings.get("command") or settings.get("exec") or ""
    if not command:
        raise DonjonError(f"{wanted.kind} names no command", origin=wanted.origin)

    def main() -> int:
        syscalls.set_pdeathsig(signal.SIGKILL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        for number in (1, 2):
            os.set_inheritable(number, True)  # noqa: FBT003  (os names it so)
        _become(settings)
        sys.stdout.flush()
        os.execv("/bin/sh", ["sh", "-c", f"exec {command}" if _is_simple(command) else command])
        return 127

    stop = settings.get("stopsignal") or settings.get("stop_signal") or str(int(signal.SIGTERM))
    control = wanted.kind == "attach-control-daemon" or "control" in settings
    number = int(stop) if stop.isdecimal() else int(signal.SIGTERM)
    return Recipe(f'daemon "{command}"', main, number, group=True, control=control)


def _settings(wanted: Daemon) -> dict[str, str]:
    """Read ``KEY=VALUE,...`` of attach-daemon2, and the plain forms."""
    if wanted.kind != "attach-daemon2":
        command = wanted.command
        if wanted.kind.startswith("smart-attach"):
            command = command.partition(" ")[2]
        return {"cmd": command}
    settings = {}
    for pair in wanted.command.split(","):
        key, _, value = pair.partition("=")
        settings[key.strip()] = value
    return settings


def _become(settings: dict[str, str]) -> None:
    if "chdir" in settings:
        os.chdir(settings["chdir"])
    if "gid" in settings:
        os.setgid(int(settings["gid"]))
    if "uid" in settings:
        os.setgroups([])
        os.setuid(int(settings["uid"]))
    if "uid" in settings or "gid" in settings:
        syscalls.set_pdeathsig(signal.SIGKILL)  # the change took it back (prctl(2))


def _is_simple(command: str) -> bool:
    """Whether the shell can be replaced by the command, so that signals and its end reach it."""
    lexer = shlex.shlex(command, posix=False, punctuation_chars=";|&()\n")
    lexer.whitespace = " \t"
    try:
        words = list(lexer)
    except ValueError:
        return False
    if not words or "=" in words[0] or words[0] in SHELL_WORDS:
        return False
    return not any(set(word) <= set(";|&()\n") for word in words)


def _die_with_master(crew: Crew) -> None:
    syscalls.set_pdeathsig(signal.SIGKILL)
    if crew.spec.master and os.getppid() == 0:
        raise SystemExit(1)


def _wait() -> int:
    """Wait for a signal that ends the process."""
    while True:
        signal.pause()
