"""Evaluates a configuration: environment, command line and files to a list of resolved options.

The order is the original's (uwsgi-facts 2.1 point 1): options of the environment, then of the
command line, then the files named without an option. Options that act at once (loaders, logic,
``set``, ``print`` of ``iprint``) do so when they are met, with what is known by then; the text
they load comes in their place. When all is read, values are resolved in three passes
(``expand``). Then options are executed in order, which here means: ``inherit`` loads its file and
options declared by ``declare-option`` give theirs, both at the end of the list, resolved in their
turn.

Every option keeps the place it was written at, and every error shows it. Nothing here touches the
system: that is the ``World``'s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from donjon.config import arguments, environment, immediate, logic, walls
from donjon.config.entry import Entry
from donjon.config.evaluation import Action, Evaluation
from donjon.config.expand import Expander
from donjon.config.formats import Format
from donjon.config.immediate import Exit, Record
from donjon.config.reader import Reader
from donjon.config.world import OpenWorld, World
from donjon.errors import ConfigError
from donjon.origin import Origin

_DEEPEST = 64
_ARGUMENT = re.compile(r"\$(\d+)")


def evaluate(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    world: World | None = None,
    reload: bool = False,  # noqa: FBT001, FBT002, RUF100  (keyword only)
    log: Callable[[str], None] | None = None,
) -> Evaluation:
    """Return what the arguments ``argv`` (without the program's name) and what they load come to.

    ``reload`` says whether this is a reload of a running instance (``if-reload``). ``log`` gets a
    line for each configuration read. Raises ConfigError with the place at fault.
    """
    environ = os.environ if environ is None else environ
    evaluator = Evaluator(world or OpenWorld(environ=environ), environ, reload=reload, log=log)
    return evaluator.run(argv)


class Evaluator:
    """The state of one evaluation."""

    def __init__(
        self,
        world: World,
        environ: Mapping[str, str],
        *,
        reload: bool,
        log: Callable[[str], None] | None,
    ) -> None:
        """Begin with nothing evaluated."""
        self.world = world
        self._depth = 0
        self._most = world.limits.entries
        self.environ = dict(environ)
        self.reader = Reader(world, log)
        self.records: list[Record] = []
        self.actions: list[Action] = []
        self.strict = False
        self.environ_changes: dict[str, str | None] = {}
        self.first: dict[str, Record] = {}
        self.block: logic.Block | None = None
        self._inside_block = False
        self.walls = walls.NONE
        self.declared: dict[str, immediate.Declared] = {}
        self._expander = Expander(
            self.environ, self._read_reference, self._lookup, world.limits, world.too_much
        )
        self.given = logic.Given(
            world, self.environ, self._values_of, reload, self.reader.read_text
        )

    def run(self, argv: Sequence[str]) -> Evaluation:
        """Evaluate all, in order."""
        try:
            for entry in environment.parse(self.environ):
                self.add(entry.key, entry.value, entry.origin)
            for entry in arguments.parse(argv):
                if entry.key == arguments.FILE:
                    self.load(entry.value or "", None, entry.origin)
                else:
                    self.add(entry.key, entry.value, entry.origin)
            self._execute()
        except Exit:
            pass
        except ConfigError as error:
            immediate.tidy(error)
            raise
        return self._result()

    # -- one option -------------------------------------------------------------------------------

    def add(self, key: str, value: str | None, origin: Origin) -> None:
        """Take an option: refuse it, repeat it, act on it or keep it."""
        if self.walls is not walls.NONE:
            self.walls.check(key, origin)
        if self.block is not None and not self._inside_block:
            if key in logic.CLOSERS:
                self.block = None
            else:
                self._add_in_block(self.block, key, value, origin)
                return
        record = self.append(key, value, origin)
        handler = immediate.HANDLERS.get(record.row.name) if record.row is not None else None
        if handler is not None:
            record.done = True
            self._depth += 1
            self._act(handler, record)
            self._depth -= 1

    def append(self, key: str, value: str | None, origin: Origin) -> Record:
        """Put an option at the end of the list."""
        if len(self.records) >= self._most:
            error = self.world.too_much(f"more than {self._most} options")
            raise immediate.located(error, origin)
        record = Record(key, value, origin, self.walls)
        self.records.append(record)
        self.first.setdefault(key, record)
        return record

    def _add_in_block(
        self, block: logic.Block, key: str, value: str | None, origin: Origin
    ) -> None:
        self._inside_block = True
        try:
            for each in block.values(value):
                self.add(key, each, origin)
        finally:
            self._inside_block = False

    def _act(self, handler: immediate.Handler, record: Record) -> None:
        """Do what an immediate option says, with its value resolved as far as it can be by now."""
        if self._depth > _DEEPEST:
            what = f"options inside options more than {_DEEPEST} deep"
            raise ConfigError(what, origin=record.origin)
        try:
            if record.value and handler not in immediate.RAW:
                record.value = self._expander.early(record.value)
            handler(self, record)
        except ConfigError as error:
            raise immediate.located(error, record.origin) from error.__cause__

    def load(self, name: str, format_: Format | None, origin: Origin) -> None:
        """Read a configuration and take its options, in place."""
        if not name:
            raise ConfigError("a file must be named", origin=origin)
        try:
            entries = self.reader.open(name, format_, origin)
        except ConfigError as error:
            raise immediate.located(error, origin) from error.__cause__
        outer = self.block
        inside, self._inside_block = self._inside_block, False
        if inside:
            self.block = None  # a file read inside a block may have blocks of its own
        try:
            for entry in entries:
                self.add(entry.key, entry.value, entry.origin)
            self._tell_unclosed()
        finally:
            self.reader.close()
            self.block, self._inside_block = outer, inside  # what a file opens ends with the file

    def _read_reference(self, name: str) -> str:
        return self.reader.read_text(name).removesuffix("\n")

    def _lookup(self, name: str) -> str | None:
        record = self.first.get(name)
        return record.value if record is not None else None

    def _values_of(self, name: str) -> list[str | None]:
        return [record.value for record in self.records if record.key == name]

    # -- when all is read -------------------------------------------------------------------------

    def _execute(self) -> None:
        """Resolve values and execute what gives more options, until none is new."""
        start = 0
        while start < len(self.records):
            batch = self.records[start:]
            start = len(self.records)
            self._substitute(batch)
            for record in batch:
                if not record.done and not record.placeholder:
                    self.walls = record.walls  # what it gives stands where it stood
                    self._execute_one(record)
        self._finish()

    def _substitute(self, batch: Iterable[Record]) -> None:
        pending = [
            record for record in batch if not record.done and record.value and "(" in record.value
        ]
        expander = self._expander
        for substitute in (expander.environment, expander.files, expander.placeholders):
            expander.begin_pass()
            for record in pending:
                try:
                    record.value = substitute(record.value or "")
                except ConfigError as error:
                    raise immediate.located(error, record.origin) from error.__cause__

    def _execute_one(self, record: Record) -> None:
        row = record.row
        if row is None:
            if record.key in self.declared:
                self._expand_declared(record)
            elif self.strict:
                raise immediate.unknown(record)
            return
        deferred = immediate.DEFERRED.get(row.name)
        if deferred is not None:
            record.done = True
            deferred(self, record)

    def _expand_declared(self, record: Record) -> None:
        record.done = True
        words = (record.value or "").split(" ")

        def argument(found: re.Match[str]) -> str:
            number = int(found[1][:6])
            return words[number - 1] if 0 < number <= len(words) else found[0]

        declared = self.declared[record.key]
        origin = declared.origin_for(record.origin)
        for key, value in declared.pairs:
            self.add(_ARGUMENT.sub(argument, key), _ARGUMENT.sub(argument, value), origin)

    def _finish(self) -> None:
        for at, action in enumerate(self.actions):
            if action.kind == "get":
                self.actions[at] = Action("get", self._lookup(action.text or ""), action.origin)
        self._tell_unclosed()

    def _tell_unclosed(self) -> None:
        if self.block is not None:
            self.reader.warnings.append(f"{self.block.opener} is never closed")

    def _result(self) -> Evaluation:
        return Evaluation(
            entries=tuple(Entry(r.key, r.value, r.origin) for r in self.records if not r.done),
            records=tuple(self.records),
            actions=tuple(self.actions),
            environ=dict(self.environ_changes),
            files=tuple(self.reader.files),
            warnings=tuple(self.reader.warnings),
            strict=self.strict,
        )
