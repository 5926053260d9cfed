"""Reads configurations: from files, sections of files, URLs and other schemes, each bounded.

``FILE``, ``FILE:SECTION``, ``:SECTION`` (of the file being read), ``-`` (standard input) and
``scheme://`` name a configuration; its format comes from the option (``--ini``) or from its
extension. ``inject-before`` and ``inject-after`` texts are put around every text that is read
after them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from donjon.config.entry import Entry
from donjon.config.formats import DEFAULT_SECTION, FORMATS, INI, Document, Format, by_extension
from donjon.config.limits import MAX_DEPTH, MAX_FILES
from donjon.config.magic import Magic, Place
from donjon.config.world import World
from donjon.errors import ConfigError
from donjon.origin import Origin
from donjon.records import dataclass, replace

STDIN = "-"

_NOT_FILES = frozenset(("command line", "environment", "default"))
"""Sources of options that are no files: no file may pass for one of them in an origin."""

_OF_A_BINARY = ("data", "sym", "section")


@dataclass(frozen=True, slots=True)
class Target:
    """A configuration as named: scheme ("" for a path), the rest, and the section ("" for the
    default).
    """

    name: str
    scheme: str
    rest: str
    section: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text that was read, under the name that errors show."""

    name: str
    text: str
    target: Target
    format: Format


_Texts = tuple[tuple[str, str], ...]
"""Injected texts: the name and the text of each."""


@dataclass(frozen=True, slots=True)
class _Outer:
    """What to go back to when a configuration is read to its end.

    ``around`` (injected texts before and after, the mode of XML) outlives an included file, but
    not the file that the command line named: the next one may be the operator's.
    """

    current: Text | None
    magic: Place | None
    chain: tuple[tuple[str, str], ...]
    around: tuple[_Texts, _Texts, str | None]


def split_scheme(name: str) -> tuple[str, str]:
    """Return scheme and rest of a name; the scheme is "" where it has none that is known."""
    scheme, marker, rest = name.partition("://")
    return (
        (scheme, rest) if marker and (scheme in _GETTERS or scheme in _OF_A_BINARY) else ("", name)
    )


def split_target(name: str) -> Target:
    """Return the parts of a configuration's name. The section stands behind the last colon after
    the last slash, so that ``http://host:80/x.ini`` has none.
    """
    slash = name.rfind("/")
    colon = name.rfind(":")
    section = ""
    if colon > slash:
        name, section = name[:colon], name[colon + 1 :]
    scheme, rest = split_scheme(name)
    return Target(name, scheme, rest, section)


class Reader:
    """Reads the configurations of one evaluation and knows which one is being read.

    ``chain`` holds what is being read now, outermost first: a file that comes to itself is an
    error.
    """

    def __init__(self, world: World, log: Callable[[str], None] | None = None) -> None:
        """Read in this world; ``log`` gets a line for each configuration."""
        self.world = world
        self.magic = Magic(world)
        self.mode: str | None = None
        self.files: list[str] = []
        self.warnings: list[str] = []
        self.before: _Texts = ()
        self.after: _Texts = ()
        self.chain: tuple[tuple[str, str], ...] = ()
        self._current: Text | None = None
        self._log = log
        self._outer: list[_Outer] = []

    def open(self, name: str, format_: Format | None, origin: Origin) -> list[Entry]:
        """Read a configuration and make it the current one; ``close`` must follow.

        ``format_`` None means by extension. Raises ConfigError at ``origin``.
        """
        target = split_target(name)
        text = self._fetch(target, format_, origin)
        key = (text.name, target.section or DEFAULT_SECTION)
        self._check_chain(key, origin)
        is_path = not text.target.scheme and text.name != STDIN
        magic = self.magic.enter(text.name, target.section, is_path=is_path)
        around = (self.before, self.after, self.mode)
        self._outer.append(_Outer(self._current, magic, self.chain, around))
        self._current = text
        self.chain = (*self.chain, key)
        self.files.append(name)
        if self._log is not None:
            self._log(_reading(text.format, text.name or name))
        return self._parse(text, key[1])

    def close(self) -> None:
        """Go back to the configuration that was current before the last ``open``."""
        outer = self._outer.pop()
        self._current, self.chain = outer.current, outer.chain
        self.magic.leave(outer.magic)
        if not self._outer:
            self.before, self.after, self.mode = outer.around

    def read_text(self, name: str) -> str:
        """Return the text behind a path or a scheme, as ``@(...)`` and ``for-readline`` do."""
        return decode(self._bytes(name), name)

    def _fetch(self, target: Target, format_: Format | None, origin: Origin) -> Text:
        if not target.name:
            if self._current is None:
                raise ConfigError(f"no file to take section {target.section} of", origin=origin)
            return replace(self._current, format=format_ or self._current.format)
        format_ = format_ or (INI if target.name == STDIN else by_extension(target.name))
        if format_ is None:
            raise ConfigError(
                f"unable to load configuration from {target.name}",
                origin=origin,
                reason="its extension names no format",
                hint="name it .ini .xml .yaml .json or .toml, or say --ini FILE",
            )
        shown = f"./{target.name}" if target.name in _NOT_FILES else target.name
        return Text(shown, decode(self._bytes(target.name), shown), target, format_)

    def _bytes(self, name: str) -> bytes:
        scheme, rest = split_scheme(name)
        if name == STDIN:
            return self.world.read_stdin()
        if scheme in _OF_A_BINARY:
            raise ConfigError(
                f"cannot read {name}",
                reason=f"{scheme}:// names a part of the uwsgi binary and donjon has none",
                hint="put it into a file",
            )
        data = _GETTERS[scheme](self.world, rest, name)
        if len(data) > self.world.limits.bytes:
            raise self.world.too_much(f"{name} has {len(data)} bytes")
        return data

    def _check_chain(self, key: tuple[str, str], origin: Origin) -> None:
        if key in self.chain:
            way = " -> ".join(name for name, _ in (*self.chain, key))
            raise ConfigError(f"{key[0]} includes itself", origin=origin, reason=way)
        if len(self.chain) >= MAX_DEPTH:
            raise ConfigError(f"files include files more than {MAX_DEPTH} deep", origin=origin)
        if len(self.files) >= MAX_FILES:
            raise ConfigError(f"more than {MAX_FILES} files for one configuration", origin=origin)

    def _parse(self, text: Text, section: str) -> list[Entry]:
        whole, pieces = self._inject(text)
        document = Document(
            whole,
            text.name,
            section,
            self.mode,
            self.magic.fill,
            max_entries=self.world.limits.entries,
            too_much=self.world.too_much,
        )
        try:
            entries = text.format.parse(document)
        except ConfigError as error:
            if error.origin is not None and pieces:
                error.origin = _place(error.origin, pieces)
            raise
        if entries is None:
            self.warnings.append(f"there is no section {section} in {text.name}")
            return []
        if not pieces:
            return entries
        return [Entry(e.key, e.value, _place(e.origin, pieces)) for e in entries]

    def _inject(self, text: Text) -> tuple[str, list[tuple[str, int]]]:
        """Return the text with what is put around it; name and number of lines of each piece."""
        if not self.before and not self.after:
            return text.text, []
        for name, piece in (*self.before, *self.after):
            _check_line_ends(name, piece)
        parts = [*self.before, (text.name, text.text), *self.after]
        lined = [(name, part if part.endswith("\n") else part + "\n") for name, part in parts]
        pieces = [(name, part.count("\n")) for name, part in lined]
        return "".join(part for _, part in lined), pieces


def decode(data: bytes, name: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark.

    Raises ConfigError with the line at fault.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            "this is not UTF-8",
            origin=Origin(name, line),
            reason=f"byte 0x{data[error.start]:02x}",
            hint="save the file as UTF-8",
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError("there is a NUL byte", origin=Origin(name, line), hint="is this text?")
    return text.removeprefix("\ufeff")


def _descriptor(rest: str, name: str) -> int:
    if not (rest.isascii() and rest.isdecimal() and len(rest) < 10):
        raise ConfigError(f"cannot read {name}", reason="not the number of a descriptor")
    return int(rest)


_GETTERS: dict[str, Callable[[World, str, str], bytes]] = {
    "": lambda world, rest, _: world.read(rest),
    "file": lambda world, rest, _: world.read(rest),
    "http": lambda world, _, name: world.fetch(name),
    "https": lambda world, _, name: world.fetch(name),
    "exec": lambda world, rest, _: world.run(rest),
    "fd": lambda world, rest, name: world.read_descriptor(_descriptor(rest, name)),
    "emperor": lambda world, _rest, _name: world.read_emperor(),
    "call": lambda world, rest, _: world.call(rest, integer=False).encode(),
    "callint": lambda world, rest, _: world.call(rest, integer=True).encode(),
}


_OTHER_LINE_END = re.compile("\r(?!\n)|[\x85\u2028\u2029]")


def _check_line_ends(name: str, piece: str) -> None:
    """Refuse line ends on which formats disagree, in a text that is put around others.

    They would shift the lines by which an option is known to be of this text or of another: a
    customer's could pass for the operator's.
    """
    found = _OTHER_LINE_END.search(piece)
    if found:
        line = piece.count("\n", 0, found.start()) + 1
        raise ConfigError(
            "a line ends with something else than a newline", origin=Origin(name, line)
        )


def _place(origin: Origin, pieces: list[tuple[str, int]]) -> Origin:
    """Return an origin in a text with injected pieces as one in the piece it stands in."""
    line = origin.line
    for name, lines in pieces:
        if line <= lines:
            return Origin(name, line, origin.option)
        line -= lines
    return Origin(pieces[-1][0], pieces[-1][1], origin.option)


def _reading(format_: Format, name: str) -> str:
    name = name if name.isprintable() else ascii(name)
    if format_.name == "xml":
        return f"[uWSGI] parsing config file {name}"
    return f"[uWSGI] getting {format_.name.upper()} configuration from {name}"


__all__ = ["FORMATS", "INI", "STDIN", "Reader", "Target", "Text", "decode", "split_target"]
