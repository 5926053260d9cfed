"""Actions on this process and programs it starts."""

from __future__ import annotations

import os

from donjon import log, syscalls
from donjon.hooks import alarms, shell
from donjon.hooks.action import ActionError, Scene, Words


def execute(args: Words, scene: Scene) -> None:
    """exec COMMAND: a line for /bin/sh; any exit status but 0 fails."""
    status = shell.run(args[0], scene.environment())
    if status > 128:
        raise ActionError(f"ended by signal {status - 128}")
    if status:
        raise ActionError(f"exit status {status}")


def execute_safely(args: Words, scene: Scene) -> None:
    """safeexec COMMAND: the exit status does not count."""
    shell.run(args[0], scene.environment())


def parse_variable(text: str) -> Words:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError("takes NAME=VALUE")
    return name, value


def put_variable(args: Words, _scene: Scene) -> None:
    """putenv NAME=VALUE: for this process and those that come from it."""
    os.environ[args[0]] = args[1]


def set_hostname(args: Words, _scene: Scene) -> None:
    """hostname NAME: sethostname(2), in this process's UTS namespace."""
    syscalls.sethostname(args[0])


def parse_exit(text: str) -> Words:
    """[CODE], 0 to 255."""
    code = text.strip() or "0"
    if not code.isdecimal() or int(code) > 255:
        raise ValueError(f"an exit code is a number from 0 to 255, not {code}")
    return (code,)


def leave(args: Words, _scene: Scene) -> None:
    """exit [CODE]: this process ends."""
    raise SystemExit(int(args[0]))


def say(args: Words, _scene: Scene) -> None:
    """print TEXT."""
    log.write(args[0])


def ring(args: Words, scene: Scene) -> None:
    """alarm NAME MESSAGE."""
    alarms.ring(scene.facts.alarms, args[0], args[1])
