"""The table of verbs, help, options, and errors as they are shown."""

import errno
import importlib
import inspect
import json

import pytest

from donjon import cli, verbs
from donjon.errors import DonjonError
from donjon.origin import Origin

LOOKING = sorted(set(verbs.VERBS) - {"run", "emperor", "version", "help"})


@pytest.mark.parametrize("verb", sorted(verbs.VERBS))
def test_every_verb_has_a_main_and_a_module_that_says_what_it_is(verb):
    module = importlib.import_module(f"donjon.verbs.{verbs.VERBS[verb][0]}")
    assert module.__doc__
    assert list(inspect.signature(module.main).parameters) == ["verb", "words"]


@pytest.mark.parametrize("verb", LOOKING)
def test_every_verb_explains_itself(donjon, verb):
    done = donjon(verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: donjon {verb}")
    assert verbs.VERBS[verb][1] in " ".join(done.stdout.split())
    plain = verb in {"attach", "enter", "ticket"}
    assert ("--json" in done.stdout) is not plain, "what these print is somebody else's"


@pytest.mark.parametrize("verb", LOOKING)
def test_wrong_usage_ends_with_two(donjon, verb):
    done = donjon(verb, "--no-such-flag")
    assert done.returncode == 2
    assert done.stdout == ""


def test_help_lists_the_verbs(donjon):
    done = donjon("help")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert set(verbs.VERBS) <= set(listed)


def test_help_of_a_verb_is_its_own(donjon):
    assert donjon("help", "plan").stdout == donjon("plan", "--help").stdout


def test_help_of_no_verb_is_wrong_usage(donjon):
    done = donjon("help", "plann")
    assert done.returncode == 2
    assert done.stderr == "donjon: no verb plann (donjon help lists them)\n"


@pytest.mark.parametrize(
    ("word", "hint"),
    [("chek", "did you mean donjon check?"), ("xyzzy", "donjon help lists the verbs")],
)
def test_a_word_that_is_neither_verb_nor_file_is_told_so(donjon, word, hint):
    done = donjon(word)
    assert done.returncode == 1
    assert done.stderr == f"donjon: {word} is no verb and no file ({hint})\n"


def test_version_takes_nothing(donjon):
    assert donjon("version").returncode == 0
    assert donjon("version", "x").returncode == 2


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DonjonError("it broke", reason="so it is"), 1, "donjon: it broke: so it is"),
        (DonjonError("x", origin=Origin("a.ini", 3)), 1, "donjon: a.ini:3: x"),
        (PermissionError(errno.EACCES, "", "/x"), 1, "donjon: /x: Permission denied"),
        (OSError(errno.EMFILE, ""), 1, "donjon: Too many open files"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_a_status(monkeypatch, capfd, error, status, line):
    def fail(words):
        raise error

    monkeypatch.setattr(cli, "dispatch", fail)
    assert cli.main(["x"]) == status
    assert capfd.readouterr().err.strip() == line


# -- options ---------------------------------------------------------------------------------------


def test_an_option_is_shown_whole(donjon):
    done = donjon("options", "--hook-pre-jail")
    assert done.returncode == 0
    assert done.stdout.startswith("--hook-pre-jail")
    assert "area:" in done.stdout


def test_options_are_searched_by_name_and_help(donjon):
    done = donjon("options", "cgrou")
    names = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert done.returncode == 0
    assert {"--cgroup", "--cgroup-opt"} <= set(names)
    assert names.index("--cgroup") < len(names)


def test_no_option_found_suggests_one(donjon):
    done = donjon("options", "procesess")
    assert done.returncode == 1
    assert "did you mean processes?" in done.stderr


def test_options_for_programs_are_values(donjon):
    rows = json.loads(donjon("options", "uid", "--json").stdout)
    assert [row["name"] for row in rows] == ["uid"]
    assert rows[0]["takes"] == "required"


def test_options_may_leave_out_what_is_not_built(donjon):
    every = json.loads(donjon("options", "--json").stdout)
    built = json.loads(donjon("options", "--json", "--built").stdout)
    assert [row for row in every if row["built"]] == built
