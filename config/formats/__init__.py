"""The formats of configuration files: each turns a text into entries that know their lines."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from donjon.config.formats import inifile, jsonfile, tomlfile, xmlfile, yamlfile
from donjon.config.formats.document import DEFAULT_SECTION, Document, Parser


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name as an option (``--ini``), the extensions it goes by, its reader."""

    name: str
    extensions: tuple[str, ...]
    parse: Parser


INI = Format("ini", (".ini",), inifile.parse)
XML = Format("xml", (".xml",), xmlfile.parse)
YAML = Format("yaml", (".yml", ".yaml"), yamlfile.parse)
JSON = Format("json", (".js", ".json"), jsonfile.parse)
TOML = Format("toml", (".toml",), tomlfile.parse)

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


__all__ = ["DEFAULT_SECTION", "FORMATS", "INI", "Document", "Format", "by_extension", "preload"]
