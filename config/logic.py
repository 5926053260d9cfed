"""Loops and conditions over the options that follow (uwsgi-facts 6.6).

A block is open or not; blocks do not nest. While one is open every option given is added once for
each item of the block, with ``%(_)`` in its value replaced by the item: once for a condition that
holds, never for one that does not. So a loop repeats each option by itself, not the block as a
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from donjon.config.limits import MAX_LINE
from donjon.config.world import World
from donjon.errors import ConfigError
from donjon.records import dataclass

ITEM = "%(_)"

CLOSERS = frozenset(("end", "endfor", "endif", "end-for", "end-if"))

BUILT_IN = frozenset(("http", "python", "python3"))
"""Plugins of the original whose work is part of this program, for ``if-plugin``."""


@dataclass(frozen=True, slots=True)
class Block:
    """An open block: the option that opened it and its items; None is no item to put in."""

    opener: str
    items: Iterable[str | None]

    def values(self, value: str | None) -> Iterable[str | None]:
        """Return the values that an option inside gets, one for each time it is added."""
        for item in self.items:
            if value is None or item is None:
                yield value
            else:
                yield value.replace(ITEM, item)


@dataclass(frozen=True, slots=True)
class Given:
    """What conditions may ask: the world, the environment, the options before, whether it is a
    reload.
    """

    world: World
    environ: Mapping[str, str]
    options: Callable[[str], list[str | None]]
    reload: bool
    read_text: Callable[[str], str]


def open_block(opener: str, value: str, given: Given) -> Block:
    """Return the block that an opener starts; ``opener`` is the option's canonical name."""
    if opener in _LOOPS:
        return Block(opener, _LOOPS[opener](value, given))
    wanted = not opener.startswith("if-not-")
    name = opener if wanted else "if-" + opener.removeprefix("if-not-")
    holds, item = _CONDITIONS[name](value, given)
    return Block(opener, [item] if holds is wanted else [])


def _loop_words(value: str, _: Given) -> list[str]:
    return [word for word in value.split(" ") if word]


def _loop_glob(value: str, given: Given) -> list[str]:
    return given.world.glob(value) or [value]  # glob(3) with GLOB_NOCHECK, as the original


def _loop_times(value: str, given: Given) -> list[str]:
    digits = value.strip()
    times = int(digits[:12]) if digits.isascii() and digits.isdecimal() else 0
    if times > given.world.limits.entries:
        raise given.world.too_much(f"{times} turns of a loop")
    return [str(n) for n in range(1, times + 1)]


def _loop_lines(value: str, given: Given) -> list[str]:
    lines = given.read_text(value).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise ConfigError(
                f"{value}:{number} is too long", reason=f"more than {MAX_LINE} bytes"
            )
    return lines


_LOOPS: dict[str, Callable[[str, Given], list[str]]] = {
    "for": _loop_words,
    "for-glob": _loop_glob,
    "for-times": _loop_times,
    "for-readline": _loop_lines,
}

Answer = tuple[bool, str | None]
"""Whether a condition holds, and the item for ``%(_)``."""


def _if_env(value: str, given: Given) -> Answer:
    name, equals, wanted = value.partition("=")
    found = given.environ.get(name)
    return found is not None and (not equals or found == wanted), found


def _if_opt(value: str, given: Given) -> Answer:
    name, equals, wanted = value.partition("=")
    values = given.options(name)
    if not equals:
        return bool(values), values[0] if values else None
    return wanted in values, wanted


def _if_exists(value: str, given: Given) -> Answer:
    return given.world.exists(value), value


def _if_file(value: str, given: Given) -> Answer:
    return given.world.is_file(value), value


def _if_dir(value: str, given: Given) -> Answer:
    return given.world.is_dir(value), value


def _if_plugin(value: str, _: Given) -> Answer:
    return value in BUILT_IN, value


def _if_hostname(value: str, given: Given) -> Answer:
    return value == given.world.facts.hostname, value


def _if_hostname_match(value: str, given: Given) -> Answer:
    return given.world.hostname_matches(value), given.world.facts.hostname


def _if_reload(_: str, given: Given) -> Answer:
    return given.reload, None


_CONDITIONS: dict[str, Callable[[str, Given], Answer]] = {
    "if-env": _if_env,
    "if-opt": _if_opt,
    "if-exists": _if_exists,
    "if-file": _if_file,
    "if-dir": _if_dir,
    "if-plugin": _if_plugin,
    "if-hostname": _if_hostname,
    "if-hostname-match": _if_hostname_match,
    "if-reload": _if_reload,
}

OPENERS = frozenset(_LOOPS) | {
    name for word in _CONDITIONS for name in (word, word.replace("if-", "if-not-", 1))
}
