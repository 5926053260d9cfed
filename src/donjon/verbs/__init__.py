"""The verbs of the command, one module each; ``VERBS`` is the table of them.

A module has ``main(verb, words) -> int``: it reads its words, prints to standard output, returns
the exit status, and raises DonjonError for what the user can act on. Nothing here does the work
itself: a verb asks the package that does and presents the answer.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Sequence

VERBS = {
    "run": ("start", "Run one instance of FILE"),
    "emperor": ("start", "Govern the vassals of DIR"),
    "plan": ("plan", "Show the steps that FILE asks for, and who asked; nothing is done"),
    "check": ("check", "Show every problem of FILEs"),
    "ls": ("ls", "List the vassals of the running Emperor"),
    "show": ("show", "Show one vassal: what it is, asks for and said"),
    "plans": ("plans", "Show hosting plans, and plan against use of each vassal"),
    "ksm": ("merging", "Show what merging equal pages saves, for people or for collectd"),
    "top": ("top", "Watch what the vassals use"),
    "reload": ("orders", "Reload vassals"),
    "stop": ("orders", "Stop vassals until they are started again"),
    "start": ("orders", "Start vassals that were stopped"),
    "reset": ("reset", "Take away what a stopped jail wrote over its layers"),
    "logs": ("logs", "Show the last lines a vassal wrote"),
    "attach": ("attach", "Show a shell in the jail of a vassal on this terminal"),
    "ticket": ("ticket", "Sign a ticket that gives one terminal of an instance"),
    "enter": ("enter", "Run a command in the jail of a vassal"),
    "net": ("net", "Show the networks of vassals, and what passed through the router"),
    "ids": ("ids", "List whose host ids are whose, or give some back"),
    "options": ("options", "Look options up"),
    "audit": ("audit", "Show how tight a running jail is, and what weakens it"),
    "seccomp": ("seccomp", "Propose a seccomp line for a vassal that learned"),
    "doctor": ("doctor", "Show what this host allows, and how to get the rest"),
    "version": ("about", "Show the version"),
    "help": ("about", "Show this list"),
}
"""Name of the verb, its module in ``donjon.verbs``, what it does."""

Main = Callable[[str, Sequence[str]], int]
"""``main`` of a verb's module: the verb, its arguments; returns the exit status."""


def load(name: str) -> Main:
    """Import a verb. Late, so that ``donjon ls`` does not read the server to talk to a socket."""
    if VERBS[name][0] == "start":
        _gather()
    gc.disable()  # it would look at all modules again and again, and what they make stays
    try:
        module = importlib.import_module(f"donjon.verbs.{VERBS[name][0]}")
    finally:
        gc.enable()
    found: Main = module.main
    return found


def _gather() -> None:
    """Have what a start imports in one range of memory: every vassal is a copy of it."""
    from donjon.emperor import _arenas  # noqa: PLC0415  (for a start alone)

    _arenas.gather()
