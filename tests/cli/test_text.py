"""Tables, sizes, times, and what a stranger's text may do on a terminal."""

import pytest

from donjon.verbs import text


def test_columns_line_up_and_numbers_stand_at_the_right(capsys):
    text.table(("NAME", "PID", "NOTE"), [("a", 5, "x"), ("longer", 1234, "y")])
    assert capsys.readouterr().out == ("NAME     PID  NOTE\na          5  x\nlonger  1234  y\n")


def test_a_table_without_rows_is_its_head(capsys):
    text.table(("A", "B"), [])
    assert capsys.readouterr().out == "A  B\n"


def test_a_cell_never_breaks_its_line(capsys):
    text.table(("A", "B"), [("x\ny", "\x1b[31m")])
    assert capsys.readouterr().out.splitlines()[1] == "x\\ny  \\x1b[31m"


@pytest.mark.parametrize(
    ("given", "shown"),
    [("plain", "plain"), ("\x1b]0;x\x07", "\\x1b]0;x\\x07"), ("\udcff", "\\udcff"), ("é", "é")],
)
def test_text_is_made_printable(given, shown):
    assert text.printable(given) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (-3, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h"), (90_000, "1d 1h")],
)
def test_a_duration_has_two_units(seconds, shown):
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0B"), (2048, "2.0KiB"), (3 << 20, "3.0MiB"), (5 << 30, "5.0GiB")]
)
def test_a_size_has_few_digits(count, shown):
    assert text.size(count) == shown
