"""A customer's file is read before what the operator includes after it: it must not bend that."""

import pytest

from donjon.config import options
from donjon.config.entry import Entry
from donjon.config.evaluate import evaluate
from donjon.config.launch import build
from donjon.config.world import FileWorld
from donjon.errors import ConfigError
from donjon.jail import standing
from donjon.origin import Origin

OPERATOR = "[uwsgi]\nuid = 33\ncgroup = /limit\n"


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Build the Launch of a customer's text, with the operator's file included after it."""
    monkeypatch.chdir(tmp_path)

    def make(text, operator=OPERATOR, name="base.ini", **files):
        (tmp_path / "shop.ini").write_text("[uwsgi]\n" + text)
        (tmp_path / name).write_text(operator)
        for file, content in files.items():
            (tmp_path / file.replace("_", " ")).write_text(content)
        argv = ["--ini", "shop.ini", "--include", name]
        found = evaluate(argv, environ={}, world=FileWorld())
        sources = {"command line", "environment", name}
        return build(found.entries, customer=True, operator_sources=sources)

    return make


@pytest.mark.parametrize(
    "text", ["", "if-env = NOPE\n", "for-times = 0\n", "if-not-exists = /\nmaster = true\n"]
)
def test_a_block_that_is_left_open_ends_with_its_file(launch, text):
    made = launch(text)
    assert made.jail.uid == "33"
    assert [group.path for group in made.jail.cgroups] == ["/limit"]


def test_text_put_before_the_operators_does_not_move_it_to_another_section(launch):
    made = launch("inject-before = evil\n", evil="[other]\na =")
    assert made.jail.uid == "33"


@pytest.mark.parametrize(
    "text", ["[uwsgi]\nuid = 0\n", "[uwsgi]\nuid = 0", "[uwsgi]\r\nuid = 0\r\n"]
)
@pytest.mark.parametrize("where", ["inject-before", "inject-after"])
def test_text_put_around_the_operators_is_still_the_customers(launch, text, where):
    with pytest.raises(ConfigError, match=r"^evil:2: uid is for the operator only"):
        launch(f"{where} = evil\ninclude = base.ini\n", evil=text)
    assert launch(f"{where} = evil\n", evil=text).jail.uid == "33"  # it ends with the file


@pytest.mark.parametrize("end", ["\r", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("where", ["inject-before", "inject-after"])
def test_line_ends_on_which_formats_disagree_do_not_shift_who_wrote_what(launch, end, where):
    evil = f"uwsgi:\n  a: '{end * 9}'\n  uid: 0\n"
    with pytest.raises(ConfigError, match=r"^evil:2: .*a line ends with something else"):
        launch(
            f"{where} = evil\ninclude = base.yaml\n",
            "uwsgi:\n  vacuum: true\n",
            "base.yaml",
            evil=evil,
        )


@pytest.mark.parametrize("name", ["command_line", "environment"])
def test_a_file_cannot_pass_for_the_command_line(launch, name):
    with pytest.raises(ConfigError, match=r":2: uid is for the operator only"):
        launch(f"ini = {name.replace('_', ' ')}\n", **{name: "[uwsgi]\nuid = 0\n"})


@pytest.mark.parametrize(
    "text",
    [
        "set = uid=0\n",
        "declare-option = own=uid=$1\nown = 0\n",
        "for = 0\nuid = %%(_)\nendfor =\n",
        "who = 0\nuid = %(who)\n",
        "include = more.ini\n",
    ],
)
def test_no_way_of_writing_an_option_makes_it_the_operators(launch, text):
    with pytest.raises(ConfigError, match="uid is for the operator only"):
        launch(text, **{"more.ini": "[uwsgi]\nuid = 0\n"})


OPERATORS = [row for row in options.all_options() if row.operator and row.built]
OURS_ALONE = {
    "seccomp", "landlock", "oom-score-adj", "io-priority", "securebits", "keep-keyring",
    "apparmor-profile", "no-new-privs", "cap", "rootfs", "bind", "tmpfs",
}  # fmt: skip


@pytest.mark.parametrize("row", OPERATORS, ids=[row.name for row in OPERATORS])
def test_an_operators_option_is_refused_in_a_customers_file_by_name(row):
    for name in row.names:
        entry = Entry(name, row.example or "1", Origin("shop.ini", 7, name))
        with pytest.raises(ConfigError) as caught:
            build([entry], customer=True)
        assert str(caught.value) == (
            f"shop.ini:7: {name} is for the operator only (it cannot stand in a customer's file)"
        )


def test_what_weakens_a_jail_is_the_operators():
    names = {row.name for row in OPERATORS}
    assert names >= OURS_ALONE
    assert {f"rlimit-{name}" for name in standing.LIMITS} <= names


@pytest.mark.parametrize("text", ["seccomp = off", "landlock = auto", "rlimit-core = unlimited"])
def test_what_the_operator_includes_for_a_customer_counts(launch, text):
    made = launch("master = true\n", f"{OPERATOR}{text}\n")
    assert made.jail.seccomp or made.jail.landlock or made.jail.rlimits
    with pytest.raises(ConfigError, match=f"{text.partition(' ')[0]} is for the operator only"):
        launch(f"{text}\n")
