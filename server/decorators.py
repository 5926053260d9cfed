"""``uwsgidecorators``, as far as there is an API for it: ``postfork`` and ``thread``.

An application that brings the original's module gets that one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["postfork", "postfork_chain", "thread"]

NAME = "uwsgidecorators"

postfork_chain: list[Callable[[], Any]] = []


def _run_chain() -> None:
    for each in postfork_chain:
        each()


def _uwsgi() -> Any:
    return sys.modules["uwsgi"]


class postfork:  # noqa: N801  (the original's name)
    """Calls a function in each worker when it has been forked; with a number, in that worker."""

    def __init__(self, target: Callable[[], Any] | int) -> None:
        """Decorate ``target``, or a function for worker ``target``."""
        self._slot = 0 if callable(target) else target
        self._target = target if callable(target) else None
        _uwsgi().post_fork_hook = _run_chain
        postfork_chain.append(self)

    def __call__(self, *given: Any) -> Any:
        """Take the function that is decorated, then call it."""
        if self._target is None:
            self._target = given[0]
            return given[0]
        if self._slot in (0, _uwsgi().worker_id()):
            return self._target()
        return None


class thread:  # noqa: N801  (the original's name)
    """Runs a function in a thread of its own whenever it is called."""

    def __init__(self, target: Callable[..., Any]) -> None:
        """Decorate it."""
        self._target = target

    def __call__(self, *given: Any) -> Any:
        """Start the thread; returns the function."""
        import threading  # noqa: PLC0415  (its fork handler costs each worker memory)

        threading.Thread(target=self._target, args=given, daemon=True).start()
        return self._target


class Finder(Loader):
    """Finds this module by its name, if nobody else does."""

    @classmethod
    def find_spec(
        cls, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's specification (importlib.abc.MetaPathFinder)."""
        return ModuleSpec(NAME, cls(), origin=__name__) if name == NAME else None

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        """Make it."""
        return ModuleType(NAME, __doc__)

    def exec_module(self, module: ModuleType) -> None:
        """Fill it."""
        module.__dict__.update(
            postfork=postfork, postfork_chain=postfork_chain, thread=thread, __all__=__all__
        )


def provide() -> None:
    """Let applications import it."""
    if Finder not in sys.meta_path:
        sys.meta_path.append(Finder)
