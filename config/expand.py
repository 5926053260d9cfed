"""Substitution in values: ``$(ENV)``, ``@(file or scheme)``, ``%(placeholder)`` with arithmetic.

Three passes over all values, in this order (uwsgi-facts 6.3); what cannot be resolved stays as it
is. A placeholder gives the first value of that name, options included, wherever it stands. Values
of placeholders are resolved in turn; one that comes back to itself is an error, and every name is
resolved once a pass, so neither a circle nor a tower of placeholders can take time without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from donjon.config.limits import FULL, MAX_NESTING, MAX_VALUE, Limits
from donjon.errors import ConfigError

Lookup = Callable[[str], str | None]
"""Gives the first value of a placeholder, None where it is unknown or has none."""

_TOKENS = {symbol: re.compile(rf"{re.escape(symbol)}\(|\(|\)") for symbol in "$@%"}
_NUMBER = re.compile(r"\d+")
_LEADING_NUMBER = re.compile(r"\s*([+-]?\d+)")
_MAX_CHAIN = 64


def replace(text: str, symbol: str, resolve: Lookup) -> str:
    """Return the text with each ``symbol(name)`` replaced by ``resolve(name)``, inner ones first.

    Parentheses inside a name pair up. A reference that resolves to None, or is not closed, stays.
    """
    if symbol + "(" not in text:
        return text
    frames: list[list[str]] = [[]]
    opened: list[str] = []
    at = 0
    for token in _TOKENS[symbol].finditer(text):
        frames[-1].append(text[at : token.start()])
        at = token.end()
        word = token[0]
        if word == ")" and opened:
            inner = "".join(frames.pop())
            word = opened.pop()
            value = resolve(inner) if word != "(" else None
            frames[-1].append(f"{word}{inner})" if value is None else value)
        elif word != ")" and (opened or word != "("):
            opened.append(word)
            frames.append([])
            if len(opened) > MAX_NESTING:
                raise ConfigError(f"more than {MAX_NESTING} parentheses open in {symbol}(...)")
        else:
            frames[-1].append(word)
    frames[-1].append(text[at:])
    while opened:
        rest = "".join(frames.pop())
        frames[-1].append(opened.pop() + rest)
    return "".join(frames[0])


class Expander:
    """The substitutions of one evaluation.

    ``read`` gives the text behind ``@(...)``, ``lookup`` the first value of a placeholder.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        read: Callable[[str], str],
        lookup: Lookup,
        limits: Limits = FULL,
        too_much: Callable[[str], ConfigError] = ConfigError,
    ) -> None:
        """Substitute with these."""
        self.environ = environ
        self._read = read
        self._lookup = lookup
        self._budget = limits.expanded
        self._too_much = too_much
        self._known: dict[str, str | None] = {}
        self._active: list[str] = []
        self._partial = False

    def begin_pass(self) -> None:
        """Forget resolved placeholders: values have changed."""
        self._known.clear()

    def environment(self, text: str) -> str:
        """Return a value with ``$(NAME)`` resolved."""
        return self._bounded(text, replace(text, "$", self.environ.get))

    def files(self, text: str) -> str:
        """Return a value with ``@(file or scheme)`` resolved."""
        return self._bounded(text, replace(text, "@", self._file))

    def placeholders(self, text: str) -> str:
        """Return a value with ``%(name)`` and ``%(a + b)`` resolved."""
        return self._bounded(text, replace(text, "%", self._placeholder))

    def early(self, text: str) -> str:
        """Return the value of an option that acts at once, resolved as far as it can be by now."""
        if "(" not in text:
            return text
        self.begin_pass()
        self._partial = True
        try:
            text = self.environment(self.placeholders(text))
            return self.placeholders(self.files(text))
        finally:
            self._partial = False

    def _file(self, name: str) -> str:
        return self._read(self.placeholders(name))

    def _placeholder(self, expression: str) -> str | None:
        if " " not in expression:
            return self._value(expression)
        words = expression.split()
        values = {word: self._operand(word) for word in words if word not in _OPERATORS}
        if self._partial and None in values.values():
            return None
        return compute([(word, values.get(word) or "") for word in words])

    def _operand(self, word: str) -> str | None:
        value = self._value(word)
        return word if value is None and _NUMBER.fullmatch(word) else value

    def _value(self, name: str) -> str | None:
        if name in self._known:
            return self._known[name]
        if name in self._active or len(self._active) > _MAX_CHAIN:
            what = f"placeholder %({name}) comes back to itself"
            raise ConfigError(what, reason=" -> ".join([*self._active[-8:], name]))
        value = self._lookup(name)
        if value is not None and "%(" in value:
            self._active.append(name)
            try:
                value = self.placeholders(value)
            finally:
                self._active.pop()
        self._known[name] = value
        return value

    def _bounded(self, before: str, after: str) -> str:
        if after is before:
            return after
        self._budget -= len(after)
        if len(after) > MAX_VALUE or self._budget < 0:
            raise self._too_much("substitution gives too long a value")
        return after


_OPERATORS = frozenset(("+", "-", "*", "/", "++", "--"))


def compute(words: list[tuple[str, str]]) -> str:
    """Return the value of ``%(a + b)``: words from left to right, no precedence, 64-bit integers.

    Each word comes with its value. Values side by side are joined; an operator counts for
    the one value behind it; ``++`` and ``--`` change what was computed so far. Division by 0
    gives 0.
    """
    operator = ""
    result: str | None = None
    for word, value in words:
        if word in ("++", "--"):
            if result is not None:
                result = _wrapped(_integer(result) + (1 if word == "++" else -1))
        elif word in _OPERATORS:
            operator = word
        elif result is None:
            result = value
        else:
            result, operator = _apply(operator, result, value), ""
    return result or ""


def _apply(operator: str, left: str, right: str) -> str:
    if not operator:
        return left + right
    a, b = _integer(left), _integer(right)
    if operator == "+":
        return _wrapped(a + b)
    if operator == "-":
        return _wrapped(a - b)
    if operator == "*":
        return _wrapped(a * b)
    return _wrapped((abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1) if b else 0)


def _integer(text: str) -> int:
    """Return the number a text begins with, 0 without one (strtoll(3))."""
    found = _LEADING_NUMBER.match(text)
    if not found or len(found[1]) > 20:
        return 0 if not found else (-(2**63) if found[1][0] == "-" else 2**63 - 1)
    return max(-(2**63), min(2**63 - 1, int(found[1])))


def _wrapped(number: int) -> str:
    return str((number + 2**63) % 2**64 - 2**63)
