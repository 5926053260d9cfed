"""The C extensions. They differ by operating system, which pyproject.toml cannot say."""

import os
import sys

from setuptools import Extension, setup

STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes", "-Wshadow", "-Wconversion"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-O1"] if os.environ.get("DONJON_ASAN") else ["-O2"]


def extension(name: str, *sources: str, libraries: tuple[str, ...] = ()) -> Extension:
    """An extension donjon.NAME; sources are named through src/donjon, so that an sdist is whole."""
    folder = "src/donjon/" + name.rpartition(".")[0].replace(".", "/")
    return Extension(
        f"donjon.{name}",
        [f"{folder}/{source}" for source in sources],
        libraries=list(libraries),
        extra_compile_args=STRICT + SANITIZE + ["-D_GNU_SOURCE", "-fvisibility=hidden"],
        extra_link_args=SANITIZE[:1] if os.environ.get("DONJON_ASAN") else [],
    )


def extensions() -> list[Extension]:
    """The extensions that this system can build."""
    if not sys.platform.startswith("linux"):
        return []
    wanted = [
        extension(
            "syscalls._linux",
            "_linux.c",
            "_faults.c",
            "_process.c",
            "_mount.c",
            "_file.c",
            "_privilege.c",
            "_cmdline.c",
            "_inotify.c",
        ),
        extension(
            "server._wsgi", "_wsgi.c", "_loop.c", "_accept.c", "_conn.c", "_exchange.c", "_environ.c",
            "_head.c", "_response.c", "_output.c", "_input.c", "_logline.c",
            "http.c", "http_text.c", "http_chunked.c", "uwsgi.c",
        ),
    ]
    return [one for one in wanted if all(os.path.exists(source) for source in one.sources)]


setup(ext_modules=extensions())
