"""Reading vassals' configurations without ever waiting for one.

A text that stays within itself is evaluated here, in the Emperor, which takes less than a
millisecond. Whatever may take time or needs rights (``exec://``, ``http://``, in tyrant mode any
other file) raises OutsideAccess in the closed world given to the evaluation, and is done again
from the start by a child of the spawner with the vassal's uid and bounded time. One reading a
vassal is under way at most; a newer one makes the older one's answer worthless.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping

from donjon import log
from donjon.config import options
from donjon.config.entry import Entry
from donjon.config.evaluate import evaluate
from donjon.config.world import ClosedWorld, Facts, FileWorld, Opened, OutsideAccess, World
from donjon.emperor.nursery import Nursery
from donjon.emperor.opened import OpenedFileWorld
from donjon.emperor.prepare import Preparer, Reading, entries_from_json, entries_to_run
from donjon.emperor.reactor import Reactor, Timer
from donjon.emperor.reading import (
    Content,
    NotYetError,
    foreign_refusal,
    read_config,
    tyrant_refusal,
)
from donjon.emperor.roster import Vassal
from donjon.emperor.scanner import ZERG_SUFFIX
from donjon.errors import ConfigError, DonjonError
from donjon.records import dataclass

TIME_LIMIT = 15.0
"""Seconds that an evaluator has."""

ANSWER_LIMIT = 4 << 20

Done = Callable[[Vassal, "Reading | DonjonError | NotYetError"], None]


@dataclass(slots=True)
class Pending:
    """An evaluator at work."""

    vassal: Vassal
    number: int
    pipe: int
    data: bytearray
    done: Done
    timer: Timer
    pidfd: int = -1


class Reader:
    """Starts readings and tells their outcome by calling ``done``."""

    def __init__(self, reactor: Reactor, nursery: Nursery, preparer: Preparer) -> None:
        self.reactor = reactor
        self.nursery = nursery
        self.preparer = preparer
        self._numbers = 0
        self._pending: dict[int, Pending] = {}

    def read(self, vassal: Vassal, done: Done) -> None:
        """Begin to read. ``done`` may be called before this returns."""
        self.cancel(vassal)
        try:
            content = read_config(vassal.found)
            self._check(vassal, content)
            entries = self._evaluate_here(vassal, content)
        except OutsideAccess as error:
            if self._is_walled(vassal):
                done(vassal, _not_before_the_walls(vassal, error))
            else:
                self._evaluate_outside(vassal, content, done)
            return
        except (DonjonError, NotYetError) as error:
            done(vassal, error)
            return
        except SystemExit as leaving:
            done(vassal, ConfigError(f"{vassal.name} asks to exit", reason=f"code {leaving.code}"))
            return
        done(vassal, self._understand(vassal, entries))

    def cancel(self, vassal: Vassal) -> None:
        """Make the answer of a reading under way worthless."""
        pending = self._pending.pop(vassal.reading_number, None)
        vassal.reading_number = 0
        if pending is not None:
            self._end(pending)

    def _check(self, vassal: Vassal, content: Content) -> None:
        if not self.preparer.spec.tyrant:
            return
        nofollow = self.preparer.spec.tyrant_nofollow
        reason = tyrant_refusal(content)
        if nofollow and vassal.found.uid:
            reason = ""
        reason = reason or foreign_refusal(content, vassal.found, nofollow=nofollow)
        if reason:
            raise ConfigError(
                f"[emperor-tyrant] invalid permissions for vassal {vassal.name}", reason=reason
            )

    def _understand(
        self, vassal: Vassal, entries: tuple[Entry, ...], *, origins_hold: bool = True
    ) -> Reading | DonjonError:
        try:
            return self.preparer.understand(
                vassal.name, vassal.found, entries, origins_hold=origins_hold
            )
        except DonjonError as error:
            if not origins_hold and self.preparer.trusted - {"command line", "environment"}:
                error.hint = error.hint or (
                    "the customer's file reaches outside itself, so it was evaluated with the "
                    "customer's rights, and the operator's options in it cannot be told apart"
                )
            return error

    def _options(self, vassal: Vassal) -> list[str]:
        """The vassal's command line without the program."""
        return list(self.preparer.options(vassal.name, vassal.found))

    def _evaluate_here(self, vassal: Vassal, content: Content) -> tuple[Entry, ...]:
        environ = self.nursery.environment(vassal)
        argv = self._options(vassal)
        world = self._world(vassal, content, environ)
        evaluation = evaluate(argv, environ=environ, world=world)
        for warning in evaluation.warnings:
            log.write(f"[emperor] vassal {vassal.name}: {warning}")
        return entries_to_run(vassal.name, evaluation)

    def _is_walled(self, vassal: Vassal) -> bool:
        """Whether the operator's files give a tyrant's vassals walls, or cannot be understood.

        What a customer's text runs while it is evaluated would run outside of them.
        """
        spec = self.preparer.spec
        if not spec.tyrant:
            return False
        words = []
        for option, values in (
            ("--inherit", (*spec.vassals_inherit_before, *spec.vassals_inherit)),
            ("--include", (*spec.vassals_include_before, *spec.vassals_include)),
            ("--set", spec.vassals_set),
        ):
            words += [word for value in values for word in (option, value)]
        environ = self.nursery.environment(vassal)
        world = FileWorld(Facts(cwd=vassal.source.cwd), environ)
        try:
            entries = evaluate(words, environ=environ, world=world).entries
        except (OutsideAccess, DonjonError):
            return True
        rows = (options.find(entry.key) for entry in entries)
        return any(row is not None and row.operator for row in rows)

    def _world(self, vassal: Vassal, content: Content, environ: Mapping[str, str]) -> World:
        binary = self.preparer.argv0[0] if self.preparer.argv0 else ""
        facts = Facts(cwd=vassal.source.cwd, binary=binary)
        file_name = vassal.name.removesuffix(ZERG_SUFFIX)
        if not self.preparer.spec.tyrant:
            path = os.path.join(facts.cwd, file_name)
            return OpenedFileWorld(facts, environ, own_path=path, own=content.data)
        files: dict[str, Opened | bytes] = dict(self._operator_files(vassal))
        files[file_name] = Opened(content.data, vassal.found.identity[1])
        return ClosedWorld.over(files, facts)

    def _operator_files(self, vassal: Vassal) -> dict[str, bytes]:
        """Read the operator's own files, so that a tyrant's closed evaluation may include them."""
        files = {}
        for name in self.preparer.trusted - {"command line", "environment"}:
            try:
                with open(os.path.join(vassal.source.cwd, name), "rb") as file:
                    files[name] = file.read()
            except OSError:
                continue  # the evaluation names it when it is wanted
        return files

    def _evaluate_outside(self, vassal: Vassal, content: Content, done: Done) -> None:
        near, far = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(far, True)
        self._numbers += 1
        number = vassal.reading_number = self._numbers
        timer = self.reactor.after(TIME_LIMIT, lambda: self._too_late(number))
        self._pending[number] = Pending(vassal, number, near, bytearray(), done, timer)
        self.reactor.watch(near, lambda _events: self._receive(number))
        request = {
            "name": vassal.name,
            "argv": self._options(vassal),
            "environ": self.nursery.environment(vassal),
            "path": os.path.join(vassal.source.cwd, vassal.name.removesuffix(ZERG_SUFFIX)),
            "data": content.data,
        }
        self.nursery.order_evaluator(
            vassal,
            request,
            far,
            tyrant=self.preparer.spec.tyrant,
            arrived=lambda pidfd: self._arrived(number, pidfd),
        )

    def _arrived(self, number: int, pidfd: int) -> None:
        pending = self._pending.get(number)
        if pending is None:
            self.nursery.dismiss(pidfd)
        elif pidfd < 0:
            self._finish(pending, ConfigError("the spawner cannot start an evaluator"))
        else:
            pending.pidfd = pidfd

    def _too_late(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending is not None:
            reason = f"not evaluated within {TIME_LIMIT:.0f} s"
            self._finish(pending, ConfigError(f"cannot read {pending.vassal.name}", reason=reason))

    def _receive(self, number: int) -> None:
        pending = self._pending[number]
        try:
            data = os.read(pending.pipe, 65536)
        except BlockingIOError:
            return
        pending.data += data
        if len(pending.data) > ANSWER_LIMIT:
            self._finish(pending, ConfigError(f"{pending.vassal.name} has too many options"))
        elif not data:
            self._finish(pending, self._decode(pending))

    def _decode(self, pending: Pending) -> Reading | DonjonError:
        try:
            answer = json.loads(bytes(pending.data))
            if "error" in answer:
                return ConfigError(str(answer["error"]))
            entries = entries_from_json(answer["entries"])
            hold = not self.preparer.spec.tyrant
            return self._understand(pending.vassal, entries, origins_hold=hold)
        except (ValueError, KeyError, TypeError):
            return ConfigError(f"cannot read {pending.vassal.name}", reason="no answer")
        except DonjonError as error:
            return error

    def _finish(self, pending: Pending, outcome: Reading | DonjonError) -> None:
        self._pending.pop(pending.number, None)
        pending.vassal.reading_number = 0
        self._end(pending)
        pending.done(pending.vassal, outcome)

    def _end(self, pending: Pending) -> None:
        pending.timer.cancel()
        self.reactor.forget(pending.pipe)
        os.close(pending.pipe)
        if pending.pidfd >= 0:
            self.nursery.dismiss(pending.pidfd)
        log.debug(f"[emperor] evaluator of {pending.vassal.name} is done")


def _not_before_the_walls(vassal: Vassal, error: OutsideAccess) -> ConfigError:
    return ConfigError(
        f"{vassal.name} reaches outside itself: {error.wanted}",
        reason="the operator's files wall it in, and nothing of a customer's runs before that",
        hint="write the value itself, or let the operator's files give it",
    )
