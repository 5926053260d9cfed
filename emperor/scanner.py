"""Finding configurations: ``dir://`` and ``glob://`` sources (spec IMD, uwsgi-facts 1.1).

A source is *scanned*, which gives every vassal it holds. inotify says when to scan, and which
single name to look at; a rescan every ``emperor-freq`` seconds is the safety net (changed targets
of links, file systems without inotify, overflowed queues). A vassal is known by its name: the bare
file name in a directory, the path as the pattern gives it in a glob.

A name that ends in one of the extensions and is a regular file (or, with nofollow, a link) counts.
A change is another time stamp in nanoseconds or another file under the name: a file moved over an
older one counts even when its time stamp is older.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence

from donjon.records import dataclass, replace

EXTENSIONS = (".xml", ".ini", ".yml", ".yaml", ".js", ".json", ".toml")
NAME_MAX = 255
ZERG_SUFFIX = ":zerg"
"""What stands behind the name of a reinforcement of a vassal."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What no name of a vassal holds: it would write lines of its own into logs."""

FORMATS = {
    ".xml": "xml",
    ".ini": "ini",
    ".yml": "yaml",
    ".yaml": "yaml",
    ".js": "json",
    ".json": "json",
    ".toml": "toml",
}


@dataclass(frozen=True, slots=True)
class Found:
    """One configuration as seen by a scan. ``mtime_ns`` is the link's own with nofollow."""

    name: str
    path: str
    mtime_ns: int
    identity: tuple[int, int]  # device and inode
    uid: int
    gid: int
    size: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Which names count, and whose time stamp and owner."""

    extensions: tuple[str, ...] = EXTENSIONS
    nofollow: bool = False
    owner_nofollow: bool = False

    def accepts(self, name: str) -> bool:
        """Whether ``name`` is that of a configuration."""
        base = name.rpartition("/")[2]
        return (
            len(os.fsencode(name)) < NAME_MAX
            and not _CONTROLS.search(base)
            and any(
                base.endswith(extension) and base != extension for extension in self.extensions
            )
        )

    def look(self, name: str, path: str) -> Found | None:
        """Look at one file; None where there is none that counts."""
        try:
            link = os.lstat(path)
            target = os.stat(path) if stat.S_ISLNK(link.st_mode) else link
        except OSError:
            return None
        if not stat.S_ISREG(target.st_mode):
            return None
        seen = link if self.nofollow else target
        owner = link if self.owner_nofollow else target
        return Found(
            name=name,
            path=path,
            mtime_ns=seen.st_mtime_ns,
            identity=(seen.st_dev, seen.st_ino),
            uid=owner.st_uid,
            gid=owner.st_gid,
            size=target.st_size,
        )


class DirectorySource:
    """``dir://PATH``: every configuration in one directory."""

    def __init__(self, text: str, path: str, rules: Rules) -> None:
        self.text = text
        self.directory = os.path.abspath(path)
        self.rules = rules

    @property
    def cwd(self) -> str:
        """Where its vassals start."""
        return self.directory

    def directories(self) -> set[str]:
        """What must be watched."""
        return {self.directory}

    def scan(self) -> Iterator[Found]:
        """Look at everything. A directory that cannot be read is empty."""
        try:
            names = sorted(os.listdir(self.directory))
        except OSError:
            return
        for name in names:
            found = self.look(name)
            if found is not None:
                yield found

    def look(self, name: str) -> Found | None:
        """Look at one name."""
        if not self.rules.accepts(name):
            return None
        return self.rules.look(name, f"{self.directory}/{name}")


class GlobSource:
    """``glob://PATTERN``: every configuration that a shell pattern finds."""

    def __init__(self, text: str, pattern: str, rules: Rules) -> None:
        self.text = text
        self.pattern = pattern
        self.rules = rules
        self.cwd = os.getcwd()

    def directories(self) -> set[str]:
        """Every directory in which a new name could begin to match."""
        steps = self._absolute().split("/")[:-1]
        found: set[str] = set()
        for depth in range(1, len(steps) + 1):
            if any(map(glob.has_magic, [*steps[:depth], self._absolute().split("/")[depth]])):
                prefix = "/".join(steps[:depth]) or "/"
                found.update(path for path in glob.glob(prefix) if os.path.isdir(path))
        return found or {os.path.dirname(self._absolute()) or "/"}

    def scan(self) -> Iterator[Found]:
        """Look at everything the pattern finds now."""
        for name in sorted(glob.glob(self.pattern, root_dir=self.cwd)):
            found = self.look(name)
            if found is not None:
                yield found

    def look(self, name: str) -> Found | None:
        """Look at one name that the pattern gave."""
        if not self.rules.accepts(name):
            return None
        return self.rules.look(name, os.path.join(self.cwd, name))

    def _absolute(self) -> str:
        return os.path.normpath(os.path.join(self.cwd, self.pattern))


Source = DirectorySource | GlobSource


def parse_source(text: str, rules: Rules) -> Source:
    """Make a source of a value of ``emperor``. Raises ValueError for a scheme that is not built
    in."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "glob":
        return GlobSource(text, rest, rules)
    if separator and scheme == "dir":
        return DirectorySource(text, rest, rules)
    if separator:
        raise ValueError(f"no monitor for {scheme}:// (dir:// and glob:// are built in)")
    return (
        GlobSource(text, text, rules) if _is_pattern(text) else DirectorySource(text, text, rules)
    )


def _is_pattern(text: str) -> bool:
    """A bare name is a directory unless it holds a wildcard or names a file."""
    return (glob.has_magic(text) and not os.path.isdir(text)) or os.path.isfile(text)


def under_name(found: Found, name: str) -> Found:
    """The same file under another name: that of its reinforcement."""
    return found if found.name == name else replace(found, name=name)


def format_of(name: str, extra: Sequence[str] = ()) -> str:
    """Return the option that loads ``name``: ``ini``, ``xml`` … ``config`` for an extra
    extension."""
    base = name.partition(":")[0] if not name.startswith("/") else name.rpartition(":")[0] or name
    for extension, option in FORMATS.items():
        if base.endswith(extension):
            return option
    return "config" if any(base.endswith(extension) for extension in extra) else "inherit"
