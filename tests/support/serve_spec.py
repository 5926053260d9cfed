"""Serve what a JSON file describes: the server alone, without configuration, jail and command line.

``{"spec": {field: value}, "listeners": [[address, protocol]], "apps": [[kind, target, mountpoint]],
"hooks": {phase: "text" | "fail" | "exit:N"}, "journal": path}``. A hook appends its text to the journal;
``fail`` raises. A reload reads the file again. ``DONJON_TEST_EMPEROR_FD`` names a control socket.
"""

import json
import os
import sys
from typing import Any

from donjon.errors import ConfigError, HookError
from donjon.jail.phase import Phase
from donjon.server import environment, master
from donjon.server.link import EmperorLink
from donjon.server.phases import DropPoint, Reloaded
from donjon.server.spec import Application, Daemon, Listener, ServerSpec, TouchHook


class Journal:
    """Phases that only write down that they happened."""

    def __init__(self, path: str, hooks: dict[str, str]) -> None:
        self.path, self.hooks = path, hooks

    def note(self, text: str) -> None:
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{text} {os.getpid()}\n")

    def run(self, phase: Phase) -> None:
        hook = self.hooks.get(phase.value, phase.value)
        if hook == "fail":
            raise HookError(f"hook-{phase.value} failed")
        if hook.startswith("exit:"):
            raise SystemExit(int(hook[5:]))
        if hook.startswith("putenv:"):
            key, _, value = hook[7:].partition("=")
            os.environ[key] = value
        self.note(phase.value)

    def drop(self, point: DropPoint) -> None:
        self.note(f"drop-{point.value}")

    def touch(self, hook: TouchHook) -> None:
        self.note(f"touch:{hook.action}")

    def alarm(self, name: str, message: str) -> None:
        self.note(f"alarm:{name}:{message}")


def read(path: str) -> Reloaded:
    """Read the JSON file."""
    try:
        with open(path, encoding="utf-8") as file:
            wanted: dict[str, Any] = json.load(file)
    except ValueError as error:
        raise ConfigError(f"cannot read {path}", reason=str(error)) from error
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in wanted.get("spec", {}).items()}
    for key in ("environment", "options"):
        if key in fields:
            fields[key] = tuple((k, v) for k, v in fields[key])
    spec = ServerSpec(
        listeners=tuple(Listener(*row) for row in wanted.get("listeners", ())),
        http_routers=tuple(Listener(*row) for row in wanted.get("routers", ())),
        applications=tuple(Application(*row) for row in wanted.get("apps", ())),
        daemons=tuple(Daemon(*row) for row in wanted.get("daemons", ())),
        touch_hooks=tuple(TouchHook(*row) for row in wanted.get("touch", ())),
        **fields,
    )
    return Reloaded(spec, Journal(wanted.get("journal", ""), wanted.get("hooks", {})))


def main() -> int:
    path = sys.argv[1]
    first = read(path)
    environment.apply(first.spec)
    number = int(os.environ.pop("DONJON_TEST_EMPEROR_FD", "-1"))
    emperor = EmperorLink(number) if number >= 0 else None
    return master.run(first.spec, first.phases, lambda: read(path), emperor=emperor)


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:  # the harness shows it, as the command line would
        sys.stderr.write(f"donjon: {error}\n")
        status = getattr(error, "exit_status", 1)
    sys.exit(status)
