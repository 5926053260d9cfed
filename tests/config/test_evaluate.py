"""Evaluation: order, includes, options that act at once, restrictions, questions."""

import pytest

from donjon.config.evaluate import evaluate
from donjon.config.evaluation import Action
from donjon.config.show import show_config
from donjon.config.world import Facts, OpenWorld
from donjon.errors import ConfigError
from donjon.origin import Origin


def actions(evaluation):
    return [(action.kind, action.text) for action in evaluation.actions]


def keys(evaluation):
    return [entry.key for entry in evaluation.entries]


# -- order


def test_environment_then_command_line_then_files(place):
    place.write("c.ini", "[uwsgi]\nenv = file\n")
    got = place.evaluate(
        "c.ini", "--env", "line", environ={"UWSGI_ENV": "environment", "HOME": "/"}
    )
    assert got.values("env") == ("environment", "line", "file")


def test_environment_variables_are_options_and_placeholders(place):
    environ = {
        "UWSGI_RELOAD_MERCY": "7",
        "UWSGI_FOO_BAR": "x",
        "UWSGI_EMPEROR_FD": "3",
        "UWSGI_RELOADS": "1",
        "OTHER": "y",
    }
    got = place.evaluate("--env", "%(foo-bar)", environ=environ)
    assert [(entry.key, entry.value) for entry in got.entries] == [
        ("reload-mercy", "7"),
        ("foo-bar", "x"),
        ("env", "x"),
    ]
    assert str(got.entries[0].origin) == "environment: UWSGI_RELOAD_MERCY"


def test_every_entry_knows_its_line(place):
    place.write("i.ini", "[uwsgi]\n\nenv = B\n")
    got = place.ini("[uwsgi]\nenv = A\ninclude = i.ini\nenv = C\n")
    assert [entry.origin for entry in got.entries] == [
        Origin("c.ini", 2, "env"),
        Origin("i.ini", 3, "env"),
        Origin("c.ini", 4, "env"),
    ]


def test_include_acts_at_once_and_inherit_last(place):
    place.write("inc.ini", "[uwsgi]\nenv = INC\n")
    place.write("inh.ini", "[uwsgi]\nenv = INH %(here) $(HOME)\nlate = 1\n")
    text = "here = x\ninherit = inh.ini\nenv = A%(late)\ninclude = inc.ini\nenv = B\n"
    got = place.env(text, environ={"HOME": "/root"})
    assert got == ["A%(late)", "INC", "B", "INH x /root"]


def test_included_placeholders_are_shared_both_ways(place):
    place.write("inc.ini", "[uwsgi]\ninner = %n-%(name)\n")
    assert place.env("name = v\nenv = %(inner)\ninclude = inc.ini\n") == ["inc-v"]


def test_sections_of_files(place):
    text = "[uwsgi]\nenv = main\nini = :extra\n[extra]\nenv = extra\n[uwsgi]\nenv = again\n"
    assert place.ini(text).values("env") == ("main", "extra", "again")
    assert place.evaluate("--ini", "c.ini:extra").values("env") == ("extra",)
    assert place.evaluate("c.ini:extra").values("env") == ("extra",)
    missing = place.evaluate("--ini", "c.ini:none")
    assert missing.entries == ()
    assert missing.warnings == ("there is no section none in c.ini",)


def test_a_section_of_the_same_text_is_not_read_again(place):
    place.write("made", "[uwsgi]\nini = :more\n[more]\nenv = A\n")
    got = place.evaluate("--ini", "exec://cat made; rm made")
    assert got.values("env") == ("A",)


def test_formats_mix(place):
    place.write("x.xml", "<uwsgi><env>XML</env><ini>y.ini:s</ini></uwsgi>")
    place.write("y.ini", "[s]\nyaml = z.conf\n")
    place.write("z.conf", "uwsgi:\n  env: YAML\n  include: j.json\n")
    place.write("j.json", '{"uwsgi": {"env": ["J1", "J2"], "toml": "t.toml"}}')
    place.write("t.toml", "env = 'TOML'\n")
    assert place.evaluate("x.xml").values("env") == ("XML", "YAML", "J1", "J2", "TOML")


def test_config_takes_any_extension_and_include_does_not(place):
    place.write("a.conf", "[uwsgi]\nenv = A\n")
    assert place.evaluate("--config", "a.conf").values("env") == ("A",)
    with pytest.raises(ConfigError, match=r"unable to load configuration from a\.conf"):
        place.evaluate("--include", "a.conf")


def test_texts_are_injected_around_what_is_read_after(place):
    place.write("head", "<uwsgi>\n<env>head</env>\n")
    place.write("body.xml", "<env>body</env>\n<env>second</env>")
    place.write("foot", "<env>foot</env></uwsgi>\n")
    got = place.evaluate("--inject-before", "head", "--inject-after", "foot", "--xml", "body.xml")
    assert [(e.value, e.origin.source, e.origin.line) for e in got.entries] == [
        ("head", "head", 2),
        ("body", "body.xml", 1),
        ("second", "body.xml", 2),
        ("foot", "foot", 1),
    ]


def test_an_error_between_injected_texts_stands_in_its_own_file(place):
    place.write("head", "<uwsgi>\n<env>head</env>\n")
    place.write("body.xml", "<env>body</env>\n<env>second</wrong>")
    with pytest.raises(ConfigError, match=r"^body\.xml:2: this is not XML"):
        place.evaluate("--inject-before", "head", "--xml", "body.xml")


def test_a_file_read_inside_a_block_may_have_blocks_of_its_own(place):
    place.write(
        "x.ini", "[uwsgi]\nfor = 1 2\nenv = %n%(_)\nendfor\nif-env = NO\nenv = no\nendif\n"
    )
    place.write("y.ini", "[uwsgi]\nenv = y\nif-env = NO\n")
    text = "for = x y\ninclude = %(_).ini\nenv = after-%(_)\nendfor\nenv = end\n"
    assert place.env(text) == ["x1", "x2", "y", "after-x", "after-y", "end"]


# -- set, declare, resolve


def test_set_gives_options_and_placeholders(place):
    got = place.ini("[uwsgi]\nset = name=a=b\nset = env=%(name)\nset-ph = p=q\nenv = %(p)\n")
    assert got.values("env") == ("a=b", "q")
    assert dict(got.placeholders) == {"name": "a=b", "p": "q"}


@pytest.mark.parametrize("option", ["set-placeholder", "set-ph"])
def test_an_option_is_no_placeholder(place, option):
    with pytest.raises(ConfigError, match="cannot use master as a placeholder: it is an option"):
        place.evaluate(f"--{option}", "master=1")


@pytest.mark.parametrize("option", ["set", "set-placeholder", "declare-option", "resolve"])
def test_a_pair_must_be_a_pair(place, option):
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        place.evaluate(f"--{option}", "bare")


def test_options_can_be_declared(place):
    text = (
        "declare-option = twice=env=$1-$2;env=%(v)$3\nv = V\ntwice = a b\ntwice = %(v) c;env=no\n"
    )
    assert place.env(text) == ["a-b", "V$3", "V-c;env=no", "V$3"]


def test_a_declared_option_stands_for_both_files_that_make_it(place):
    place.write("customer.ini", "[uwsgi]\ndeclare-option = name=uid=root\nname = here\n")
    place.write("operator.ini", "[uwsgi]\nname = x\n")
    got = place.evaluate("--ini", "customer.ini", "--ini", "operator.ini")
    assert [(e.key, str(e.origin)) for e in got.entries] == [
        ("uid", "customer.ini:3: name"),
        ("uid", "customer.ini:2 for operator.ini:2: name"),
    ]


def test_no_file_passes_for_the_command_line(place):
    for name in ("environment", "command line", "default"):
        place.write(name, "[uwsgi]\nuid = root\n")
        got = place.evaluate("--ini", name)
        assert got.entries[0].origin == Origin(f"./{name}", 2, "uid")


def test_what_a_file_opens_ends_with_the_file(place):
    place.write("customer.ini", "[uwsgi]\nif-env = NO\n")
    place.write("operator.ini", "[uwsgi]\nenv = operator\n")
    got = place.evaluate("--ini", "customer.ini", "--ini", "operator.ini")
    assert got.values("env") == ("operator",)
    assert got.warnings == ("if-env is never closed",)


def test_odd_line_ends_of_an_injected_text_are_refused(place):
    place.write("head", b"[uwsgi]\nenv = A\rB\n")
    place.write("c.ini", "env = C\n")
    with pytest.raises(ConfigError, match=r"^head:2: a line ends with something else"):
        place.evaluate("--inject-before", "head", "--ini", "c.ini")


def test_names_are_resolved(place):
    assert place.env("resolve = here=127.0.0.1\nenv = %(here)\n") == ["127.0.0.1"]
    with pytest.raises(
        ConfigError, match=r"c\.ini:2: resolve: cannot resolve no-such-host\.invalid"
    ):
        place.env("resolve = x=no-such-host.invalid\n")


def test_underscores_are_not_dashes(place):
    got = place.ini("[uwsgi]\nchmod_socket = 1\nenv = %(chmod_socket)\n")
    assert got.values("env") == ("1",)
    assert got.placeholders["chmod_socket"] == "1"


def test_variables_from_files_count_at_once(place):
    place.write("d/NAME", "value  \nsecond\n")
    place.write("d/GONE", "")
    text = "env = $(NAME)\nearly-envdir = d\nif-env = NAME\nenv = if-%(_)\nendif\nif-env = GONE\nenv = no\nendif\n"
    got = place.ini("[uwsgi]\n" + text, environ={"GONE": "1"})
    assert got.values("env") == ("value", "if-value")
    assert dict(got.environ) == {"NAME": "value", "GONE": None}


def test_envdirs_are_listed(place):
    assert place.ini("[uwsgi]\nenvdir = a\nenvdir = b\n").envdirs == ("a", "b")


# -- strict, black and white lists


def test_unknown_keys_are_placeholders_unless_strict(place):
    assert keys(place.ini("[uwsgi]\nmy-own = 1\n")) == ["my-own"]
    with pytest.raises(
        ConfigError, match=r"^c\.ini:2: my-own: unknown option my-own: strict is set"
    ):
        place.ini("[uwsgi]\nmy-own = 1\nstrict = true\n")
    with pytest.raises(ConfigError, match=r"did you mean processes\?"):
        place.ini("[uwsgi]\nprocesess = 1\nstrict = true\n")
    text = "[uwsgi]\nstrict\nset-ph = mine=1\ndeclare-option = two=env=$1\ntwo = %(mine)\n"
    strict = place.ini(text)
    assert strict.strict
    assert strict.values("env") == ("1",)
    assert not place.ini("[uwsgi]\nstrict = false\nmy-own = 1\n").strict


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("blacklist = env foo\nmaster = true\n", None),
        ("blacklist = env foo\nenv = A\n", "env"),
        ("blacklist = env foo\nend-blacklist = true\nenv = A\n", None),
        ("whitelist = env end-whitelist\nenv = A\n", None),
        ("whitelist = env\nmaster = true\n", "master"),
        ("whitelist = env\nend-whitelist = true\n", "end-whitelist"),
        ("whitelist = env end-whitelist\nend-whitelist = true\nmaster = true\n", None),
    ],
)
def test_black_and_white_lists(place, text, refused):
    if refused is None:
        place.ini("[uwsgi]\n" + text)
        return
    with pytest.raises(ConfigError, match=f"forbidden option {refused}: by "):
        place.ini("[uwsgi]\n" + text)


def test_lists_hold_for_included_files(place):
    place.write("customer.ini", "[uwsgi]\nuid = root\n")
    with pytest.raises(ConfigError, match=r"^customer\.ini:2: uid: forbidden option uid"):
        place.ini("[uwsgi]\nblacklist = uid gid\ninclude = customer.ini\n")


def test_what_one_file_forbids_no_other_allows(place):
    text = (
        "[uwsgi]\nblacklist = uid virtualenv\ninclude = customer.ini\nend-blacklist = 1\nuid = 1\n"
    )
    for line in (
        "uid = 0",
        "set = uid=0",
        "venv = x",
        "declare-option = x=$1=0\nx = uid",
        "inherit = evil.ini",
    ):
        place.write("evil.ini", "[uwsgi]\nuid = 0\n")
        place.write("customer.ini", f"[uwsgi]\nblacklist = gid\n{line}\n")
        with pytest.raises(ConfigError, match=r"forbidden option (uid|venv): by blacklist"):
            place.ini(text)
    place.write("customer.ini", "[uwsgi]\nend-blacklist = 1\n")
    with pytest.raises(
        ConfigError, match=r"^customer\.ini:2: .*a list that c\.ini began ends there"
    ):
        place.ini(text)
    place.write("customer.ini", "[uwsgi]\nenv = A\n")
    assert keys(place.ini(text)) == ["env", "uid"]


def test_what_one_file_allows_no_other_widens(place):
    place.write("customer.ini", "[uwsgi]\nwhitelist = env uid\nuid = 0\n")
    with pytest.raises(ConfigError, match="forbidden option uid: by whitelist"):
        place.ini("[uwsgi]\nwhitelist = env include whitelist\ninclude = customer.ini\n")


def test_a_files_injected_texts_end_with_it(place):
    place.write("hide", "[hidden]\n")
    place.write("customer.ini", "[uwsgi]\ninject-before = hide\nmode = x\n")
    place.write("operator.ini", "[uwsgi]\nenv = operator\n")
    got = place.evaluate("--ini", "customer.ini", "--ini", "operator.ini")
    assert got.values("env") == ("operator",)


# -- questions


def test_questions_are_answered_with_final_values(place):
    got = place.ini(
        "[uwsgi]\nenv = A=%(foo)\nfoo = bar\n", "--get", "foo", "--get", "env", "--get", "no"
    )
    assert actions(got) == [("get", "bar"), ("get", "A=bar"), ("get", None)]


def test_texts_are_printed_in_their_order(place):
    got = place.evaluate(
        "--print", "one %(x)", "--iprint", "two", "--print", "three", "--set", "x=1"
    )
    assert actions(got) == [("print", "two"), ("print", "one 1"), ("print", "three")]


@pytest.mark.parametrize(
    ("given", "code"), [("--exit", "1"), ("--exit=9", "9"), ("--exit=300", "44")]
)
def test_exit_ends_the_evaluation(place, given, code):
    got = place.evaluate(given, "--ini", "missing.ini", "--nonsense")
    assert actions(got) == [("exit", code)]


def test_help_version_and_lists_are_asked_for(place):
    assert actions(place.evaluate("--help", "--nonsense")) == [("help", None)]
    got = place.evaluate("--version", "--dump-options", "--show-config")
    assert actions(got) == [("version", None), ("dump-options", None), ("show-config", None)]
    assert got.actions[0] == Action("version", None, Origin("command line", 0, "--version"))


def test_what_acted_is_not_an_entry(place):
    place.write("i.ini", "[uwsgi]\n")
    text = (
        "include = i.ini\nset = a=1\nset-ph = b=2\nfor = x\nmaster = 1\nendfor\nif-env = NO\nendif\n"
        "print = x\nget = a\ninherit = i.ini\ndeclare-option = o=env=1\no = x\nblacklist = zzz\n"
        "end-blacklist = 1\nmode = m\nstrict = no\n"
    )
    assert keys(place.ini("[uwsgi]\n" + text)) == ["a", "b", "master", "strict", "env"]


def test_show_config_is_ini_that_gives_the_same(place):
    place.write("i.ini", "[uwsgi]\nenv = INC\n")
    text = (
        "[uwsgi]\nmaster\nenv = A=%(who)\nwho = me\nfor = a b\nenv = %(_)\nendfor\ninclude = i.ini\n"
        "set = env=S\ndeclare-option = o=env=D$1\no = 1\ninherit = i.ini\n"
    )
    first = place.ini(text, "--show-config", "--vacuum")
    shown = show_config(first)
    assert shown.startswith(";uWSGI instance configuration\n[uwsgi]\n;ini = c.ini\n")
    assert shown.endswith("vacuum = true\n;show-config = true\n;end of configuration\n") or (
        ";show-config = true\n" in shown
    )
    place.write("again.ini", shown)
    again = place.evaluate("--ini", "again.ini")
    assert [(e.key, e.value) for e in again.entries] == [
        (e.key, "true" if e.value is None else e.value) for e in first.entries
    ]


def test_files_are_listed_and_logged(place):
    place.write("a.ini", "[uwsgi]\nxml = b.xml\n")
    place.write("b.xml", "<uwsgi><yaml>c.yml</yaml></uwsgi>")
    place.write("c.yml", "uwsgi:\n  env: A\n")
    lines = []
    world = OpenWorld(facts=Facts(cwd=str(place.path)), environ={})
    got = evaluate(["a.ini"], environ={}, world=world, log=lines.append)
    assert got.files == ("a.ini", "b.xml", "c.yml")
    assert lines == [
        "[uWSGI] getting INI configuration from a.ini",
        "[uWSGI] parsing config file b.xml",
        "[uWSGI] getting YAML configuration from c.yml",
    ]
