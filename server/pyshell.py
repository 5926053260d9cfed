"""``pyshell``: worker 1 as an interpreter to type into, or whatever program the option says.

It serves nothing, and its end is followed by another one; that of a ``pyshell-oneshot`` by a
worker that serves. What is typed runs in an empty ``__main__``.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
import types

from donjon.server import worker
from donjon.server.loop import IGNORED, handle

OURS = "__main__"


def run(text: str) -> None:
    """Be the shell until its end; a signal that ends workers ends it too."""
    _take_signals()
    main = types.ModuleType(OURS)
    before, sys.modules[OURS] = sys.modules[OURS], main
    try:
        _work(text, main)
    except SystemExit:
        pass  # exit(): it is the shell's end, not a failure
    except BaseException:
        traceback.print_exc()
    finally:
        sys.modules[OURS] = before


def _work(text: str, main: types.ModuleType) -> None:
    if text:
        exec(compile(text, "<pyshell>", "exec"), main.__dict__)
        return
    import code  # noqa: PLC0415  (who has no shell has no use for them)

    with contextlib.suppress(ImportError):
        import readline  # noqa: PLC0415,F401  (input() edits lines then)
    code.interact(banner="", exitmsg="", local=main.__dict__)


def _take_signals() -> None:
    handle(signal.SIGHUP, lambda _number, _frame: worker.leave(worker.GRACEFUL))
    for number in (signal.SIGTERM, signal.SIGQUIT):
        handle(number, lambda _number, _frame: worker.leave(worker.ENDED))
    handle(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTSTP, signal.SIGUSR1, signal.SIGPIPE):
        handle(number, IGNORED)
