"""Options from the environment: ``UWSGI_PROCESSES=4`` is ``processes = 4`` (uwsgi-facts 6.8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from donjon.config.entry import Entry
from donjon.origin import Origin

_PREFIX = "UWSGI_"
_NOT_OPTIONS = frozenset(
    _PREFIX + name
    for name in (
        "RELOADS",
        "VASSALS_DIR",
        "EMPEROR_FD",
        "BROODLORD_NUM",
        "EMPEROR_FD_CONFIG",
        "EMPEROR_PROXY",
        "JAIL_PID",
        "ORIGINAL_PROC_NAME",
    )
)


def parse(environ: Mapping[str, str]) -> Iterator[Entry]:
    """Yield the options that the environment gives, in its order."""
    for name, value in environ.items():
        if name.startswith(_PREFIX) and name not in _NOT_OPTIONS:
            key = name.removeprefix(_PREFIX).lower().replace("_", "-")
            yield Entry(key, value, Origin("environment", 0, name))
