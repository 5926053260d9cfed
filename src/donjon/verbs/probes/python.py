"""The interpreter and the packages: can a vassal read them once it has a uid of its own?"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata

import donjon
from donjon.jail.interpreter import closed_to, library
from donjon.verbs.finding import Finding, Level, judged

AREA = "python"
NOBODY = 65534

PACKAGES = (
    ("yaml", "PyYAML", "python3-yaml"),
    ("defusedxml", "defusedxml", "python3-defusedxml"),
    ("pyroute2", "pyroute2", ""),
)
"""Module, name on the package index, Debian package if it is new enough."""


def findings() -> Iterator[Finding]:
    """Yield the interpreter, who can read it, the extensions and the packages."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    detail = f"{sys.implementation.name} {version}, {sys.executable}"
    yield Finding(AREA, "interpreter", Level.OK, detail)
    for name, path in _paths().items():
        yield _readable(name, path)
    for name in ("donjon.syscalls._linux", "donjon.server._wsgi"):
        problem = None if importlib.util.find_spec(name) else "not built"
        yield judged(AREA, name, problem, needed=True, remedy="make build")
    for module, package, debian in PACKAGES:
        yield _package(module, package, debian)


def _paths() -> dict[str, str]:
    """Return what a vassal reads, by name."""
    return {
        "interpreter": sys.executable,
        "base": sys.base_prefix,
        "standard library": library(),
        "site-packages": sysconfig.get_path("purelib"),
        "donjon": os.path.dirname(os.path.abspath(donjon.__file__)),
    }


def _readable(name: str, path: str) -> Finding:
    try:
        closed = closed_to(path, NOBODY, ())
    except OSError as error:
        closed = f"{path}: {error.strerror}"
    problem = f"{closed} is closed to others" if closed else None
    return judged(
        AREA,
        f"{name} readable by any uid",
        problem,
        needed=False,
        remedy=f"chmod o+rx {closed}, or install elsewhere; rootfs = host shows it all the same",
        good=path,
    )


def _package(module: str, package: str, debian: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        remedy = f"pip install {package}" + (f", or apt-get install {debian}" if debian else "")
        return Finding(AREA, package, Level.MISSING, "not installed", remedy)
    try:
        return Finding(AREA, package, Level.OK, metadata.version(package))
    except metadata.PackageNotFoundError:
        return Finding(AREA, package, Level.OK)
