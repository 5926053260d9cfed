"""``run``, ``emperor`` and the original's flags: evaluate a configuration, and be what it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from donjon import instance, log
from donjon.config import launch as config_launch
from donjon.config.evaluate import evaluate
from donjon.config.evaluation import Action, Evaluation
from donjon.config.show import show_config
from donjon.config.spec import Launch
from donjon.config.world import COMPATIBLE_VERSION, OpenWorld
from donjon.errors import ConfigError, UsageError
from donjon.instance.fallback import EMPEROR_FD, Fallback
from donjon.records import dataclass, field
from donjon.server.spec import ServerSpec

USAGE = {
    "run": "usage: donjon run FILE [--OPTION [VALUE]]...",
    "emperor": "usage: donjon emperor DIR [--OPTION [VALUE]]...",
}


@dataclass(frozen=True, slots=True)
class RereadableWorld(OpenWorld):
    """The world as it is, in which what can be read but once is kept for the next reload."""

    kept: dict[int, bytes] = field(default_factory=dict)

    def read_stdin(self) -> bytes:
        """Return standard input, as it was the first time."""
        return self.read_descriptor(0)

    def read_descriptor(self, number: int) -> bytes:
        """Return what a descriptor gave the first time."""
        if number not in self.kept:
            self.kept[number] = OpenWorld.read_descriptor(self, number)
        return self.kept[number]


def main(verb: str, words: Sequence[str]) -> int:
    """Start what ``words`` say; ``verb`` is empty for the original's flags."""
    if verb and words and words[0] in ("-h", "--help"):
        print(USAGE[verb] + "\n\nThe options are those of `donjon --help`.")
        return 0
    if verb and (not words or words[0].startswith("-")):
        raise UsageError(f"{verb} needs a name first", hint=USAGE[verb])
    flags = ["--emperor", *words] if verb == "emperor" else list(words)
    return _start(flags)


def _start(flags: Sequence[str]) -> int:
    instance.adopt_emperor(os.environ)
    environ = dict(os.environ)
    world = RereadableWorld(environ=environ)
    evaluation = evaluate(flags, environ=environ, world=world, log=log.write)
    for warning in evaluation.warnings:
        log.write(warning)
    status = _act(evaluation)
    if status is not None:
        return status
    _change_environment(evaluation)
    launch = _build(evaluation)

    def read_again() -> Launch:
        again = evaluate(flags, environ=environ, world=world, reload=True, log=log.write)
        return _launch(again)

    if launch.server.pty_connect or launch.server.pty_uconnect:
        return _connect(launch.server)
    return instance.run(launch, reread=read_again)


def _connect(spec: ServerSpec) -> int:
    """Be the client of a terminal, as the original's pty plugin is (uwsgi-facts 4.4).

    The import is late: who serves has no use for it.
    """
    from donjon.fork_pty import client  # noqa: PLC0415

    framed = spec.pty_uconnect is not None
    wish = client.Wish(framed=framed, keep_signals=not spec.pty_no_isig)
    return client.connect(spec.pty_uconnect or spec.pty_connect or "", wish)


def _launch(evaluation: Evaluation) -> Launch:
    under_emperor = EMPEROR_FD in os.environ
    return config_launch.build(evaluation.entries, argv0=sys.argv[0], under_emperor=under_emperor)


def _build(evaluation: Evaluation) -> Launch:
    """Return the Launch; a configuration that cannot be used gives way to its fallback."""
    try:
        return _launch(evaluation)
    except ConfigError as error:
        reserve = [path for path in evaluation.values("fallback-config") if path]
        if not reserve:
            raise
        log.write(f"donjon: {error}")
        Fallback(reserve[-1]).take_over()


def _change_environment(evaluation: Evaluation) -> None:
    for name, value in evaluation.environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


# -- what a configuration asks to be printed ---------------------------------------------------


def _act(evaluation: Evaluation) -> int | None:
    """Print what was asked for; return the status to end with, or None to go on."""
    if not evaluation.actions:
        return None
    from donjon.verbs import pidfile  # noqa: PLC0415  (most starts only start)

    for action in evaluation.actions:
        if action.kind == "exit":
            return int(action.text or 1)
        if action.kind in pidfile.SIGNALS:
            return pidfile.tell(action.kind, action.text or "", action.origin)
        _PRINT[action.kind](evaluation, action)
        if action.kind in _LAST:
            return 0
    sys.stdout.flush()  # before anything is forked, or it is printed twice
    return 0 if any(action.kind == "get" for action in evaluation.actions) else None


def _print_text(_: Evaluation, action: Action) -> None:
    if action.text is not None:
        print(action.text)


def _print_config(evaluation: Evaluation, _: Action) -> None:
    log.write(show_config(evaluation).rstrip("\n"))


def _print_help(_evaluation: Evaluation, _action: Action) -> None:
    from donjon.verbs import about  # noqa: PLC0415  (most starts only start)

    print(about.flags_help(), end="")


def _print_names(_evaluation: Evaluation, _action: Action) -> None:
    from donjon.verbs import about  # noqa: PLC0415  (most starts only start)

    print(about.names(), end="")


_PRINT: dict[str, Callable[[Evaluation, Action], None]] = {
    "print": _print_text,
    "get": _print_text,
    "show-config": _print_config,
    "version": lambda _evaluation, _action: print(COMPATIBLE_VERSION),
    "help": _print_help,
    "dump-options": _print_names,
}
_LAST = frozenset({"version", "help", "dump-options"})
