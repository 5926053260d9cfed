"""Every row of the table of options is whole, and nothing is named twice."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from donjon.config import options
from donjon.config.entry import Entry
from donjon.config.launch import build
from donjon.config.options import reference
from donjon.config.options.option import Takes
from donjon.config.spec import EmperorSpec
from donjon.jail.spec import JailSpec
from donjon.origin import Origin
from donjon.server.spec import ServerSpec

ROWS = options.all_options()
BUILT = [row for row in ROWS if row.built and not row.immediate]
ROOT = Path(__file__).parents[2]
LETTERS = {
    "A": "sharedarea",
    "C": "chmod-socket",
    "H": "virtualenv",
    "J": "test",
    "L": "disable-logging",
    "M": "master",
    "O": "optimize",
    "Q": "spooler",
    "R": "max-requests",
    "S": "set",
    "T": "enable-threads",
    "a": "abstract-socket",
    "b": "buffer-size",
    "c": "cgi-mode",
    "d": "daemonize",
    "h": "help",
    "i": "single-interpreter",
    "j": "json",
    "l": "listen",
    "m": "memory-report",
    "p": "processes",
    "r": "reaper",
    "s": "socket",
    "t": "harakiri",
    "v": "max-vars",
    "w": "module",
    "x": "xml",
    "y": "yaml",
    "z": "socket-timeout",
}


def test_nothing_is_named_twice():
    names = Counter(name for row in ROWS for name in row.names)
    assert [name for name, times in names.items() if times > 1] == []


def test_short_options_are_those_of_the_original():
    assert {row.short: row.name for row in ROWS if row.short} == LETTERS
    assert all(
        options.find_short(letter) is options.find(name) for letter, name in LETTERS.items()
    )


def test_the_table_knows_as_many_options_as_the_original():
    assert sum(len(row.names) for row in ROWS) >= 1100


@pytest.mark.parametrize(
    "name",
    [
        "emperor", "socket", "tuntap-router", "forkptyrouter", "hook-asap", "cache2", "route",
        "cheaper", "legion", "spooler", "jail2", "php-set", "static-map", "ssl-verbose",
        "attach-daemon2", "start_response-nodelay", "call-as-emperor4", "mount-as-vassal",
    ],
)  # fmt: skip
def test_options_of_every_area_are_known(name):
    row = options.find(name)
    assert row is not None
    assert row.name == name


def test_names_are_exact():
    """Files name placeholders ``reload_mercy``; the two spellings of pivot-root are both names."""
    assert options.find("reload_mercy") is None
    assert options.suggest("reload_mercy") == "reload-mercy"
    assert options.find("pivot_root") is options.find("pivot-root")


def test_an_unknown_name_is_not_found():
    assert options.find("my-own-thing") is None
    assert options.find("") is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("procesess", "processes"),
        ("chmod-sockt", "chmod-socket"),
        ("htp-socket", "http-socket"),
        ("Master", "master"),
        ("emperor_tyrnt", "emperor-tyrant"),
        ("auto-snapshot", "master-fifo"),
        ("cluster", "legion"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(written, meant):
    assert options.suggest(written) == meant


@pytest.mark.parametrize(
    "name", ["base", "customer_name", "x", "placeholder", "deep", "master" * 1000]
)
def test_a_placeholder_gets_no_suggestion(name):
    assert options.suggest(name) is None


def test_each_row_says_what_it_is():
    for row in ROWS:
        assert row.help.endswith((".", "…")), row.name
        assert row.area, row.name
        assert row.name == row.name.lower()
        assert not (row.harmless and row.built), row.name
        if row.built and row.takes is Takes.REQUIRED:
            assert row.metavar, row.name
            assert row.example, row.name


def test_each_example_parses_and_changes_the_launch():
    base = [Entry("emperor", "/etc/vassals", Origin("a.ini", 2, "emperor"))]
    base.append(Entry("forkptyrouter", "/run/door.sock", Origin("a.ini", 3, "forkptyrouter")))
    base.append(Entry("forkpty-tls-cert", "/run/cert.pem", Origin("a.ini", 5, "forkpty-tls-cert")))
    base.append(Entry("pty-socket", "/run/other.sock", Origin("a.ini", 4, "pty-socket")))
    bare = build(base)
    silent = []
    for row in BUILT:
        entry = Entry(row.name, row.example or None, Origin("a.ini", 1, row.name))
        launch = build([entry, *(one for one in base if one.key != row.name)])
        server = dataclasses.replace(launch.server, options=bare.server.options)
        if dataclasses.replace(launch, entries=bare.entries, server=server) == bare:
            silent.append(row.name)
    assert set(silent) == {
        "autoload",
        "need-plugins",
        "plugins",
        "plugins-dir",
        "protocol",
        "shared-socket",
    }


def test_each_field_that_is_set_exists():
    """Fields are named by text in the table; a wrong one raises TypeError here."""
    entries = [Entry(row.name, row.example or None, Origin("a.ini", 1, row.name)) for row in BUILT]
    launch = build(entries)
    for spec, kind in (
        (launch.jail, JailSpec),
        (launch.server, ServerSpec),
        (launch.emperor, EmperorSpec),
    ):
        names = {field.name for field in dataclasses.fields(kind)}
        assert set(spec.origins) <= names


def test_immediate_options_do_nothing_to_the_launch():
    immediate = [row for row in ROWS if row.immediate]
    assert {"ini", "set", "for", "if-env", "help", "exit"} <= {row.name for row in immediate}
    assert all(row.apply is None for row in immediate)


def test_the_reference_page_is_current():
    assert (ROOT / "docs" / "options.md").read_text() == reference.reference(), "run: make docs"


def test_the_reference_page_names_every_option():
    page = reference.reference()
    missing = [name for row in ROWS for name in row.names if name not in page]
    assert missing == []


def test_the_page_is_written_by_the_module(tmp_path):
    page = tmp_path / "options.md"
    subprocess.run(
        [sys.executable, "-m", "donjon.config.options.reference", str(page)], check=True
    )
    assert page.read_text() == reference.reference()
