"""A place in a list of tokens, from which a parser takes them one by one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from donjon.tuntap.rules.tokens import Kind, RuleError, Token, expected

MAX_MEMBERS = 4096
T = TypeVar("T")


class Cursor:
    """Tokens still to be read; the last one ends a line."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = list(tokens)
        self._at = 0

    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._tokens)

    def peek(self, ahead: int = 0) -> Token:
        """Return the next token, or one not far behind it; all stay."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Return the next token and go on; an end of line is passed by ``end_line`` only."""
        token = self._tokens[self._at]
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def since(self, start: int) -> tuple[Token, ...]:
        """Return the tokens taken since ``mark`` said ``start``."""
        return tuple(self._tokens[start : self._at])

    def mark(self) -> int:
        """Return this place, for ``since``."""
        return self._at

    def at_end_of_line(self) -> bool:
        """Whether the line has nothing more."""
        return self.peek().kind is Kind.END

    def end_line(self) -> None:
        """Pass the end of a line. Raises RuleError if there is more on it."""
        token = self._tokens[self._at]
        if token.kind is not Kind.END:
            raise expected("the end of the line", token)
        self._at += 1

    def took_mark(self, text: str) -> bool:
        """Take a mark if it is next; return whether it was."""
        token = self.peek()
        return token.kind is Kind.MARK and token.text == text and self.take() is token

    def took_word(self, text: str) -> bool:
        """Take a word if it is next; return whether it was."""
        token = self.peek()
        return token.kind is Kind.WORD and token.text == text and self.take() is token

    def word(self, what: str) -> Token:
        """Take a word. Raises RuleError that expected ``what``."""
        token = self.take()
        if token.kind is not Kind.WORD:
            raise expected(what, token)
        return token

    def one_of(self, choices: Mapping[str, T], what: str) -> T:
        """Take one of the words and return what it stands for."""
        token = self.word(what)
        if token.text not in choices:
            raise unknown(token, choices, what)
        return choices[token.text]

    def members(self, member: Callable[[Cursor], None]) -> None:
        """Take one member, or several in braces with commas between."""
        if not self.took_mark("{"):
            member(self)
            return
        opening = self._tokens[self._at - 1]
        for count in range(MAX_MEMBERS + 1):
            if self.took_mark("}"):
                return
            if count == MAX_MEMBERS:
                raise RuleError(f"a set of more than {MAX_MEMBERS} members", origin=opening.origin)
            member(self)
            if not self.took_mark(",") and self.peek().text != "}":
                raise expected("',' or '}'", self.peek())


def unknown(token: Token, choices: Iterable[str], what: str) -> RuleError:
    """Return the error for a word that is none of the choices, with one that is like it."""
    like = difflib.get_close_matches(token.text[:64], list(choices), 1)
    error = expected(what, token)
    error.hint = f"did you mean {like[0]!r}?" if like else ""
    return error
