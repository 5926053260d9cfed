"""Lines about who had a terminal: opened, closed, refused. They go to the instance's log."""

from __future__ import annotations

from donjon import log


def write(event: str, **facts: object) -> None:
    """Write one line: the event, and facts as ``key=value`` in the order given."""
    told = " ".join(f"{key}={_quoted(str(value))}" for key, value in facts.items())
    log.write(f"[terminal] {event} {told}")


def fact(key: str, text: str) -> str:
    """Return one more fact about who it is; a stranger's text cannot look like two."""
    return f",{key}={ascii(text) if set(text) & set(',=') else text}"


def _quoted(text: str) -> str:
    """Return a stranger's text so that it is one word of the line."""
    plain = text and all(one.isalnum() or one in "@%+=:,./_-" for one in text)
    return text if plain else ascii(text)
