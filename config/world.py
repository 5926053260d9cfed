"""The world a configuration may look at: files, commands, the network, facts of the host and the
process.

Evaluation never touches the system itself: every outside access is a method of a ``World``. So
the same code evaluates the operator's own files (``OpenWorld``), files that may look at the file
system but run and fetch nothing (``FileWorld``), and a stranger's text inside the Emperor
(``ClosedWorld``), where any wish to look outside raises ``OutsideAccess`` and the text is
evaluated by a child with the stranger's rights.

What is opened by name is opened without blocking and judged by fstat(2) afterwards: between a
look and an open(2) a customer can put a fifo or a device in a file's place.
"""

from __future__ import annotations

import functools
import glob
import grp
import os
import pwd
import re
import socket
import stat
import sys
from collections.abc import Mapping
from typing import NoReturn, Protocol, Self

import donjon
from donjon.config import schemes
from donjon.config.limits import FULL, MAX_MATCHES, QUICK, Limits
from donjon.errors import ConfigError, reason_of
from donjon.records import dataclass, field

COMPATIBLE_VERSION = "2.0.31"
"""The version of the original whose behaviour is kept; configurations and programs compare it
(``%V``).
"""

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class OutsideAccess(ConfigError):  # noqa: N818  (says what was wanted, not that something is wrong)
    """A closed evaluation wanted to look outside. ``wanted`` names it: ``exec://...``, ``file
    /etc/x``.
    """

    def __init__(self, wanted: str) -> None:
        """Say what was wanted."""
        super().__init__(
            f"{wanted} is outside of this configuration", hint="evaluate with the vassal's rights"
        )
        self.wanted = wanted


@dataclass(frozen=True, slots=True)
class Facts:
    """What magic variables tell of the process and the host. Names are looked up when they are
    used.
    """

    cwd: str = field(default_factory=os.getcwd)
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    hostname: str = field(default_factory=lambda: os.uname().nodename)
    binary: str = field(default_factory=lambda: os.path.realpath(sys.argv[0]))
    version: str = COMPATIBLE_VERSION

    @property
    def user(self) -> str:
        """Name of the uid; the number where it has none."""
        return _user_name(self.uid)

    @property
    def group(self) -> str:
        """Name of the gid; the number where it has none."""
        return _group_name(self.gid)

    @property
    def cpus(self) -> int:
        """Processors that this process may use (sched_getaffinity(2))."""
        return len(os.sched_getaffinity(0))


@functools.lru_cache(maxsize=256)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.lru_cache(maxsize=256)
def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


class World(Protocol):
    """Every outside access of an evaluation. Paths are as written; ``facts.cwd`` is their base."""

    @property
    def facts(self) -> Facts:
        """The host and the process."""

    @property
    def limits(self) -> Limits:
        """What an evaluation in this world may cost."""

    def too_much(self, what: str) -> ConfigError:
        """Return the error for going beyond a limit."""

    def read(self, path: str) -> bytes:
        """Return a regular file whole."""

    def read_stdin(self) -> bytes:
        """Return standard input up to its end."""

    def read_descriptor(self, number: int) -> bytes:
        """Return what an inherited descriptor gives up to its end."""

    def read_emperor(self) -> bytes:
        """Return the configuration that the Emperor pushes (uwsgi-facts 1.5)."""

    def run(self, command: str) -> bytes:
        """Return the standard output of ``/bin/sh -c command``."""

    def fetch(self, url: str) -> bytes:
        """Return the body of an http:// or https:// answer."""

    def call(self, name: str, *, integer: bool) -> str:
        """Return what ``module:name`` of Python or a C function of this process gives."""

    def resolve(self, host: str) -> str:
        """Return the first IPv4 address of a host."""

    def canonical(self, path: str) -> str:
        """Return the absolute path, links in its directory resolved, its last name as it is."""

    def inode(self, path: str) -> int | None:
        """Return the inode number of a path (a link's own), None where it does not exist."""

    def exists(self, path: str) -> bool:
        """Whether a path exists."""

    def is_file(self, path: str) -> bool:
        """Whether a path is a regular file."""

    def is_dir(self, path: str) -> bool:
        """Whether a path is a directory."""

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted, directories with a final slash (glob(3)
        GLOB_MARK).
        """

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""

    def hostname_matches(self, pattern: str) -> bool:
        """Whether the host's name holds a match of a regular expression."""


@dataclass(frozen=True, slots=True)
class OpenWorld:
    """The world as it is: for the operator's own configurations."""

    facts: Facts = field(default_factory=Facts)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def limits(self) -> Limits:
        """What an evaluation in this world may cost."""
        return FULL

    def too_much(self, what: str) -> ConfigError:
        """Return the error for going beyond a limit."""
        return ConfigError(what, reason="no configuration needs that")

    def path(self, path: str) -> str:
        """Return a path as open(2) takes it, based on the working directory of the evaluation."""
        return path if path.startswith("/") else os.path.join(self.facts.cwd, path)

    def read(self, path: str) -> bytes:
        """Return a regular file whole."""
        return read_regular(self.path(path), shown=path)

    def read_stdin(self) -> bytes:
        """Return standard input up to its end."""
        return schemes.drain(0, "standard input")

    def read_descriptor(self, number: int) -> bytes:
        """Return what an inherited descriptor gives up to its end."""
        return schemes.drain(number, f"fd://{number}")

    def read_emperor(self) -> bytes:
        """Return the configuration that the Emperor pushes."""
        return schemes.receive_pushed(self.environ.get("UWSGI_EMPEROR_FD_CONFIG", ""))

    def run(self, command: str) -> bytes:
        """Return the standard output of ``/bin/sh -c command``."""
        return schemes.run_shell(command, cwd=self.facts.cwd, environ=self.environ)

    def fetch(self, url: str) -> bytes:
        """Return the body of an http:// or https:// answer."""
        agent = f"donjon {donjon.__version__} on {self.facts.hostname}"
        return schemes.fetch_http(url, agent=agent)

    def call(self, name: str, *, integer: bool) -> str:
        """Return what ``module:name`` of Python or a C function of this process gives."""
        return schemes.call(name, integer=integer)

    def resolve(self, host: str) -> str:
        """Return the first IPv4 address of a host."""
        try:
            return socket.gethostbyname(host)
        except (OSError, ValueError) as error:  # ValueError: no name of a host (idna)
            reason = (error.strerror or "") if isinstance(error, OSError) else str(error)
            raise ConfigError(f"cannot resolve {host}", reason=reason) from error

    def canonical(self, path: str) -> str:
        """Return the absolute path, links in its directory resolved, its last name as it is."""
        directory, base = os.path.split(os.path.normpath(self.path(path)))
        return os.path.join(os.path.realpath(directory), base)

    def inode(self, path: str) -> int | None:
        """Return the inode number of a path (a link's own), None where it does not exist."""
        try:
            return os.lstat(self.path(path)).st_ino
        except (OSError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        """Whether a path exists."""
        return os.path.exists(self.path(path))

    def is_file(self, path: str) -> bool:
        """Whether a path is a regular file."""
        return os.path.isfile(self.path(path))

    def is_dir(self, path: str) -> bool:
        """Whether a path is a directory."""
        return os.path.isdir(self.path(path))

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match, sorted, directories with a final slash."""
        found: list[str] = []
        for name in glob.iglob(pattern, root_dir=self.facts.cwd):
            found.append(name + "/" if self.is_dir(name) else name)
            if len(found) > MAX_MATCHES:
                raise ConfigError(f"{pattern} matches more than {MAX_MATCHES} paths")
        return sorted(found)

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError as error:
            raise ConfigError(f"cannot list {path}", reason=reason_of(error)) from error

    def hostname_matches(self, pattern: str) -> bool:
        """Whether the host's name holds a match of a regular expression."""
        try:
            return re.search(pattern, self.facts.hostname) is not None
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"not a regular expression: {pattern}", reason=str(error)) from error


class FileWorld(OpenWorld):
    """Files may be looked at; nothing is run, fetched, called or waited for."""

    __slots__ = ()

    def read_stdin(self) -> NoReturn:
        """Refuse."""
        raise OutsideAccess("standard input")

    def read_descriptor(self, number: int) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"fd://{number}")

    def read_emperor(self) -> NoReturn:
        """Refuse."""
        raise OutsideAccess("emperor://")

    def run(self, command: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"exec://{command}")

    def fetch(self, url: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(url)

    def call(self, name: str, *, integer: bool) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        raise OutsideAccess(f"call://{name}")

    def resolve(self, host: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"the address of {host}")


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that the caller opened and read already."""

    data: bytes
    inode: int = 0


@dataclass(frozen=True, slots=True)
class ClosedWorld(FileWorld):
    """Nothing but bytes that were opened before: a stranger's text, the operator's own files.

    ``files`` maps a path as the configuration names it to what was read from it. A regular
    expression on the host's name is refused too, because a stranger could write one that never
    ends.
    """

    files: Mapping[str, Opened] = field(default_factory=dict)

    @classmethod
    def over(cls, files: Mapping[str, Opened | bytes], facts: Facts | None = None) -> Self:
        """Return a world of these files; their paths may be relative to ``facts.cwd``."""
        facts = facts or Facts()
        opened = {
            os.path.join(facts.cwd, path): file if isinstance(file, Opened) else Opened(file)
            for path, file in files.items()
        }
        return cls(facts=facts, environ={}, files=opened)

    @property
    def limits(self) -> Limits:
        """Little: whoever evaluates a stranger's text here has other things to do."""
        return QUICK

    def too_much(self, what: str) -> OutsideAccess:
        """Return the wish for an evaluation that may take its time."""
        return OutsideAccess(what)

    def _find(self, path: str, wanted: str) -> Opened:
        opened = self.files.get(self.path(path))
        if opened is None:
            raise OutsideAccess(f"{wanted} {path}")
        return opened

    def read(self, path: str) -> bytes:
        """Return what was read before."""
        return self._find(path, "file").data

    def canonical(self, path: str) -> str:
        """Return the absolute path; links are not looked at."""
        return os.path.normpath(self.path(path))

    def inode(self, path: str) -> int | None:
        """Return the inode number of a file that was opened before."""
        return self._find(path, "inode of").inode

    def exists(self, path: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"whether {path} exists")

    def is_file(self, path: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"whether there is a file {path}")

    def is_dir(self, path: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"whether there is a directory {path}")

    def glob(self, pattern: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"paths like {pattern}")

    def names(self, path: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"names in {path}")

    def hostname_matches(self, pattern: str) -> NoReturn:
        """Refuse."""
        raise OutsideAccess(f"a match of {pattern}")


def read_regular(path: str, *, shown: str) -> bytes:
    """Return a regular file of at most MAX_BYTES whole; ``shown`` is the path for errors, as
    written.

    Raises ConfigError for anything else: missing, not readable, a directory, fifo, socket or
    device.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot read {shown}", reason=reason) from error
    try:
        mode = os.fstat(number).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
            raise ConfigError(
                f"cannot read {shown}", reason=f"it is {kind}", hint="name a regular file"
            )
        return schemes.drain(number, shown)
    finally:
        os.close(number)


__all__ = [
    "COMPATIBLE_VERSION",
    "ClosedWorld",
    "Facts",
    "FileWorld",
    "OpenWorld",
    "Opened",
    "OutsideAccess",
    "World",
    "read_regular",
]
