"""A plain vassal that needs an interpreter after all: to build its jail, as worker 1, or because
something happened.

See ``flat`` for what a plain vassal is, and ``_birth`` for the moments at which this is asked.
"""

from __future__ import annotations

import os
import pickle
from typing import NoReturn

from donjon.emperor import _birth
from donjon.emperor.birth import AFTER_DROP, EMPEROR_FD, Begun, Birth
from donjon.emperor.newborn import Entry, report
from donjon.records import replace
from donjon.server import plain, worker
from donjon.server.board import Board
from donjon.server.channel import Channel
from donjon.server.takeover import LivingWorker, OpenListener, UnderWay, signals_of
from donjon.server.uwsgi_module import Life


def go_on(what: int, entry: Entry) -> NoReturn:
    """Be what ``_birth.serve`` said that this process is now. Never returns."""
    if what == _birth.WORKER and (told := _birth.told()):
        fds = [row[0] for row in _birth.listeners()]
        _, writer = _birth.channel()
        board = _birth.board()
        master = os.getppid()  # the application may ask in a process that it forked
        worker.live(
            lambda: plain.work(
                told,
                lambda: _life(master),
                fds=fds,
                writer=writer,
                emperor_fd=EMPEROR_FD,
                board=board,
            )
        )
    try:
        birth = _order_of_ours()
        entry(replace(birth, begun=_begun(what)))
    except Exception as error:
        report(f"cannot start: {type(error).__name__}: {error}")
    os._exit(1)


def _order_of_ours() -> Birth:
    birth = pickle.loads(_birth.record()).birth
    if not isinstance(birth, Birth):
        raise TypeError("the order has no birth")
    return birth


def _life(master: int) -> Life:
    spec = _order_of_ours().launch.server
    board = Board(spec.processes, spec.threads, _birth.board())
    channel = Channel(_birth.channel())
    return Life(spec, master, board, channel, slot=plain.FIRST)


def _listeners() -> tuple[OpenListener, ...]:
    return tuple(OpenListener(*row) for row in _birth.listeners())


def _begun(what: int) -> Begun:
    if what == _birth.BUILDER:
        return Begun(builds=True)
    if what == _birth.STOPPED:
        return Begun(resume=_birth.resume())
    loaded, serving, environment, packet, signals = _birth.woken()
    under_way = UnderWay(
        listeners=_listeners(),
        channel=_birth.channel(),
        board=_birth.board(),
        workers=tuple(LivingWorker(*row) for row in _birth.workers()),
        loaded=loaded,
        serving=serving,
        environment=environment,
        packet=packet,
        signals=signals_of(signals),
    )
    return Begun(resume=AFTER_DROP, under_way=under_way, is_worker=what == _birth.WORKER)
