"""A generation, seen from inside: the child that loads the application and makes the other
workers.

The first worker runs what comes before the application (asap and in-jail hooks on a reload,
pre-app), loads it, runs post-app, freezes the heap and makes the other workers as its *siblings*
(CLONE_PARENT): they share its pages, and the master reaps them all. With ``lazy-apps``, and with
``master-as-root`` where nothing of the customer's may run before each worker dropped its
privileges, every worker loads for itself.

A worker that is replaced later is an order for one slot; hooks before and after the application
are not run again for it, what they did to the environment is handed on by the master.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import types
from collections.abc import Callable
from typing import NoReturn

from donjon import syscalls
from donjon.jail.phase import Phase
from donjon.server import environment, loader, uwsgi_module, worker
from donjon.server.channel import Word
from donjon.server.link import ToEmperor
from donjon.server.loop import default_signals, hold_signals, release_signals
from donjon.server.order import Order
from donjon.server.phases import DropPoint


def main(order: Order) -> NoReturn:
    """Be the child. Never returns."""
    worker.live(lambda: _run(order))


def _run(order: Order) -> int:
    order.bind_to_parent()
    order.sockets.lend_only(order.served)
    started = environment.snapshot()
    _before_application(order)
    life = uwsgi_module.Life(
        order.spec, order.master, order.board, order.channel, reload=order.before is not None
    )
    life.slot, life.bank = order.slots[0], order.bank
    module = uwsgi_module.install(life)
    applications: list[tuple[str, loader.App]] = []
    made = b""

    def hooks_ran() -> None:
        nonlocal made
        made = environment.difference(started)

    if order.loads_late:
        if order.is_first and not order.spec.lazy_apps:
            order.phases.run(Phase.PRE_APP)
        hooks_ran()
    else:
        applications = load(order, module, hooks_ran=hooks_ran)
    if order.is_first:
        order.tell_emperor(ToEmperor.SPAWNED)
    order.say(Word.LOADED, payload=made)
    order.wait_for_go()
    life.slot = _fork_siblings(order)
    return worker.run(order, life, lambda: load(order, module), applications)


def _before_application(order: Order) -> None:
    if order.before is not None:
        environment.withdraw(order.before, order.spec)
        environment.apply(order.spec)
        order.phases.run(Phase.ASAP)
        order.phases.run(Phase.IN_JAIL)
        if order.spec.chdir:
            origin = order.spec.origins.get("chdir")
            environment.change_directory(order.spec.chdir, origin)
    if order.adopt is not None:
        environment.adopt(order.adopt)


def load(
    order: Order, module: types.ModuleType, *, hooks_ran: Callable[[], None] = lambda: None
) -> list[tuple[str, loader.App]]:
    """Load the application between its hooks, which a late replacement leaves out.

    ``hooks_ran`` is called after the first ones: what the application itself makes of its
    environment, each worker that loads it makes again.
    """
    hooks = order.spec.lazy_apps or order.is_first
    if hooks and (order.spec.lazy_apps or not order.spec.master_as_root):
        order.phases.run(Phase.PRE_APP)
    hooks_ran()
    loader.prepare(order.spec)
    applications = loader.load(order.spec, module, must=order.must)
    if hooks:
        order.phases.run(Phase.POST_APP)
    order.phases.drop(DropPoint.APPS)
    sys.stdout.flush()
    gc.freeze()
    return applications


def _fork_siblings(order: Order) -> int:
    """Make the other workers; return the slot that this process has in the end."""
    for slot in order.slots[1:]:
        held = hold_signals()
        try:
            pid = _sibling(alone=order.channel is None)
            if pid == 0:
                default_signals()
        finally:
            release_signals(held)
        if pid == 0:
            order.bind_to_parent()
            return slot
        order.say(Word.SPAWNED, slot=slot, pid=pid)
    return order.slots[0]


def _sibling(*, alone: bool) -> int:
    """Fork a child of our parent: the kernel wants no exit signal then, it is the parent's
    (clone(2)).

    Without a master (``alone``) it is a child of ours.
    """
    flags = 0 if alone else syscalls.CLONE_PARENT
    pid, pidfd = syscalls.clone3(flags, exit_signal=signal.SIGCHLD if alone else 0)
    if pidfd >= 0:
        os.close(pidfd)
    return pid
