"""Bytes on the control socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.emperor.protocol import (
    ALLOWANCE,
    WINDOW,
    FromVassal,
    RateLimit,
    ToVassal,
    config_packet,
    decode,
)
from donjon.emperor.vassal import WORDS, Event


def test_the_numbers_are_those_of_the_original():
    ours = {ToVassal.GO_ON: 3, FromVassal.FREEZE: 70}
    assert [int(byte) for byte in ToVassal if byte not in ours] == [0, 1, 2]
    theirs = sorted(int(byte) for byte in FromVassal if byte is not FromVassal.FREEZE)
    assert theirs == [1, 2, 5, 17, 22, 26, 30]
    assert [int(byte) for byte in ours] == list(ours.values())


def test_words_are_understood_in_order():
    assert decode(b"\x01\x05\x11") == [Event.SPAWNED, Event.ACCEPTING, Event.LOYAL]


@given(st.binary(max_size=5000))
def test_any_bytes_give_each_known_word_at_most_once(data):
    events = decode(data)
    assert len(events) == len(set(events))
    assert set(events) <= WORDS


def test_an_honest_vassal_is_never_paused():
    limit = RateLimit()
    assert not any(limit.spend(1, now=second / 2) for second in range(1000))


def test_a_flood_is_paused_until_the_end_of_its_window():
    limit = RateLimit()
    assert limit.spend(ALLOWANCE, 10.0) == 0.0
    assert limit.spend(4096, 10.2) == pytest.approx(WINDOW - 0.2)
    assert limit.spend(1, 11.5) == 0.0


def test_a_configuration_packet_has_modifier_115_and_a_little_endian_size():
    assert config_packet(b"x" * 258) == b"\x73\x02\x01\x00" + b"x" * 258
    with pytest.raises(ValueError, match="65535"):
        config_packet(b"x" * 70000)
