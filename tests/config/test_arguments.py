"""The command line, as getopt_long(3) reads it."""

import pytest

from donjon.config import arguments
from donjon.errors import ConfigError


def parsed(*argv):
    return [(entry.key, entry.value) for entry in arguments.parse(argv)]


def test_long_options_take_their_value_in_two_ways():
    assert parsed("--env=A=1", "--env", "B=2") == [("env", "A=1"), ("env", "B=2")]


def test_a_value_may_look_like_an_option():
    assert parsed("--env", "--env", "--env=") == [("env", "--env"), ("env", "")]


def test_letters_may_stand_together():
    expected = [("master", None), ("processes", "3"), ("socket", "/s")]
    assert parsed("-Mp3", "-s", "/s") == expected
    assert parsed("-M", "-p", "3", "-s/s") == expected


def test_flags_and_optional_values():
    assert parsed("--master", "--exit", "--exit=3") == [
        ("master", None),
        ("exit", None),
        ("exit", "3"),
    ]


def test_files_come_last_wherever_they_stand():
    got = parsed("a.ini", "--master", "b.ini", "--", "--c.ini")
    assert got == [("master", None), ("", "a.ini"), ("", "b.ini"), ("", "--c.ini")]


def test_a_name_may_be_cut_short_where_one_option_fits():
    assert parsed("--no-serv", "--show-c") == [("no-server", None), ("show-config", None)]


def test_a_whole_name_is_itself_even_if_others_begin_with_it():
    assert parsed("--emperor", "x", "--socket", "y") == [("emperor", "x"), ("socket", "y")]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--procesess=1"], "unknown option --procesess (did you mean --processes?)"),
        (["--em", "x"], "option --em is not clear: it may be --emperor, "),
        (["--env"], "command line: --env: a value must follow"),
        (["-p"], "command line: -p: a value must follow"),
        (["-?"], "unknown option -?"),
        (["--=x"], "unknown option --"),
    ],
)
def test_mistakes_are_errors(argv, message):
    with pytest.raises(ConfigError) as caught:
        parsed(*argv)
    assert message in str(caught.value)
    assert caught.value.exit_status == 1


def test_options_before_a_mistake_came_out_already():
    words = arguments.parse(["--exit", "--no-such-option"])
    assert next(words).key == "exit"


def test_every_option_knows_what_was_written():
    entries = list(arguments.parse(["--env", "A", "-M", "x.ini"]))
    assert [str(entry.origin) for entry in entries] == [
        "command line: --env",
        "command line: -M",
        "command line: x.ini",
    ]
