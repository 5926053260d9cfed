"""The hello of our clients: what they want of a session, and the login."""

from __future__ import annotations

import json
import re

from donjon.records import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a client of ours asks for; ``session`` is a name, ``take`` to drive at once."""

    session: str = ""
    watch: bool = False
    keep: bool = False
    take: bool = False
    rows: int = 0
    cols: int = 0
    term: str = ""
    command: list[str] = field(default_factory=list)
    list: bool = False
    ticket: str = ""
    user: str = ""
    password: str = ""


_KNOWN = frozenset(Hello.__annotations__)
_TERM = re.compile(r"[A-Za-z0-9+._-]{0,64}")


def read_hello(body: bytes) -> Hello:
    """Return a hello. Raises ValueError."""
    try:
        words = json.loads(body)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(words, dict):
        raise ValueError("no object")  # noqa: TRY004  (what came is text)
    found: dict[str, object] = {}
    plain = Hello()
    for key, value in words.items():
        if key not in _KNOWN or type(value) is not type(getattr(plain, key)):
            raise ValueError("a key or value that is not known")
        found[key] = value
    hello: Hello = Hello(**found)  # type: ignore[arg-type]
    if not 0 <= hello.rows <= 0xFFFF or not 0 <= hello.cols <= 0xFFFF:
        raise ValueError("a window of no such size")
    if not all(type(word) is str and "\0" not in word for word in hello.command):
        raise ValueError("no words of a command")
    if not _TERM.fullmatch(hello.term):
        raise ValueError("no name of a terminal")
    return hello
