"""YAML: the top key names the section, its mapping the options (uwsgi-facts 6.2).

Keys may repeat and a sequence repeats its key, so a loader that makes dictionaries will not do:
options are read from PyYAML's nodes, which keep pairs in order and carry line numbers. Scalars
stay as they are written (``010`` and ``yes`` are texts). A mapping in a mapping gives its pairs
as options of their own, as in the original. Depth is bounded before nodes are made (the composer
recurses), and what aliases stand for is walked under a budget, so a bomb of aliases ends in an
error.

The original's own parser knows no quotes and no special characters: ``socket: @name`` and ``home:
%d`` are not YAML, yet it reads them. A text that is not YAML is read once more with quotes around
such values, and if that fails and it is plain enough, by that parser's grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from donjon.config.entry import Entry
from donjon.config.formats.document import Document
from donjon.config.limits import MAX_NESTING
from donjon.origin import Origin

if TYPE_CHECKING:
    import yaml

_PLAIN_PAIR = re.compile(r"([ \t]*)([\w.-]+):(?:[ \t]+(.*))?$")
_RESERVED = re.compile(r"^([ \t]*(?:-[ \t]+)?(?:[\w.-]+:[ \t]+)?)([%@`](?:[^\n#]|(?<! )#)*)", re.M)
_NOT_PLAIN = tuple("\"'[{&*|>!-")


def parse(document: Document) -> list[Entry] | None:
    """Return the options of the wanted top key of the first YAML document."""
    import yaml  # noqa: PLC0415  (8 ms and 1 MiB, for YAML only; see config.preload)

    try:
        return _Walk(document).section(_compose(document, document.text))
    except yaml.YAMLError as error:
        lenient = _parse_quoted(document) or _parse_plain(document)
        if lenient is not None:
            return lenient
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        line = mark.line + 1 if mark else 1
        raise document.broken(f"this is not YAML: {problem}", line) from error


def _compose(document: Document, text: str) -> Any:
    import yaml  # noqa: PLC0415  (imported by parse already)

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _check_depth(document, yaml.parse(text, Loader=loader))
    return next(iter(yaml.compose_all(text, Loader=loader)), None)


def _parse_quoted(document: Document) -> list[Entry] | None:
    """Read once more with quotes around values that begin with a sign YAML reserves."""
    import yaml  # noqa: PLC0415  (imported by parse already)

    quoted = _RESERVED.sub(_quote, document.text)
    if quoted == document.text:
        return None
    try:
        return _Walk(document).section(_compose(document, quoted))
    except yaml.YAMLError:
        return None


def _quote(found: re.Match[str]) -> str:
    value = found[2].rstrip().replace("'", "''")
    return f"{found[1]}'{value}' "


def _check_depth(document: Document, events: Iterator[yaml.Event]) -> None:
    import yaml  # noqa: PLC0415  (imported by parse already)

    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_NESTING:
            what = f"values more than {MAX_NESTING} deep"
            raise document.broken(what, event.start_mark.line + 1 if event.start_mark else 1)


class _Walk:
    """One walk over the nodes of a document, with a budget."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.entries: list[Entry] = []
        self.visited = 0

    def section(self, root: yaml.Node | None) -> list[Entry] | None:
        """Gather the options of every top key that is the wanted section."""
        found = False
        for key, value in self._pairs(root):
            if key.value == self.document.section:
                found = True
                self._block(value, depth=0)
        return self.entries if found else None

    def _pairs(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the pairs of a mapping, or of a sequence of mappings."""
        import yaml  # noqa: PLC0415  (imported by parse already)

        if isinstance(node, yaml.MappingNode):
            yield from node.value
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                if isinstance(item, yaml.MappingNode):
                    yield from item.value

    def _block(self, node: Any, *, depth: int) -> None:
        for key, value in self._pairs(node):
            self._spend(key, depth)
            if not isinstance(key.value, str):
                raise self.document.broken("a key must be a word", key.start_mark.line + 1)
            self._option(key, value, depth)

    def _option(self, key: Any, value: Any, depth: int) -> None:
        import yaml  # noqa: PLC0415  (imported by parse already)

        self._spend(key, depth)
        if isinstance(value, yaml.ScalarNode):
            line = value.start_mark.line if value.value else key.start_mark.line
            self.entries.append(
                self.document.entry(key.value, value.value.removesuffix("\n"), line + 1)
            )
            self.document.check_count(self.entries)
        elif isinstance(value, yaml.SequenceNode):
            for item in value.value:
                self._option(key, item, depth + 1)
        else:
            self._block(value, depth=depth + 1)

    def _spend(self, node: Any, depth: int) -> None:
        self.visited += 1
        if self.visited > 2 * self.document.max_entries or depth > MAX_NESTING:
            error = self.document.too_much("too many values, or aliases of aliases without end")
            error.origin = Origin(self.document.source, node.start_mark.line + 1)
            raise error


def _parse_plain(document: Document) -> list[Entry] | None:
    """Read the grammar of the original's own parser; None for a text that is not of this kind.

    A key at the margin opens a section, indented ``key: value`` lines are its options, ``#``
    starts a comment anywhere.
    """
    entries: list[Entry] = []
    inside = found = False
    for number, line in enumerate(document.text.split("\n"), 1):
        text = line.partition("#")[0].rstrip()
        if not text.strip() or text == "---":
            continue
        pair = _PLAIN_PAIR.match(text)
        if pair is None:
            return None
        indent, key, value = pair.group(1), pair.group(2), (pair.group(3) or "").strip()
        if value.startswith(_NOT_PLAIN):
            return None
        if not indent:
            inside = key == document.section
            found = found or inside
        elif inside:
            entries.append(document.entry(key, value, number))
            document.check_count(entries)
    return entries if found else None
