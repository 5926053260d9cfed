"""Short ways to write rows of the table."""

from __future__ import annotations

from collections.abc import Iterator

from donjon.config.options.option import Option, Takes


def unbuilt(
    area: str,
    *,
    required: str = "",
    nothing: str = "",
    optional: str = "",
    harmless: bool = False,
    operator: bool = False,
) -> tuple[Option, ...]:
    """Return a row for each option of the original that is known and not built yet.

    Options stand in words, by whether they take a value. ``name|alias|alias`` gives other names,
    ``name/x`` the letter of a short option.
    """
    groups = (
        (Takes.REQUIRED, required),
        (Takes.NOTHING, nothing),
        (Takes.OPTIONAL, optional),
    )
    return tuple(
        Option(
            name=name,
            help=f"Known from the original ({area}); not built yet.",
            area=area,
            takes=takes,
            aliases=aliases,
            short=short,
            harmless=harmless,
            operator=operator,
        )
        for takes, words in groups
        for name, aliases, short in _names(words)
    )


def _names(words: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for word in words.split():
        names, _, short = word.partition("/")
        name, *aliases = names.split("|")
        yield name, tuple(aliases), short
