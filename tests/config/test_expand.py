"""Substitution in values, as the original does it (its results were taken from a running one)."""

import time

import pytest

from donjon.config.expand import Expander, compute, replace
from donjon.config.limits import MAX_VALUE
from donjon.errors import ConfigError


def expander(values=None, environ=None, files=None):
    values = values or {}
    return Expander(environ or {}, (files or {}).__getitem__, values.get)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(a)", "1"),
        ("x%(a)y%(b)z", "x1y2z"),
        ("%(missing)", "%(missing)"),
        ("%()", "%()"),
        ("%(a", "%(a"),
        ("%(a)(", "1("),
        ("(%(a))", "(1)"),
        ("%(%(c))", "1"),
        ("%(a(b)c)", "%(a(b)c)"),
        ("%%(a)", "%1"),
        ("% (a)", "% (a)"),
        ("%(x %(a)", "%(x 1"),
        (")%(a)", ")1"),
    ],
)
def test_references_are_replaced_inner_ones_first(text, expected):
    assert replace(text, "%", {"a": "1", "b": "2", "c": "a"}.get) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("base + three", "13"),
        ("2 * 3", "6"),
        (" base ", "10"),
        ("base * base base", "10010"),
        ("base +", "10"),
        ("base * two - three", "17"),
        ("base + two * three", "36"),
        ("base three", "103"),
        ("base / two", "5"),
        ("base / missing", "0"),
        ("base / 0", "0"),
        ("base ++", "11"),
        ("base ++ ++", "12"),
        ("10 --", "9"),
        ("word + 3", "3"),
        ("two - 5", "-3"),
        ("word two 7 missing", "HOME27"),
        ("0x10 + 1", "1"),
        ("99999999999 * 99999999999", "1864711849423024129"),
        ("two -5", "2"),
        ("-7 / 2", "0"),
        ("negative / 2", "-3"),
        ("two % 2", "22"),
        ("++ two", "2"),
    ],
)
def test_arithmetic_goes_from_left_to_right(expression, expected):
    values = {"base": "10", "two": "2", "three": "3", "word": "HOME", "negative": "-7"}
    assert expander(values).placeholders(f"%({expression})") == expected


def test_nothing_to_compute_is_an_empty_text():
    assert compute([]) == ""


def test_placeholders_of_placeholders_are_resolved_wherever_they_stand(place):
    text = "env = %(a)\na = %(b)\nb = %(c)\nc = 1\nenv = %(a)%(b)\n"
    assert place.env(text) == ["1", "11"]


def test_the_first_value_of_a_name_counts(place):
    assert place.env("processes = 4\nprocesses = 8\nenv = %(processes)\n") == ["4"]


def test_passes_come_in_their_order(place):
    place.write("secret", "top $(HOME) %(v)\n\n")
    text = "v = HOME\nenv = $(%(v))\nenv = @(secret)\nenv = $(A)\n"
    environ = {"HOME": "/root", "A": "%(v)"}
    assert place.env(text, environ=environ) == ["$(HOME)", "top $(HOME) HOME\n", "HOME"]


def test_a_file_named_by_a_placeholder_is_read(place):
    place.write("sub/secret", "text\n")
    assert place.env("dir = sub\nenv = @(%(dir)/secret)\n") == ["text"]


def test_a_missing_file_is_an_error_with_the_place_that_wants_it(place):
    with pytest.raises(ConfigError, match=r"^c\.ini:2: env: cannot read nofile: No such file"):
        place.env("env = @(nofile)\n")


@pytest.mark.parametrize("text", ["a = x%(a)\n", "a = %(b)\nb = %(c)\nc = %(a)\n"])
def test_a_placeholder_that_comes_back_to_itself_is_an_error(place, text):
    with pytest.raises(ConfigError, match="comes back to itself") as caught:
        place.env(text + "env = %(a)\n")
    assert caught.value.origin.source == "c.ini"
    assert caught.value.origin.line == 2


def test_a_tower_of_placeholders_ends_quickly(place):
    doubling = "".join(f"a{n} = %(a{n + 1})%(a{n + 1})\n" for n in range(50))
    started = time.monotonic()
    with pytest.raises(ConfigError, match="too long"):
        place.env(f"{doubling}a50 = xxxx\n")
    assert place.env(f"env = <%(a0)>\n{doubling}a50 =\n") == ["<>"]
    assert time.monotonic() - started < 5


def test_a_long_chain_of_placeholders_is_an_error_not_a_crash(place):
    chain = "".join(f"a{n} = %(a{n + 1})\n" for n in range(5000))
    with pytest.raises(ConfigError, match="comes back to itself"):
        place.env(chain)


def test_a_chain_that_refers_backwards_may_be_long(place):
    chain = "a0 = 1\n" + "".join(f"a{n + 1} = %(a{n})\n" for n in range(5000))
    assert place.env(chain + "env = %(a5000)\n") == ["1"]


@pytest.mark.parametrize("symbol", "$@%")
def test_towers_of_parentheses_are_an_error(symbol):
    with pytest.raises(ConfigError, match="more than 64 parentheses"):
        replace(f"{symbol}(" * 200_000, symbol, {}.get)
    assert replace(f"{symbol}(" * 64, symbol, {}.get) == f"{symbol}(" * 64


def test_values_are_bounded():
    with pytest.raises(ConfigError, match="too long"):
        expander({"a": "x" * MAX_VALUE}).placeholders("%(a)%(a)")
