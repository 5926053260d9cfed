"""The environment and working directory that an instance asks for, and what hooks made of it.

Hooks before the application (``putenv``, ``cd``) change the generation that runs them. A worker
that is replaced later comes from the master, where those hooks did not run: the generation
therefore reports what differs, and the master hands it on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from donjon.errors import DonjonError, reason_of
from donjon.origin import Origin
from donjon.server.spec import ServerSpec

UNSET = "\0"
"""The value that stands for ``unenv``; no real one can hold a NUL."""


def apply(spec: ServerSpec) -> None:
    """Set and unset what ``env`` and ``unenv`` ask for, in their order."""
    apply_pairs(spec.environment)


def apply_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Set and unset variables, in their order."""
    for key, value in pairs:
        if value == UNSET:
            os.environ.pop(key, None)
        elif key:
            os.environ[key] = value


def change_directory(path: str, origin: Origin | None = None) -> None:
    """chdir(2). Raises DonjonError."""
    try:
        os.chdir(path)
    except OSError as error:
        raise DonjonError(
            f"cannot change to {path}", origin=origin, reason=reason_of(error)
        ) from error


def withdraw(old: ServerSpec, new: ServerSpec) -> None:
    """Remove variables that only the ``old`` configuration set."""
    kept = {key for key, _ in new.environment}
    for key, value in old.environment:
        if value != UNSET and key not in kept:
            os.environ.pop(key, None)


def difference(before: Mapping[bytes, bytes]) -> bytes:
    """Pack the working directory and the variables that changed since ``before``.

    NUL-separated: the directory, then ``K=V`` for a set and ``K`` for a removed variable.
    """
    now = snapshot()
    parts = [os.fsencode(_cwd())]
    parts += [key + b"=" + value for key, value in now.items() if before.get(key) != value]
    parts += [key for key in before if key not in now]
    return b"\0".join(parts)


def snapshot() -> dict[bytes, bytes]:
    """Copy the environment; the mapping below os.environ, for a copy through it is slow."""
    data: dict[bytes, bytes] = vars(os.environ)["_data"]
    return dict(data)


def adopt(packed: bytes) -> None:
    """Do in this process what ``difference`` reported from another."""
    directory, *variables = packed.split(b"\0")
    if directory:
        change_directory(os.fsdecode(directory))
    for variable in variables:
        key, equals, value = variable.partition(b"=")
        if equals:
            os.environb[key] = value
        else:
            os.environb.pop(key, None)


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""  # the directory was removed or lies outside this root
