"""A process that reads one vassal's configuration with the vassal's rights, and answers with
options.

It is cloned from the spawner for files that reach outside themselves (``exec://``, ``http://``,
and in tyrant mode everything else). It has a few seconds, little memory, and its answer is JSON
that the Emperor does not trust further than that.
"""

from __future__ import annotations

import json
import os
import resource
from typing import Any, NoReturn

from donjon.config.evaluate import evaluate
from donjon.config.world import Facts
from donjon.emperor import newborn
from donjon.emperor.opened import OpenedOpenWorld
from donjon.emperor.orders import Order
from donjon.emperor.prepare import entries_to_json, entries_to_run
from donjon.errors import DonjonError

TIME_LIMIT = 15.0
"""Seconds of wall time; the Emperor kills an evaluator that takes longer."""

CPU_LIMIT = 5
MEMORY_LIMIT = 512 << 20
ANSWER_LIMIT = 4 << 20


def work(order: Order, fds: list[int]) -> NoReturn:
    """Evaluate and answer. Never returns."""
    answer: dict[str, Any]
    number = -1
    try:
        named = newborn.arrange(order, fds)
        number = named["answer"][0]
        newborn.settle(order, named)
        limit()
        answer = {"entries": read(order)}
    except DonjonError as error:
        answer = {"error": str(error)}
    except SystemExit as leaving:
        answer = {"error": f"the configuration asked to exit with {leaving.code}"}
    except BaseException as error:
        answer = {"error": f"cannot evaluate: {type(error).__name__}: {error}"}
    send(number, answer)
    os._exit(0)


def limit() -> None:
    """Bound what a hostile configuration can use."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
    used = resource.getrlimit(resource.RLIMIT_AS)
    if used[0] == resource.RLIM_INFINITY or used[0] > MEMORY_LIMIT:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, used[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read(order: Order) -> list[list[object]]:
    """Return the options of the configuration the order names."""
    request = order.evaluate or {}
    os.environ.clear()
    os.environ.update(request["environ"])
    environ = request["environ"]
    facts = Facts(cwd=order.cwd)
    world = OpenedOpenWorld(facts, environ, own_path=request["path"], own=request["data"])
    evaluation = evaluate(request["argv"], environ=environ, world=world)
    return entries_to_json(entries_to_run(request["name"], evaluation))


def send(number: int, answer: dict[str, Any]) -> None:
    """Write the answer to the pipe; a reader that went away wants none."""
    data = json.dumps(answer).encode()
    if len(data) > ANSWER_LIMIT:
        data = json.dumps({"error": f"more than {ANSWER_LIMIT} bytes of options"}).encode()
    try:
        while data:
            data = data[os.write(number, data) :]
    except OSError:
        return
