"""FreeBSD's calls for jails on Linux: the library that tests/jail/freebsd/kernel.c becomes."""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

from donjon.syscalls import freebsd_libc

SOURCE = Path(__file__).parents[1] / "jail" / "freebsd" / "kernel.c"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"]


@functools.cache
def _built() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        target = f"{place}/kernel.so"
        subprocess.run(["cc", *FLAGS, "-shared", "-fPIC", "-o", target, SOURCE], check=True)
        return Path(target).read_bytes()


class Kernel:
    """One kernel: a library of its own, without jails, and the record of its calls."""

    def __init__(self, place: Path) -> None:
        self.path = place / "kernel.so"  # a path of its own: dlopen(3) gives one library a file
        self.path.write_bytes(_built())
        self.record = place / "record"
        self.library = freebsd_libc.Library(str(self.path))

    def calls(self) -> list[str]:
        """Return the calls so far, one line each."""
        return self.record.read_text().splitlines() if self.record.exists() else []

    def commands(self, *names: str) -> str:
        """Make commands of these names that record their arguments; return their directory."""
        place = self.path.parent / "commands"
        place.mkdir()
        for name in names:
            command = place / name
            command.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.record}\n')
            command.chmod(0o755)
        return str(place)


def text(value: str) -> str:
    """Return a text as the record shows it."""
    return os.fsencode(value + "\0").hex()
