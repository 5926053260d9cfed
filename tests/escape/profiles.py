"""How a vassal can be jailed: what the operator writes, and what the tests then know of it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import donjon

ROOT_SCRIPT = Path(__file__).parents[2] / "scripts" / "test-root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One way; ``lines`` go to the file that each vassal includes."""

    name: str
    about: str
    namespaces: str = "fs,ipc,pid,uts,net"
    root: str = "host"  # host, or a kind of scripts/test-root
    form: str = "{root}"  # of rootfs
    lines: str = ""
    tyrant: bool = False
    needs: str = ""
    slow_root: bool = False  # made only where it was made before

    @property
    def root_inside(self) -> bool:
        """Whether the application is root of a user namespace."""
        return "user" in self.namespaces

    @property
    def kinds(self) -> list[str]:
        """Namespaces as /proc names them."""
        return ["mnt" if word == "fs" else word for word in self.namespaces.split(",")]

    def rootfs(self, root: str) -> str:
        """Return the line of ``rootfs``, and binds that a root without this checkout needs."""
        if self.root == "host":
            return "rootfs = host\n"
        lines = f"rootfs = {self.form.format(root=root)}\n"
        for path in interpreter():
            lines += f"bind = {path}:{path}:ro\n"
        return lines


PROFILES = (
    Profile(name="host", about="default, `rootfs = host`"),
    Profile(name="closure", about="default, a directory of this machine's packages", root="closure"),
    Profile(name="debootstrap", about="default, a debootstrapped directory", root="debootstrap", slow_root=True),
    Profile(name="overlay", about="default, an overlay over the directory", root="closure", form="overlay:{root}", needs="rootfs=overlay:/srv/base"),
    Profile(name="user", about="`rootfs = host` in a user namespace", namespaces="fs,ipc,pid,uts,net,user"),
    Profile(name="tyrant", about="`rootfs = host`, the customer owns the file", tyrant=True),
    Profile(name="shared-net", about="`rootfs = host`, the host's network", namespaces="fs,ipc,pid,uts"),
    Profile(
        name="landlock",
        about="`rootfs = host`, the host's network, `landlock = auto`",
        namespaces="fs,ipc,pid,uts",
        lines="landlock = auto\n",
        needs="landlock=auto",
    ),
)  # fmt: skip


def interpreter() -> list[str]:
    """Directories from which this interpreter imports donjon, but for the root's own."""
    package = Path(donjon.__file__).parent
    found = {
        sys.prefix,
        str(package),
        *(str(p.resolve()) for p in package.iterdir() if p.is_symlink()),
    }
    return sorted(path for path in found if not path.startswith("/usr/"))


@functools.cache
def _root(kind: str, *words: str) -> tuple[str, str]:
    """Return the directory, or why there is none, as scripts/test-root says it."""
    command = [ROOT_SCRIPT, kind, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip(), done.stderr.strip()


def made_root(kind: str) -> str:
    """Return the directory that scripts/test-root made."""
    directory, reason = _root(kind)
    assert directory, reason
    return directory


def copied_root(kind: str, name: str) -> str:
    """Return a copy of the directory that may be written to: mount points are made in a root."""
    made = Path(made_root(kind))
    copy = made.with_name(f"{name}-{os.getpid()}")
    subprocess.run(["cp", "-al", str(made), str(copy)], check=True)
    return str(copy)


def lacks_root(profile: Profile) -> str:
    """Return why there is no root for a profile; one that takes a minute is not made here."""
    if profile.root == "host":
        return ""
    words = ("--if-made",) if profile.slow_root else ()
    directory, reason = _root(profile.root, *words)
    return "" if directory else reason
