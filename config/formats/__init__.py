"""The formats of configuration files: each turns a text into entries that know their lines."""

from __future__ import annotations

import functools
import importlib

from donjon.config.entry import Entry
from donjon.config.formats.document import DEFAULT_SECTION, Document, Parser
from donjon.records import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name as an option (``--ini``) and the extensions it goes by."""

    name: str
    extensions: tuple[str, ...]

    def parse(self, document: Document) -> list[Entry] | None:
        """Return the options of a text; None when it has no such section. Raises ConfigError."""
        return _reader(self.name)(document)


@functools.cache
def _reader(name: str) -> Parser:
    """Return what reads a format, imported with its first text: most files are of one format."""
    parse: Parser = importlib.import_module(f"donjon.config.formats.{name}file").parse
    return parse


INI = Format("ini", (".ini",))
XML = Format("xml", (".xml",))
YAML = Format("yaml", (".yml", ".yaml"))
JSON = Format("json", (".js", ".json"))
TOML = Format("toml", (".toml",))

FORMATS = {format_.name: format_ for format_ in (INI, XML, YAML, JSON, TOML)}
_BY_EXTENSION = {extension: f for f in FORMATS.values() for extension in f.extensions}


def by_extension(path: str) -> Format | None:
    """Return the format that a path's extension names."""
    dot = path.rfind(".")
    return _BY_EXTENSION.get(path[dot:]) if dot >= 0 else None


def preload() -> None:
    """Import what the readers need, before a fork."""
    for name in ("yaml", "defusedxml.ElementTree", "tomllib"):
        importlib.import_module(name)
    for name in FORMATS:
        _reader(name)


__all__ = ["DEFAULT_SECTION", "FORMATS", "INI", "Document", "Format", "by_extension", "preload"]
