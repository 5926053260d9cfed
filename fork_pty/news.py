"""What a router tells a client of ours beside the output."""

from __future__ import annotations

import json

from donjon import log
from donjon.records import dataclass

TEXT_MAX = 200


@dataclass(frozen=True, slots=True)
class News:
    """``kind`` is welcome, role, end or refused; the rest where it says something."""

    kind: str = ""
    role: str = ""
    why: str = ""
    status: int = 0


def read(body: bytes) -> News:
    """Return what was told; of what is not understood, nothing. A router may be a stranger's."""
    try:
        words = json.loads(body)
        status = words.get("status") or 0
        return News(
            _text(words.get("news")), _text(words.get("role")), _text(words.get("why")),
            int(status) & 0xFF,
        )  # fmt: skip
    except (ValueError, AttributeError, TypeError, RecursionError):
        return News()


def _text(value: object) -> str:
    return log.one_line(value[:TEXT_MAX]) if isinstance(value, str) else ""
