"""Magic variables."""

import os
import time

import pytest

from donjon.config.magic import Magic, djb33x, filled
from donjon.config.world import ClosedWorld, Facts, OpenWorld
from donjon.errors import ConfigError


def values(place, name, text, *argv):
    place.write(name, text)
    return dict(v.split("=", 1) for v in place.evaluate("--ini", *(argv or (name,))).values("env"))


def test_each_letter_says_its_fact(place):
    letters = "opsdcenx012hvuUgGkbV"
    text = "[uwsgi]\n" + "".join(f"env = {c}=%{c}\n" for c in letters)
    got = values(place, "dir.one/my.conf.ini", text)
    path = place.path / "dir.one/my.conf.ini"
    parts = str(path.parent).strip("/").split("/")
    facts = Facts()
    assert got == {
        "o": "dir.one/my.conf.ini",
        "p": str(path),
        "s": "my.conf.ini",
        "d": f"{path.parent}/",
        "c": "dir.one",
        "e": "ini",
        "n": "my.conf",
        "x": "",
        "0": parts[0],
        "1": parts[1],
        "2": parts[2],
        "h": os.uname().nodename,
        "v": str(place.path),
        "u": str(os.geteuid()),
        "U": facts.user,
        "g": str(os.getegid()),
        "G": facts.group,
        "k": str(len(os.sched_getaffinity(0))),
        "b": facts.binary,
        "V": "2.0.31",
    }


def test_times_and_inodes(place):
    before = int(time.time())
    got = values(place, "a.ini", "[uwsgi]\nenv = t=%t\nenv = T=%T\nenv = i=%i\nenv = I=%I\n")
    assert before <= int(got["t"]) <= before + 5
    assert before <= int(got["T"]) / 1e6 <= before + 5
    assert got["i"] == got["I"] == str((place.path / "a.ini").stat().st_ino)


def test_percent_brackets_and_unknown_letters(place):
    text = "[uwsgi]\nenv = a=%%\nenv = b=<%q>\nenv = c=%[[1m\nenv = d=%(x)\nenv = e=100%\nenv = f=%%s\n"
    assert values(place, "a.ini", text) == {
        "a": "%",
        "b": "<>",
        "c": "\x1b[1m",
        "d": "%(x)",
        "e": "100",
        "f": "%s",
    }


def test_a_file_without_extension(place):
    assert values(place, "name", "[uwsgi]\nenv = e=<%e>\nenv = n=%n\n") == {"e": "<>", "n": "name"}


def test_a_link_keeps_its_own_name_in_the_real_directory(place):
    text = "[uwsgi]\nenv = p=%p\nenv = n=%n\nenv = i=%i\n"
    place.write("real/skeleton.ini", text)
    (place.path / "vassals").mkdir()
    (place.path / "linked").symlink_to("vassals")
    link = place.path / "vassals/customer.ini"
    link.symlink_to("../real/skeleton.ini")
    got = dict(v.split("=", 1) for v in place.evaluate("linked/customer.ini").values("env"))
    assert got == {"p": str(link), "n": "customer", "i": str(link.lstat().st_ino)}


def test_upper_case_speaks_of_the_first_file(place):
    place.write("inner.ini", "[uwsgi]\nenv = n=%n\nenv = N=%N\nenv = X=%X\nenv = x=%x\n")
    text = "[uwsgi]\ninclude = inner.ini\n[s]\nini = inner.ini\nenv = after=%n\n"
    got = values(place, "outer.ini", text, "outer.ini:s")
    assert got == {"n": "inner", "N": "outer", "X": "s", "x": "", "after": "outer"}


def test_a_text_that_is_no_file_keeps_what_was_known(place):
    place.write("piped", "[uwsgi]\nenv = n=%n\nenv = o=%o\nenv = N=%N\n")
    got = values(place, "outer.ini", "[uwsgi]\nini = exec://cat piped\n")
    assert got == {"n": "outer", "o": "exec://cat piped", "N": "outer"}


def test_magic_arithmetic(place):
    assert place.env("threads = %(%k * 3)\nenv = %(threads)\n") == [
        str(3 * len(os.sched_getaffinity(0)))
    ]


def test_the_hash_is_the_original_ones():
    assert djb33x("/tmp/magic/my.conf.ini") == "9C2E686B"


def test_command_line_values_have_no_magic(place):
    assert place.evaluate("--env", "A=%n%%").values("env") == ("A=%n%%",)


def test_a_name_with_control_characters_is_refused(place):
    place.write("x\n[uwsgi]\nuid = 0.ini", "[uwsgi]\n")
    with pytest.raises(ConfigError, match="control characters"):
        place.evaluate("--ini", "x\n[uwsgi]\nuid = 0.ini")


def test_the_emperor_fills_a_text_for_a_vassal(tmp_path):
    world = OpenWorld(facts=Facts(cwd=str(tmp_path)))
    assert filled("/tmp/%n.sock", "foo.ini", world) == "/tmp/foo.sock"


def test_identity_is_the_worlds_not_the_process():
    facts = Facts(cwd="/", uid=12345, gid=54321, hostname="h")
    magic = Magic(ClosedWorld.over({}, facts))
    assert magic.fill("%u %U %g %G %h") == "12345 12345 54321 54321 h"
