"""Values of the options about namespaces and ids, and what is said of bad ones."""

import pytest

from donjon.config.entry import Entry
from donjon.config.launch import build, problems
from donjon.errors import OptionError
from donjon.jail.idmap import IdRange
from donjon.origin import Origin


def entry(key, value):
    return Entry(key, value, Origin("a.ini", 4, key))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("auto", IdRange()),
        ("auto:shop", IdRange(name="shop")),
        ("100000:65536", IdRange(base=100000, size=65536)),
    ],
)
def test_a_range_of_ids_is_read(value, wanted):
    assert build([entry("id-range", value)]).jail.id_range == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("monotonic=5", (("monotonic", 5),)),
        ("boottime=-60, monotonic=86400", (("boottime", -60), ("monotonic", 86400))),
    ],
)
def test_offsets_of_clocks_are_read(value, wanted):
    assert build([entry("time-offset", value)]).jail.time_offsets == wanted


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("id-range", "some", "neither auto, auto:NAME nor BASE:SIZE"),
        ("id-range", "auto:", "a name is missing"),
        ("id-range", "5:", "neither auto, auto:NAME nor BASE:SIZE"),
        ("id-range-size", "0", "not between 1 and 1073741824"),
        ("id-range-ledger", "ids", "not an absolute path"),
        ("time-offset", "realtime=5", "not CLOCK=SECONDS, with monotonic and boottime each once"),
        ("time-offset", "boottime", "not CLOCK=SECONDS, with monotonic and boottime each once"),
        ("time-offset", "boottime=1,boottime=2", "not CLOCK=SECONDS"),
        ("time-offset", "boottime=soon", "not a whole number"),
    ],
)
def test_a_bad_value_is_one_line_with_an_example(key, value, reason):
    with pytest.raises(OptionError) as caught:
        build([entry(key, value)])
    said = str(caught.value)
    assert said.startswith(f"a.ini:4: cannot use {key} = {value}: {reason}")
    assert f"(for example {key} = " in said


@pytest.mark.parametrize(
    "key",
    [
        "id-range", "id-range-size", "id-range-ledger", "time-offset", "setns-socket",
        "setns-socket-skip", "setns-socket-uid", "setns-preopen",
    ],
)  # fmt: skip
def test_they_are_the_operators(key):
    (said,) = problems([entry(key, "1")], customer=True)
    assert str(said) == (
        f"a.ini:4: {key} is for the operator only (it cannot stand in a customer's file)"
    )


def test_a_ledger_of_the_emperors_is_that_of_its_vassals():
    launch = build([entry("emperor", "/vassals"), entry("id-range-ledger", "/srv/ids")])
    assert launch.emperor is not None
    assert launch.emperor.id_range_ledger == launch.jail.id_range_ledger == "/srv/ids"
