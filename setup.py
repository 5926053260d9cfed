"""The C extensions. They differ by operating system, which pyproject.toml cannot say."""

import os
import sys

from setuptools import Extension, setup

ASAN = bool(os.environ.get("DONJON_ASAN"))
STRICT = [
    *("-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes", "-Wshadow", "-Wconversion"),
]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-O1"]


def extension(name: str, sources: str) -> Extension:
    """Return donjon.NAME, of the C files named; through src/donjon, so that an sdist is whole."""
    folder = "src/donjon/" + name.partition(".")[0]
    return Extension(
        f"donjon.{name}",
        [f"{folder}/{source}.c" for source in sources.split()],
        extra_compile_args=STRICT + (SANITIZE if ASAN else ["-O2"]),
        extra_link_args=SANITIZE[:1] if ASAN else [],
    )


LINUX = [
    extension(
        "syscalls._linux",
        "_linux _faults _process _mount _file _privilege _cmdline _confine _inotify _loop _memory"
        " _tape _tun cmdline faults fork",
    ),
    extension(
        "emperor._birth",
        "_birth newborn acts listening sitter"
        " ../syscalls/cmdline ../syscalls/faults ../syscalls/fork",
    ),
    extension("emperor._arenas", "_arenas"),
    extension("fork_pty._pump", "_pump frames"),
    extension(
        "server._wsgi",
        "_wsgi _loop _pool _accept _conn _exchange _environ _head _response _output _input"
        " _logline http http_text http_chunked uwsgi",
    ),
    extension(
        "tuntap._plane",
        "_plane _counted plane forward tunnel frames packet offload addresses bucket queue seal"
        " capture notes networks gateway reject firewall connections tracking ruletable rulematch",
    ),
    extension(
        "tuntap._firewall",
        "_firewall _counted firewall connections tracking ruletable rulematch",
    ),
]

setup(ext_modules=LINUX if sys.platform.startswith("linux") else [])
