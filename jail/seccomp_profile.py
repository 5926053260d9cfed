"""What ``seccomp`` asks for: a base, groups more and groups less."""

from __future__ import annotations

from collections.abc import Iterable

from donjon.jail.seccomp_groups import FOR_CAPABILITY, GROUPS, Level
from donjon.records import dataclass

BASES = {"default": Level.DEFAULT, "strict": Level.STRICT, "emperor": Level.DEFAULT}
"""The profiles by name and how far they let through."""

FOR_EMPEROR = frozenset({"mount", "chroot", "namespaces", "keys", "admin"})
"""What an Emperor inside a jail needs to make the jails of its own vassals."""

DROPPING = frozenset({"identity", "limits", "process", "sandbox"})
"""What is still to be done when a filter is installed before privileges are dropped."""


@dataclass(frozen=True, slots=True)
class Profile:
    """``seccomp = BASE +GROUP -GROUP``. ``base`` is a word of BASES, ``off`` or ``learn``."""

    base: str = "default"
    more: frozenset[str] = frozenset()
    less: frozenset[str] = frozenset()
    record: str | None = None  # the file of ``learn``

    @property
    def is_off(self) -> bool:
        """Whether there is no filter."""
        return self.base == "off"

    @property
    def learns(self) -> bool:
        """Whether calls are recorded and nothing is refused."""
        return self.base == "learn"

    def granting(self, caps: Iterable[int], *, merging: bool = False) -> Profile:
        """Return the profile with what the capabilities ``caps`` need; ``-GROUP`` wins.

        ``merging``: the operator lets the jail's pages be merged.
        """
        more = {name for cap in caps for name in FOR_CAPABILITY.get(cap, ())}
        more |= {"merging"} if merging else set()
        return Profile(self.base, self.more | (more - self.less), self.less, self.record)

    def refused(self) -> tuple[str, ...]:
        """Return the groups that are refused, in the table's order."""
        if self.is_off or self.learns:
            return ()
        extra = self.more | (FOR_EMPEROR if self.base == "emperor" else frozenset())
        level = BASES[self.base]
        return tuple(
            group.name
            for group in GROUPS.values()
            if group.name in self.less or (group.level > level and group.name not in extra)
        )

    def __str__(self) -> str:
        words = [f"+{name}" for name in sorted(self.more)]
        words += [f"-{name}" for name in sorted(self.less)]
        return " ".join((self.base, *words))


def parse(text: str) -> Profile:
    """Return the profile that an option's value names. Raises ValueError with the reason."""
    words = text.replace(",", " ").split()
    if not words:
        raise ValueError("a profile is missing")
    if words[0].split(":", 1)[0] in ("off", "learn"):
        return _whole(words)
    base = "default" if words[0][0] in "+-" else words.pop(0)
    if base not in BASES:
        raise ValueError(f"{base!r} is none of {', '.join(BASES)}, off, learn, +group, -group")
    more = frozenset(word[1:] for word in words if word[0] == "+")
    less = frozenset(word[1:] for word in words if word[0] == "-")
    for word in words:
        if word[0] not in "+-" or word[1:] not in GROUPS:
            raise ValueError(f"{word!r} is no +group or -group (groups: {' '.join(GROUPS)})")
    if more & less:
        raise ValueError(f"{' '.join(sorted(more & less))} is both added and taken away")
    if "basic" in less:
        raise ValueError("no program runs without the group basic")
    return Profile(base, more, less)


def _whole(words: list[str]) -> Profile:
    base, colon, record = words[0].partition(":")
    if len(words) > 1 or (colon and base == "off"):
        raise ValueError(f"nothing can follow {base}")
    if colon and not record.startswith("/"):
        raise ValueError("learn:FILE needs an absolute path")
    return Profile(base, record=record or None)
