"""The readers of each format: what they accept, the lines they tell, what they refuse."""

import pytest

from donjon.config.formats import FORMATS, Document, by_extension
from donjon.config.formats.document import Document as Text
from donjon.errors import ConfigError


def pairs(name, text, section="uwsgi", mode=None):
    entries = FORMATS[name].parse(Document(text, "file", section, mode))
    return None if entries is None else [(e.key, e.value, e.origin.line) for e in entries]


def test_extensions_name_formats():
    named = {
        path: by_extension(path).name for path in ("a.ini", "b.yml", "c.yaml", "d.js", "e.json")
    }
    assert named == {
        "a.ini": "ini",
        "b.yml": "yaml",
        "c.yaml": "yaml",
        "d.js": "json",
        "e.json": "json",
    }
    assert by_extension("x.toml").name == "toml"
    assert by_extension("conf") is None
    assert by_extension("a.ini.bak") is None


# -- ini


def test_an_ini_file_is_lines_and_nothing_else():
    text = (
        "; comment\n# comment\n[other]\nx = 1\n[uwsgi]\n  a =  b c \n\td\t=\te\nmaster\n"
        'q = "as is"\nh = a # no comment\n;c = 1\ne=f=g\r\n[uwsgi]\nlast = 1'
    )
    assert pairs("ini", text) == [
        ("a", "b c", 6),
        ("d", "e", 7),
        ("master", "", 8),
        ("q", '"as is"', 9),
        ("h", "a # no comment", 10),
        ("e", "f=g", 12),
        ("last", "1", 14),
    ]


def test_an_ini_section_is_named_up_to_its_last_character():
    assert pairs("ini", "[ uwsgi ]\na = 1\n[uwsgi] ; c\nb = 2\n[uwsgi]x\nc = 3\n") is None
    assert pairs("ini", "[x]\na = 1\n[uwsgi]\nb = 2\n", "x") == [("a", "1", 2)]


def test_lines_before_any_ini_section_belong_to_none():
    assert pairs("ini", "a = 1\n") is None


# -- xml


def test_xml_elements_are_options():
    text = "<?xml version='1.0'?>\n<uwsgi>\n <!-- c -->\n <master/>\n <env>A=1</env>\n <env>x &amp; y</env>\n</uwsgi>"
    assert pairs("xml", text) == [("master", "1", 4), ("env", "A=1", 5), ("env", "x & y", 6)]


def test_xml_ids_choose_among_several():
    text = "<all><uwsgi id='one'><a>1</a></uwsgi><uwsgi id='two'><a>2</a></uwsgi></all>"
    assert pairs("xml", text, "two") == [("a", "2", 1)]
    assert pairs("xml", text, "three") is None
    assert pairs("xml", text) == [("a", "1", 1)]


def test_an_app_element_is_a_mount():
    text = '<uwsgi><app mountpoint="/m">app.py</app></uwsgi>'
    assert pairs("xml", text) == [("mount", "/m=app.py", 1)]


def test_modes_of_xml_count_when_a_mode_is_given():
    text = '<uwsgi><a mode="p">1</a><a mode="d">2</a><a>3</a></uwsgi>'
    assert [value for _, value, _ in pairs("xml", text, mode="d")] == ["2", "3"]
    assert [value for _, value, _ in pairs("xml", text)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<uwsgi>\n<env>", 2),
        ("", 1),
        ("<a/>", 1),
        ("<uwsgi>\n</b></uwsgi>", 2),
        ("plain\ntext", 1),
    ],
)
def test_broken_xml_is_an_error_with_its_line(text, line):
    with pytest.raises(ConfigError) as caught:
        pairs("xml", text)
    assert caught.value.origin.line == line


def test_xml_entities_are_refused():
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><uwsgi><e>&b;</e></uwsgi>'
    with pytest.raises(ConfigError, match="refused"):
        pairs("xml", bomb)
    outside = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><uwsgi><e>&f;</e></uwsgi>'
    with pytest.raises(ConfigError, match="refused"):
        pairs("xml", outside)


def test_deep_xml_is_refused():
    with pytest.raises(ConfigError, match="deep"):
        pairs("xml", "<uwsgi>" + "<a>" * 100_000)


# -- yaml


def test_yaml_keys_repeat_and_sequences_repeat_their_key():
    text = (
        "other:\n  env: A=0\nuwsgi:\n  # c\n  master: true\n  env: A=1\n  env: 'B # no'\n"
        "  list:\n    - a\n    - b\n  flow: [c, d]\n  num: 010\n  empty:\nuwsgi:\n  env: again\n"
    )
    assert pairs("yaml", text) == [
        ("master", "true", 5),
        ("env", "A=1", 6),
        ("env", "B # no", 7),
        ("list", "a", 9),
        ("list", "b", 10),
        ("flow", "c", 11),
        ("flow", "d", 11),
        ("num", "010", 12),
        ("empty", "", 13),
        ("env", "again", 15),
    ]


def test_a_yaml_mapping_in_a_mapping_gives_its_pairs():
    assert pairs("yaml", "uwsgi:\n  n:\n    x: 1\n    y: 2\n") == [("x", "1", 3), ("y", "2", 4)]


def test_a_yaml_sequence_of_mappings_gives_their_pairs():
    assert pairs("yaml", "uwsgi:\n  - a: 1\n  - a: 2\n") == [("a", "1", 2), ("a", "2", 3)]


def test_yaml_aliases_are_followed():
    assert pairs("yaml", "uwsgi:\n  a: &x one\n  b: *x\n  c: [*x, two]\n") == [
        ("a", "one", 2),
        ("b", "one", 2),
        ("c", "one", 2),
        ("c", "two", 4),
    ]


def test_the_grammar_of_the_embedded_parser_is_read_where_yaml_fails():
    text = (
        "uwsgi: # section\n  socket: @name # c\n  chdir: %(home)\n  env: A=b: c\nother:\n  x: @y\n"
    )
    assert pairs("yaml", text) == [
        ("socket", "@name", 2),
        ("chdir", "%(home)", 3),
        ("env", "A=b: c", 4),
    ]


def test_values_that_begin_with_a_reserved_sign_are_read():
    text = "uwsgi:\n  home: %d # c\n  list:\n    - '@x'\n    - @y # c\n    - %(it's)\n    - z\n"
    assert pairs("yaml", text) == [
        ("home", "%d", 2),
        ("list", "@x", 4),
        ("list", "@y", 5),
        ("list", "%(it's)", 6),
        ("list", "z", 7),
    ]


def test_the_first_yaml_document_counts():
    assert pairs("yaml", "uwsgi:\n  a: 1\n---\nuwsgi:\n  a: 2\n") == [("a", "1", 2)]


@pytest.mark.parametrize(
    ("text", "line"),
    [('uwsgi:\n  a: "open\n', 3), ("uwsgi:\n  a: [1\n  b: 2\n", 3), ("uwsgi: *nothing\n", 1)],
)
def test_broken_yaml_is_an_error_with_its_line(text, line):
    with pytest.raises(ConfigError) as caught:
        pairs("yaml", text)
    assert caught.value.origin.line == line


def test_yaml_tags_make_nothing():
    assert pairs("yaml", "uwsgi:\n  a: !!python/object/apply:os.system [echo]\n") == [
        ("a", "echo", 2)
    ]


def test_a_bomb_of_yaml_aliases_is_an_error():
    lines = ["uwsgi:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 100000 options"):
        pairs("yaml", "\n".join(lines))


def test_a_yaml_value_that_holds_itself_is_an_error():
    with pytest.raises(ConfigError, match="too many"):
        pairs("yaml", "uwsgi:\n  a: &a [x, *a]\n")


@pytest.mark.parametrize("text", ["[" * 100_000, "uwsgi:\n  a: " + "{b: " * 5000, "- " * 50_000])
def test_deep_yaml_is_refused(text):
    with pytest.raises(ConfigError, match=r"deep|nesting depth"):
        pairs("yaml", text)


# -- json


def test_json_values_are_words():
    text = (
        '{"other": {"a": "0"},\n "uwsgi": {"master": true,\n "env": ["A=1", "B=2"], "processes": 3,\n'
        ' "lazy": false, "none": null, "object": {"x": "y"}, "pi": 3.10, "env": "C\\u0041"}}'
    )
    assert pairs("json", text) == [
        ("master", "1", 2),
        ("env", "A=1", 3),
        ("env", "B=2", 3),
        ("processes", "3", 3),
        ("lazy", "0", 4),
        ("none", "0", 4),
        ("pi", "3.10", 4),
        ("env", "CA", 4),
    ]


def test_json_sections_are_keys():
    assert pairs("json", '{"a": {"x": "1"}, "b": {"x": "2"}}', "b") == [("x", "2", 1)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"uwsgi": ', 1),
        ('{"other": {}}', 1),
        ("", 1),
        ("[]", 1),
        ('{"uwsgi": []}', 1),
        ('{"uwsgi": {},}', 1),
        ('{"uwsgi": {}} x', 1),
        ('{"uwsgi":\n {"a" 1}}', 2),
        ("{}", 1),
        ("[" * 200_000, 1),
        ('{"uwsgi": ' + "[" * 200_000, 1),
    ],
)
def test_broken_json_is_an_error_with_its_line(text, line):
    with pytest.raises(ConfigError) as caught:
        pairs("json", text)
    assert caught.value.origin.line == line


def test_a_long_json_number_stays_text():
    digits = "9" * 10_000
    assert pairs("json", f'{{"uwsgi": {{"n": {digits}}}}}') == [("n", digits, 1)]


# -- toml


def test_toml_tables_are_sections():
    text = "# c\n[uwsgi]\nmaster = true\nenv = [\n 'A=1',\n 'B=2']\nprocesses = 3\nlazy = false\n[x]\na = 'b'\n"
    assert pairs("toml", text) == [
        ("master", "1", 3),
        ("env", "A=1", 4),
        ("env", "B=2", 4),
        ("processes", "3", 7),
        ("lazy", "0", 8),
    ]
    assert pairs("toml", text, "x") == [("a", "b", 10)]
    assert pairs("toml", text, "y") is None


def test_toml_without_a_table_has_options_at_the_top():
    assert pairs("toml", "master = true\nchdir = '/srv'\n") == [
        ("master", "1", 1),
        ("chdir", "/srv", 2),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = \n", 1), ("[uwsgi]\na = 1\na = 2\n", 3), ("a = " + "[" * 100_000, 1)],
)
def test_broken_toml_is_an_error_with_its_line(text, line):
    with pytest.raises(ConfigError) as caught:
        pairs("toml", text)
    assert caught.value.origin.line == line


# -- all


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ini", "[uwsgi]\nk-%n = v-%n"),
        ("xml", "<uwsgi><k-n>v-%n</k-n></uwsgi>"),
        ("yaml", "uwsgi:\n  k: v-%n"),
        ("json", '{"uwsgi": {"k-%n": "v-%n"}}'),
        ("toml", "[uwsgi]\nk = 'v-%n'"),
    ],
)
def test_a_file_name_makes_no_line_of_its_own(name, text):
    document = Text(
        text, "file", fill=lambda word: word.replace("%n", "x\n[uwsgi]\nuid = 0 <uid>0</uid>")
    )
    entries = FORMATS[name].parse(document)
    assert len(entries) == 1
    assert entries[0].value == "v-x\n[uwsgi]\nuid = 0 <uid>0</uid>"
