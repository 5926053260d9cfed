"""Actions that call something in this process: C functions by name, and Python callables.

C functions are found by dlsym(3) among all that is loaded, libc included. What a wrong signature
does to the process is the writer's risk, as it always was with these actions; prefer ``py:``.
"""

from __future__ import annotations

import functools
import importlib
import signal
import sys
from collections.abc import Callable
from typing import Any

from donjon.hooks.action import ActionError, Scene, Words, first_and_rest, is_variable, words


@functools.cache
def _ctypes() -> Any:
    """Return ctypes, imported when a C function is first wanted: few hooks ever want one."""
    return importlib.import_module("ctypes")


def symbol(name: str) -> Any:
    """Find a C function of this process. Raises ActionError."""
    try:
        return getattr(_ctypes().CDLL(None), name)
    except (AttributeError, ValueError):
        raise ActionError(f"no C function {name} in this process") from None


def _call_text(args: Words) -> int:
    """Call FN(), or FN(char *) where there is an argument; return its int."""
    name, argument = args
    function = symbol(name)
    return int(function(argument.encode()) if argument else function())


def call(args: Words, _scene: Scene) -> None:
    """call FN [ARG]: what it returns does not count."""
    _call_text(args)


def call_checked(args: Words, _scene: Scene) -> None:
    """callret FN [ARG]: anything but 0 fails."""
    _check(args[0], _call_text(args))


def parse_number(text: str) -> Words:
    """FN NUMBER."""
    name, number = words(2)(text)
    if not is_variable(number):
        int(number)
    return name, number


def _call_number(args: Words) -> int:
    name, number = args
    try:
        value = int(number)
    except ValueError:
        raise ActionError(f"not a number: {number}") from None
    return int(symbol(name)(_ctypes().c_int(value)))


def call_number(args: Words, _scene: Scene) -> None:
    """callint FN N: what it returns does not count."""
    _call_number(args)


def call_number_checked(args: Words, _scene: Scene) -> None:
    """callintret FN N: anything but 0 fails."""
    _check(args[0], _call_number(args))


def _check(name: str, result: int) -> None:
    if result != 0:
        raise ActionError(f"{name}() returned {result}")


def call_with_vassal(name: str, count: int, scene: Scene) -> None:
    """Call FN as ``call-as-vassal1`` and its kin do, with ``count`` values.

    They are (name), (name, pid), (name, uid, gid) or (name, pid, uid, gid).
    """
    values = scene.context.variables
    vassal = scene.context.name or values.get("UWSGI_VASSAL_CONFIG", "")
    pid, uid, gid = (int(values.get(f"UWSGI_VASSAL_{key}", "-1")) for key in ("PID", "UID", "GID"))
    numbers = {0: (), 1: (), 2: (pid,), 3: (uid, gid), 4: (pid, uid, gid)}[count]
    text = (_ctypes().c_char_p(vassal.encode()),) if count else ()
    symbol(name)(*text, *(_ctypes().c_int(number) for number in numbers))


def parse_signal(text: str) -> Words:
    """NUMBER FN."""
    number, name = words(2)(text)
    if not is_variable(number) and (
        not number.isdecimal() or int(number) not in signal.valid_signals()
    ):
        raise ValueError(f"no signal {number}")
    return number, name


def set_signal(args: Words, _scene: Scene) -> None:
    """unix_signal N FN: FN(int) of this process becomes the handler of signal N (signal(2))."""
    number, name = args
    handler = _ctypes().cast(symbol(name), _ctypes().c_void_p)
    install = symbol("signal")
    install.restype = _ctypes().c_void_p
    if install(_ctypes().c_int(int(number)), handler) == _ctypes().c_void_p(-1).value:
        raise ActionError(f"signal {number} cannot be handled")


def parse_python(text: str) -> Words:
    """module:function [ARGUMENTS]: the arguments are one string."""
    target, argument = first_and_rest(text)
    module, colon, function = target.partition(":")
    if not (module and colon and function):
        raise ValueError("takes MODULE:FUNCTION [ARGUMENTS]")
    return module, function, argument


def call_python(args: Words, scene: Scene) -> None:
    """py MODULE:FUNCTION [TEXT]: an exception fails, and any result but None, True and 0."""
    module, name, argument = args
    function = _find_python(module, name, scene)
    try:
        result = function(argument) if argument else function()
    except Exception as error:
        raise ActionError(f"{type(error).__name__}: {error}") from error
    if result is not None and result is not True and result != 0:
        raise ActionError(f"{module}:{name} returned {result!r}")


def _find_python(module: str, name: str, scene: Scene) -> Callable[..., Any]:
    """Import a module, but nothing from a jail's root while we still have privileges."""
    loaded = sys.modules.get(module)
    if loaded is None and not scene.may_import:
        raise ActionError(f"with privileges, {module} is not imported from the jail's files")
    try:
        found: Callable[..., Any] = getattr(loaded or importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ActionError(str(error)) from error
    return found


def parse_rpc(_text: str) -> Words:
    """Refuse: remote procedure calls are not there."""
    raise ValueError("remote procedure calls are not built yet")


def refuse(_args: Words, _scene: Scene) -> None:
    """Never reached: ``parse_rpc`` refuses first."""
    raise ActionError("remote procedure calls are not built yet")
