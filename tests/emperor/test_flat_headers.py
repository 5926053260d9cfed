"""C and Python mean the same by the packet of a birth, and by what workers say."""

import re
import signal

import pytest
from headers import enumerated, text

from donjon.emperor import flat
from donjon.emperor.orders import DIRECT_LIMIT
from donjon.server import channel, loop

ACTS = enumerated(text("acts.h"), "act_kind")


def test_the_numbers_of_acts_are_those_of_the_text():
    ours = {name: value for name, value in vars(flat).items() if f"ACT{name}" in ACTS}
    assert {f"ACT{name}": value for name, value in ours.items()} == ACTS


def test_the_letters_of_roles_are_those_of_the_text():
    roles = enumerated(text("acts.h"), "role")
    names = {"log": "LOG", "go": "MAPS"}
    ours = {
        f"ROLE_{names.get(role, role.upper())}": ord(letter) for role, letter in flat.ROLES.items()
    }
    assert ours == {key: value for key, value in roles.items() if key != "ROLE_STDIN"}


def test_limits_and_marks_are_those_of_the_text():
    marks = enumerated(text("acts.h"))
    assert marks == {
        "ROLES": flat.MOST_ROLES,
        "LISTENERS": flat.MOST_LISTENERS,
        "KIND_OF_BIRTH": ord(flat.KIND),
        "NO_RESUME": flat._NO_RESUME,
    }
    sitting = enumerated(text("sitter.h"))
    assert sitting == {"SITTER_WORKERS": flat.MOST_WORKERS, "PACKET": channel.PIPE_BUF}
    longest = re.search(r"LONGEST = (\d+) \* 1024", text("_birth.c"))
    assert int(longest[1]) * 1024 > DIRECT_LIMIT


SIZES = {
    "char": 1,
    "uint8_t": 1,
    "uint16_t": 2,
    "uint32_t": 4,
    "int32_t": 4,
    "uint64_t": 8,
    "int64_t": 8,
}


@pytest.mark.parametrize(
    ("file", "name", "ours"),
    [
        ("acts.h", "birth_head", flat.HEAD),
        ("acts.h", "act_head", flat.ACT),
        ("acts.h", "identity", flat._IDENTITY),
        ("acts.h", "listening", flat._LISTENING),
        ("sitter.c", "message", channel.HEADER),
    ],
)
def test_structures_have_the_layout_of_the_header_and_no_holes(file, name, ours):
    body = re.search(rf"struct {name} \{{(.*?)\}};", text(file), re.DOTALL)[1]
    fields = re.findall(r"^\s*(\w+) \w+(?:\[(\w+)\])?;", body, re.MULTILINE)
    at = 0
    for kind, count in fields:
        assert at % SIZES[kind] == 0, f"a hole before a field of {name}"
        at += SIZES[kind] * ({"ROLES": 32}[count] if count else 1)
    assert at == ours.size


def test_the_words_of_workers_are_those_of_the_channel():
    words = re.search(r"enum \{ (SPAWNED.*?) \};", text("sitter.c"))[1]
    said = {word: int(value) for word, value in re.findall(r"(\w+) = (\d+)", words)}
    assert said == {word: channel.Word[word] for word in said}
    assert set(said) == {"SPAWNED", "LOADED", "ACCEPTING", "ONCE", "MORE"}


def test_the_signals_of_a_waiting_master_are_those_of_the_loop():
    names = re.search(r"handled\[\] = \{(.*?)\};", text("sitter.c"), re.DOTALL)[1]
    assert {getattr(signal, name) for name in re.findall(r"SIG\w+", names)} == set(loop.HANDLED)
