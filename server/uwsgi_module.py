"""The module ``uwsgi`` that applications import: what concerns the life of their instance.

Texts are bytes where the original gives bytes (``version``, ``hostname``, values of ``opt``).
Functions of parts that are not here (caches, queues, spoolers) are absent, so that ``hasattr``
tells the truth.
"""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

from donjon import log, syscalls
from donjon.records import dataclass
from donjon.server import decorators
from donjon.server.board import Board, total
from donjon.server.channel import Channel, Message, Word
from donjon.server.spec import ServerSpec

VERSION = "2.0.31-donjon"
"""Applications compare the version of the API; it is that of the original whose facts we keep."""


@dataclass(slots=True)
class Life:
    """What the module knows of the process it is in."""

    spec: ServerSpec
    master: int
    board: Board
    channel: Channel | None
    slot: int = 0
    bank: int = 0
    mule: int = 0
    started: int = 0  # seconds since the epoch
    reload: bool = False


def install(life: Life) -> types.ModuleType:
    """Make the module, put it into sys.modules, and return it."""
    return install_lazily(lambda: life)


def install_lazily(make: Callable[[], Life]) -> types.ModuleType:
    """The same, of a Life that is made when the application asks for something."""
    if not _prepared:
        prepare()
    module = _prepared.pop()
    module._make, module._started = make, int(time.time())
    sys.modules["uwsgi"] = module
    return module


def prepare() -> None:
    """Make a module in reserve: what a zygote made, all its vassals share."""
    _prepared[:] = [_Lazy()]
    decorators.provide()


class _Lazy(types.ModuleType):
    """The module, filled when the application first asks it for something: many never do."""

    _make: Callable[[], Life]
    _started: int
    _life: Life | None = None

    def __init__(self) -> None:
        super().__init__("uwsgi", "The API of the application server.")

    def __getattr__(self, name: str) -> Any:
        contents = self._contents()
        for key, value in contents.items():
            self.__dict__.setdefault(key, value)
        try:
            return contents[name]
        except KeyError:
            raise AttributeError(f"module 'uwsgi' has no attribute '{name}'") from None

    def __dir__(self) -> list[str]:
        return sorted({*self._contents(), *self.__dict__})

    def _contents(self) -> dict[str, Any]:
        if self._life is None:
            self._life = self._make()
            self._life.started = self._started
        return _contents(self._life)


_prepared: list[_Lazy] = []


def _contents(life: Life) -> dict[str, Any]:
    spec = life.spec
    constants: dict[str, Any] = {
        "version": VERSION.encode(),
        "version_info": (2, 0, 31, 0, b"donjon"),
        "hostname": os.uname().nodename.encode(),
        "started_on": life.started,
        "numproc": spec.processes,
        "cores": spec.threads,
        "has_threads": int(spec.enable_threads or spec.threads > 1),
        "buffer_size": spec.buffer_size,
        "applications": None,
        "is_a_reload": life.reload,
        "opt": options(spec.options),
        "SPOOL_OK": -2,
        "SPOOL_RETRY": -1,
        "SPOOL_IGNORE": 0,
    }
    return {**constants, **_functions(life)}


def options(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, bytes | bool]:
    """Make ``uwsgi.opt``: the last value of every key as bytes, True for a flag without one."""
    return {key: value.encode() if value else True for key, value in pairs}


def _functions(life: Life) -> dict[str, Callable[..., Any]]:
    def ask(word: Word) -> bool:
        if life.channel is None:
            return False
        life.channel.send(Message(word, slot=life.slot, pid=os.getpid()))
        return True

    return {
        "worker_id": lambda: life.slot,
        "mule_id": lambda: life.mule,
        "masterpid": lambda: life.master,
        "total_requests": life.board.requests,
        "request_id": lambda: _requests(life, life.slot, life.bank),
        "workers": lambda: tuple(
            _worker(life, slot) for slot in range(1, life.spec.processes + 1)
        ),
        "reload": lambda: ask(Word.RELOAD),
        "stop": lambda: ask(Word.STOP),
        "log": _log,
        "setprocname": lambda text: syscalls.set_name(str(text)),
        "micros": lambda: time.time_ns() // 1000,
        "accepting": lambda: None,
        "logsize": lambda: 0,
        "i_am_the_spooler": lambda: False,
        "in_farm": lambda *_: False,
        "get_option": lambda _number: 0,
    }


def _log(text: object) -> bool:
    log.write(str(text))
    return True


def _requests(life: Life, slot: int, bank: int) -> int:
    return total(life.board.cores(slot, bank)).requests if slot else 0


def _worker(life: Life, slot: int) -> dict[str, Any]:
    """Describe a worker by what it counted in shared memory."""
    banks = [total(life.board.cores(slot, bank)) for bank in (0, 1)]
    counted = max(banks, key=lambda core: core.last_start)
    return {
        "id": slot,
        "pid": os.getpid() if slot == life.slot else 0,
        "requests": counted.requests,
        "delta_requests": counted.requests,
        "exceptions": counted.exceptions,
        "status": b"busy" if counted.busy_since else b"idle",
        "running_time": counted.running_time,
        "tx": counted.tx,
        "avg_rt": counted.avg_rt,
        "apps": (),
    }
