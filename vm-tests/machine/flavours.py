"""The table of flavours.toml."""

import tomllib
from dataclasses import dataclass

from machine import HERE


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel: the Debian ``package`` of ``suite`` that has it, and what runs it (``backend``)."""

    name: str
    backend: str
    suite: str
    package: str


@dataclass(frozen=True, slots=True)
class Flavour:
    """A kernel and how it is started; ``boot`` in seconds, ``memory`` in MiB."""

    name: str
    about: str
    kernel: Kernel
    boot: int
    append: str = ""
    memory: int = 1024


def load() -> dict[str, Flavour]:
    """Return every flavour by name, in the order of the file."""
    table = tomllib.loads((HERE / "flavours.toml").read_text())
    kernels = {name: Kernel(name, **row) for name, row in table["kernels"].items()}
    return {
        name: Flavour(name, **{**row, "kernel": kernels[row["kernel"]]})
        for name, row in table["flavours"].items()
    }
