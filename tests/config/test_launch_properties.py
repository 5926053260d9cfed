"""Whatever a file says, building it ends with a Launch or one clear line."""

import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.config import options
from donjon.config.entry import Entry
from donjon.config.launch import build, problems
from donjon.errors import ConfigError
from donjon.origin import Origin

NAMES = sorted(name for row in options.all_options() for name in row.names if row.built)

keys = st.one_of(st.sampled_from(NAMES), st.text(max_size=12))
examples = st.sampled_from(sorted({row.example for row in options.all_options()}))
texts = st.one_of(st.none(), st.text(max_size=30), examples, st.integers().map(str))


@st.composite
def files(draw):
    pairs = draw(st.lists(st.tuples(keys, texts), max_size=12))
    return tuple(
        Entry(key, value, Origin("a.ini", line, key)) for line, (key, value) in enumerate(pairs, 1)
    )


@settings(max_examples=300, deadline=None)
@given(files(), st.booleans(), st.booleans())
def test_building_ends_with_a_launch_or_one_line(entries, customer, under_emperor):
    told = "built"
    try:
        launch = build(entries, customer=customer, under_emperor=under_emperor)
        assert pickle.loads(pickle.dumps(launch)) == launch
    except ConfigError as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 400


@settings(max_examples=200, deadline=None)
@given(files())
def test_problems_are_those_of_the_start(entries):
    """What ends a start is the first problem that is no advice, and nothing else ends it."""
    fatal = [str(one) for one in problems(entries) if type(one).__name__ != "Advice"]
    try:
        build(entries)
        ended = []
    except ConfigError as error:
        ended = [str(error)]
    assert ended == fatal[:1]
