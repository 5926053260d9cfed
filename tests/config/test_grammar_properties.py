"""Properties of the grammar: any input ends soon, in an evaluation or in one line of error."""

import string
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from donjon.config.evaluate import evaluate
from donjon.config.expand import Expander, replace
from donjon.config.formats import FORMATS, Document
from donjon.config.limits import MAX_VALUE
from donjon.config.show import show_config
from donjon.config.world import ClosedWorld, Facts
from donjon.errors import ConfigError

SETTINGS = settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FACTS = Facts(cwd="/vassals", uid=1000, gid=1000, hostname="host", binary="/bin/donjon")
WORDS = ["env", "master", "processes", "my-own", "uid", "_", "a", "b", "c"]
OPENERS = [
    "for = a b",
    "for-times = 2",
    "if-env = SET",
    "if-not-env = SET",
    "if-opt = a",
    "if-reload",
]
PIECES = [
    "%(a)",
    "%(b)",
    "%(_)",
    "%(a + 2)",
    "$(SET)",
    "%n",
    "%%",
    "%",
    "(",
    ")",
    "x",
    "=",
    "@",
    "$1",
    " ",
]

values = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
options = st.tuples(st.sampled_from(WORDS), values).map(lambda pair: f"{pair[0]} = {pair[1]}")
actions = st.tuples(
    st.sampled_from(
        ["set", "set-ph", "declare-option", "print", "get", "blacklist", "ini", "include"]
    ),
    st.sampled_from(WORDS),
    values,
).map(lambda three: f"{three[0]} = {three[1]}={three[2]}")
ends = st.sampled_from(["endif", "endfor", "end", "[uwsgi]", "[other]", ":other", "ini = :other"])
lines = st.one_of(options, options, actions, st.sampled_from(OPENERS), ends)
texts = st.lists(lines, max_size=25).map(lambda some: "[uwsgi]\n" + "\n".join(some))


def attempt(function, *arguments):
    """What the function gives; None where it refuses, which it must do in one line with its place."""
    refused = None
    try:
        return function(*arguments)
    except ConfigError as error:
        refused = error
    assert refused.origin is not None
    assert "\n" not in str(refused)
    assert len(str(refused)) < 1000
    return None


def closed(text, name="v.ini"):
    data = text if isinstance(text, bytes) else text.encode()
    world = ClosedWorld.over({name: data}, FACTS)
    return evaluate(["--" + name.rpartition(".")[2], name], environ={"SET": "value"}, world=world)


@SETTINGS
@given(texts)
def test_any_ini_of_known_words_is_evaluated_or_refused(text):
    evaluation = attempt(closed, text)
    if evaluation is not None:
        assert all(entry.origin.line > 0 for entry in evaluation.entries)


@SETTINGS
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=400))
@example("yaml", b"uwsgi: [" * 50)
@example("xml", b"<uwsgi><a><![CDATA[")
@example("json", b'{"uwsgi": {"a": "\\ud800"}}')
@example("yaml", b'uwsgi:\n  a: "\\x00"\n')
def test_any_bytes_are_evaluated_or_refused(name, data):
    attempt(closed, data, f"v.{name}")


@SETTINGS
@given(
    st.sampled_from(sorted(FORMATS)),
    st.text(alphabet="{}[]\"':,-&*#=<>/!?\n\t uwsgia1%|", max_size=300),
)
def test_any_text_of_the_signs_of_a_format_is_read_or_refused(name, text):
    started = time.monotonic()
    entries = attempt(FORMATS[name].parse, Document(text, "file"))
    assert entries is None or all(isinstance(entry.value, str) for entry in entries)
    assert time.monotonic() - started < 2


keys = st.text(alphabet=string.ascii_lowercase + string.digits, min_size=1, max_size=8).map(
    "zz-".__add__
)
plain = st.text(
    alphabet=st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="%$@"),
    max_size=30,
).map(lambda text: text.strip(" \t\r\n"))


@SETTINGS
@given(st.lists(st.tuples(keys, plain), max_size=12))
def test_show_config_gives_the_same_options_again(some):
    text = "[uwsgi]\n" + "".join(f"{key} = {value}\n" for key, value in some)
    first = closed(text)
    assert [(e.key, e.value) for e in first.entries] == some
    again = closed(show_config(first))
    assert [(e.key, e.value) for e in again.entries] == some


@SETTINGS
@given(texts)
def test_what_is_shown_gives_the_same_options_again(text):
    try:
        first = closed(text)
    except ConfigError:
        return
    if any(sign in e.key + (e.value or "") for e in first.entries for sign in "%$"):
        return  # would be resolved once more
    if first.strict or any(e.key == "_" for e in first.entries):
        return
    again = closed(show_config(first))
    given_ = [
        (e.key, "true" if e.value is None else e.value.strip(" \t\r")) for e in first.entries
    ]
    assert [(e.key, e.value) for e in again.entries] == given_


@SETTINGS
@given(
    st.text(alphabet="%$@()ab +*-/", max_size=200), st.dictionaries(st.sampled_from("ab"), values)
)
def test_substitution_always_ends_and_is_bounded(text, known):
    expander = Expander({"a": "%(b)"}, lambda _: "@(a)", known.get)
    started = time.monotonic()
    try:
        result = expander.placeholders(expander.files(expander.environment(text)))
    except ConfigError:
        result = ""
    assert len(result) <= MAX_VALUE
    assert time.monotonic() - started < 2


@SETTINGS
@given(st.text(alphabet="%()ab", max_size=100))
def test_nothing_known_leaves_a_text_as_it_is(text):
    assert replace(text, "%", {}.get) == text


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize(
    "piece", ["[", "{", "<a>", "- ", "a: &a ", "'", '"', "a.b.", "%(", "\n", "&a;", "? "]
)
def test_much_of_the_same_ends_soon(name, piece):
    text = piece * (1_000_000 // len(piece))
    started = time.monotonic()
    for head in ("", "uwsgi:\n  a: ", '{"uwsgi": ', "<uwsgi>", "[uwsgi]\na = "):
        attempt(FORMATS[name].parse, Document(head + text, "file"))
        assert time.monotonic() - started < 10
