"""Loops and conditions."""

import os

import pytest

from donjon.errors import ConfigError


def test_loops_repeat_each_option_by_itself(place):
    place.write("g/a.x", "")
    place.write("g/b.x", "")
    (place.path / "g/dir.x").mkdir()
    place.write("lines", "first line\n\n last")
    text = (
        "for = red green\nenv = a-%%(_)\nenv = b-%%(_)\nendfor\n"
        "for-times = 3\nenv = t%%(_)\nend-for\n"
        "for-glob = g/*.x\nenv = %(_)\nend\n"
        "for-readline = lines\nenv = <%(_)>\nendfor\nenv = END\n"
    )
    assert place.env(text) == [
        "a-red",
        "a-green",
        "b-red",
        "b-green",
        "t1",
        "t2",
        "t3",
        "g/a.x",
        "g/b.x",
        "g/dir.x/",
        "<first line>",
        "<>",
        "< last>",
        "END",
    ]


@pytest.mark.parametrize(
    "opener", ["for =", "for-times = 0", "for-times = x", "for-readline = empty"]
)
def test_a_loop_over_nothing_gives_nothing(place, opener):
    place.write("empty", "")
    assert place.env(f"{opener}\nenv = %(_)\nendfor\nenv = END\n") == ["END"]


def test_a_pattern_without_match_is_itself(place):
    assert place.env("for-glob = none/*.x\nenv = %(_)\nendfor\n") == ["none/*.x"]


def test_words_are_cut_at_spaces_only(place):
    assert place.env("for = a  b\tc\nenv = %(_)\nendfor\n") == ["a", "b\tc"]


CONDITIONS = [
    ("if-env = SET", "value"),
    ("if-env = SET=value", "value"),
    ("if-env = SET=else", None),
    ("if-env = NOT", None),
    ("if-not-env = NOT", "%(_)"),
    ("if-not-env = SET", None),
    ("if-not-env = SET=else", "value"),
    ("ifenv = SET", "value"),
    ("if-exists = file", "file"),
    ("ifexists = none", None),
    ("if-not-exists = none", "none"),
    ("if-file = file", "file"),
    ("if-file = dir", None),
    ("if-not-file = dir", "dir"),
    ("if-dir = dir", "dir"),
    ("if-directory = dir", "dir"),
    ("ifdir = file", None),
    ("if-not-dir = file", "file"),
    ("if-opt = before", "1"),
    ("if-opt = before=1", "1"),
    ("if-opt = before=2", None),
    ("if-opt = later", None),
    ("if-not-opt = later", "%(_)"),
    ("if-not-opt = before", None),
    ("if-reload", None),
    ("if-not-reload", "%(_)"),
    ("if-hostname = {h}", "{h}"),
    ("if-hostname = other", None),
    ("if-not-hostname = other", "other"),
    ("if-hostname-match = ^{h}$", "{h}"),
    ("if-hostname-match = nothing-like-it", None),
    ("if-not-hostname-match = ^nothing", "{h}"),
    ("if-plugin = python3", "python3"),
    ("if-plugin = nosuchplugin", None),
    ("ifplugin = python", "python"),
    ("if-not-plugin = nosuchplugin", "nosuchplugin"),
]


@pytest.mark.parametrize(("opener", "item"), CONDITIONS)
def test_a_condition_holds_or_not_and_has_its_item(place, opener, item):
    place.write("file", "")
    (place.path / "dir").mkdir()
    host = os.uname().nodename
    text = f"before = 1\n{opener.format(h=host)}\nenv = %(_)\nendif\nlater = 1\nenv = AFTER\n"
    expected = [] if item is None else [item.format(h=host)]
    assert place.env(text, environ={"SET": "value"}) == [*expected, "AFTER"]


def test_if_reload_holds_on_a_reload(place):
    text = "[uwsgi]\nif-reload\nenv = reloaded\nendif\nif-not-reload\nenv = fresh\nendif\n"
    assert place.ini(text, reload=True).values("env") == ("reloaded",)
    assert place.ini(text).values("env") == ("fresh",)


def test_conditions_see_values_that_are_known_by_then(place):
    place.write("sub/x", "")
    text = "dir = sub\nhome = $(HOME)\nif-exists = %(dir)/x\nenv = here\nendif\nif-exists = %(home)\nenv = home\nendif\n"
    assert place.env(text, environ={"HOME": str(place.path)}) == ["here", "home"]


@pytest.mark.parametrize("inner", ["for = a b", "if-env = SET", "if-not-reload"])
def test_blocks_do_not_nest(place, inner):
    with pytest.raises(
        ConfigError, match=r"^c\.ini:3: .* inside for: loops and conditions do not nest"
    ):
        place.env(f"for = a b\n{inner}\nenv = X\n", environ={"SET": "1"})


def test_an_end_without_a_block_does_nothing(place):
    assert place.env("endif\nendfor\nend\nenv = A\n") == ["A"]


def test_a_block_that_is_never_closed_is_a_warning(place):
    evaluation = place.ini("[uwsgi]\nif-env = NOT\nenv = A\n")
    assert evaluation.warnings == ("if-env is never closed",)


def test_a_bad_expression_is_an_error_with_its_line(place):
    with pytest.raises(
        ConfigError, match=r"^c\.ini:2: if-hostname-match: not a regular expression: \("
    ):
        place.env("if-hostname-match = (\n")


def test_too_many_turns_are_an_error(place):
    with pytest.raises(ConfigError, match="100001 turns of a loop"):
        place.env("for-times = 100001\nenv = x\nendfor\n")
    with pytest.raises(ConfigError, match="more than 100000 options"):
        place.env("for-times = 60000\nenv = x\nenv = y\nendfor\n")


def test_logic_works_on_the_command_line(place):
    got = place.evaluate("--for", "a b", "--env", "X=%(_)", "--endfor", "--env", "END")
    assert got.values("env") == ("X=a", "X=b", "END")
