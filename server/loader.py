"""Loading the application: sys.path, virtualenv, files, modules and mount points, as uWSGI does
it.

This runs in a generation, after privileges were dropped, never in the master. What is loaded is
the customer's code: whatever it raises is shown with its traceback and is never an error of ours.
"""

from __future__ import annotations

import importlib
import os
import site
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any

from donjon import log
from donjon.errors import AppLoadError
from donjon.server.spec import Application, ServerSpec

App = Callable[..., Any]
SUFFIXES = (".py", ".wsgi")


def prepare(spec: ServerSpec) -> None:
    """Set up what imports see: arguments, virtual environment, sys.path."""
    if spec.virtualenv:
        enter_virtualenv(spec.virtualenv, spec)
    set_paths(spec.pyargv or "", spec.pythonpath)


def set_paths(pyargv: str, pythonpath: Sequence[str]) -> None:
    """Set sys.argv, and put the working directory and ``pythonpath`` before all else."""
    sys.argv = ["uwsgi", *pyargv.split()]
    sys.path[:0] = ["."]
    for directory in pythonpath:
        sys.path.insert(0, directory)
        log.write(f"added {directory} to pythonpath.")


def enter_virtualenv(home: str, spec: ServerSpec) -> None:
    """Put the packages of ``home`` in the place of the supervisor's own. Raises AppLoadError."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.path.join(home, "lib", version, "site-packages")
    if not os.path.isdir(packages):
        raise AppLoadError(
            f"cannot use the virtual environment {home}",
            origin=spec.origins.get("virtualenv"),
            reason=f"{packages} is no directory here",
            hint=f"donjon runs {version}: make it with that version",
        )
    foreign = [path for path in sys.path if _is_packages(path)]
    if os.path.realpath(home) == os.path.realpath(sys.prefix):
        return
    system = _includes_system(home)
    sys.path[:] = [path for path in sys.path if not _is_packages(path)]
    _forget_modules(tuple(path + os.sep for path in foreign))
    site.addsitedir(packages)
    if system:
        sys.path += [
            path for path in site.getsitepackages([sys.base_prefix]) if os.path.isdir(path)
        ]
    sys.prefix = sys.exec_prefix = home
    log.write(f"Set PythonHome to {home}")


def _is_packages(path: str) -> bool:
    return os.path.basename(path) in {"site-packages", "dist-packages"}


def _includes_system(home: str) -> bool:
    try:
        with open(os.path.join(home, "pyvenv.cfg"), encoding="utf-8") as file:
            pairs = [line.partition("=") for line in file]
    except (OSError, UnicodeDecodeError):
        return False
    return any(
        key.strip() == "include-system-site-packages" and value.strip().lower() == "true"
        for key, _, value in pairs
    )


def _forget_modules(folders: tuple[str, ...]) -> None:
    """Hide the supervisor's own dependencies: the customer's versions are imported instead."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(folders) and name.partition(".")[0] not in {"donjon", "uwsgi"}:
            del sys.modules[name]


def load(spec: ServerSpec, uwsgi: types.ModuleType, *, must: bool) -> list[tuple[str, App]]:
    """Load every application of ``spec``: (mountpoint, callable), the first being the default.

    With ``must`` (need-app, and every reload) a failure raises AppLoadError after the traceback
    was shown; without it the instance serves its page for "no application".
    """
    applications: list[tuple[str, App]] = []
    _import_all(spec, must=must)
    for wanted in spec.applications:
        try:
            found = load_one(wanted, spec)
        except Exception as error:
            report(wanted, error, must=must)
            continue
        if found is not None:
            applications.append((wanted.mountpoint, found))
    applications += declared(uwsgi)
    announce(applications, need_app=spec.need_app)
    return applications


def announce(applications: Sequence[tuple[str, App]], *, need_app: bool) -> None:
    """Say what was loaded. Raises AppLoadError where nothing was and something must be."""
    for number, (mountpoint, _) in enumerate(applications):
        default = " (default app)" if number == 0 else ""
        log.write(
            f"WSGI app {number} (mountpoint='{mountpoint}') ready, pid: {os.getpid()}{default}"
        )
    if not applications:
        if need_app:
            log.write("*** no app loaded. GAME OVER ***")
            raise AppLoadError("no application could be loaded and need-app asks for one")
        log.write("*** no app loaded. going in full dynamic mode ***")


def _import_all(spec: ServerSpec, *, must: bool) -> None:
    for name in spec.python_import:
        try:
            _import(name)
        except Exception as error:
            traceback.print_exc()
            if must:
                raise AppLoadError(
                    f"cannot import {name}",
                    origin=spec.origins.get("python_import"),
                    reason=repr(error),
                ) from error


def report(wanted: Application, error: Exception, *, must: bool) -> None:
    """Show why an application could not be loaded. Raises AppLoadError with ``must``."""
    traceback.print_exception(_without_us(error))
    sys.stderr.flush()
    log.write(
        f"unable to load app 0 (mountpoint='{wanted.mountpoint}')"
        " (callable not found or import error)"
    )
    if must:
        raise AppLoadError(
            f"cannot load the application {wanted.target}",
            origin=wanted.origin,
            reason=f"{type(error).__name__}: {error}",
        ) from error


def _without_us(error: Exception) -> Exception:
    """Drop our own frames from the top of a traceback: the customer's line is what matters."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("donjon."):
        trace = trace.tb_next
    return error.with_traceback(trace)


def load_one(wanted: Application, spec: ServerSpec) -> App | None:
    """Load one application; None for kinds that run something but serve nothing."""
    if wanted.kind in {"pyrun", "eval"}:
        return _run(wanted, spec)
    if wanted.kind == "wsgi-file":
        path, name = split(wanted.target, spec.callable)
        return load_file(path, name, name_of(path))
    target, name = split(wanted.target, spec.callable)
    is_file = wanted.kind == "mount" and (target.endswith(SUFFIXES) or os.sep in target)
    module = import_file(target) if is_file else importlib.import_module(target)
    return find_callable(module, name)


def load_file(path: str, name: str, module: str) -> App:
    """Run a file as ``module``, and return what it calls ``name``."""
    return find_callable(_run_file(path, module), name)


def split(target: str, default: str) -> tuple[str, str]:
    """Return path and callable of ``FILE`` or ``FILE:CALLABLE``."""
    file, colon, name = target.rpartition(":")
    return (file, name) if colon else (target, default)


def _run(wanted: Application, spec: ServerSpec) -> App | None:
    if wanted.kind == "pyrun":
        import_file(wanted.target)
        return None
    module = types.ModuleType("uwsgi_eval")
    exec(compile(wanted.target, "<eval>", "exec"), module.__dict__)
    found = getattr(module, spec.callable, None)
    return found if callable(found) else None


def _import(name: str) -> types.ModuleType:
    return import_file(name) if name.endswith(SUFFIXES) else importlib.import_module(name)


def import_file(path: str) -> types.ModuleType:
    """Run a file as the module ``uwsgi_file_<path>``.

    Its byte code is not cached: a cache tells versions by whole seconds and size, and a file
    edited twice in a second would be served in its first form.
    """
    return _run_file(path, name_of(path))


def name_of(path: str) -> str:
    """Return the name of the module that a file becomes."""
    stem = os.path.splitext(path)[0]
    return "uwsgi_file_" + "".join("_" if letter in "/." else letter for letter in stem)


def _run_file(path: str, name: str) -> types.ModuleType:
    source = _read(path)
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), module.__dict__)
    return module


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def find_callable(module: types.ModuleType, name: str) -> App:
    """Find ``name`` in the module; ``factory()`` is called and gives the application."""
    factory = name.endswith("()")
    found: Any = module
    for part in name.removesuffix("()").split("."):
        found = getattr(found, part)
    if factory:
        found = found()
    if not callable(found):
        raise TypeError(f"{name} of {module.__name__} is a {type(found).__name__}, not callable")
    app: App = found
    return app


def declared(uwsgi: types.ModuleType) -> list[tuple[str, App]]:
    """Return what the code put into ``uwsgi.applications``: {mountpoint: callable or its name}."""
    declared = vars(uwsgi).get("applications")
    if not isinstance(declared, dict):
        return []
    found = []
    for mountpoint, target in declared.items():
        if isinstance(target, str):
            module, _, name = target.rpartition(":")
            target = find_callable(importlib.import_module(module), name)  # noqa: PLW2901
        found.append((str(mountpoint), target))
    return found
