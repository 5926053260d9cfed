"""Packets, however the stream is cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.fork_pty import protocol
from donjon.fork_pty.answerback import Filter
from donjon.fork_pty.protocol import Answers, Packet, ProtocolError, Reader, What, Word

PACKETS = st.lists(
    st.one_of(
        st.binary(max_size=70000).map(
            lambda data: (protocol.stdin(data), [(What.INPUT, 0, data)])
        ),
        st.integers(0, 65535).map(
            lambda n: (struct.pack("<BHB", 0, n, 100), [(What.ROWS, n, b"")])
        ),
        st.integers(0, 65535).map(
            lambda n: (struct.pack("<BHB", 9, n, 101), [(What.COLS, n, b"")])
        ),
        st.sampled_from([1, 2, 15, 99, 102, 255]).map(
            lambda n: (struct.pack("<BHB", 0, 7, n), [(What.SIGNAL, n, b"")])
        ),
        st.binary(max_size=4096).map(
            lambda data: (protocol.ours(Word.HELLO, data), [(What.OURS, 1, data)])
        ),
    ),
    max_size=6,
)


def joined(packets):
    """Neighbouring bytes for the terminal are one, and none is nothing."""
    found = []
    for packet in packets:
        if packet[0] is What.INPUT and found and found[-1][0] is What.INPUT:
            found[-1] = (What.INPUT, 0, found[-1][2] + packet[2])
        elif packet[0] is not What.INPUT or packet[2]:
            found.append(tuple(packet))
    return found


@given(PACKETS, st.lists(st.integers(1, 500), max_size=50))
def test_packets_are_the_same_wherever_the_stream_is_cut(packets, cuts):
    stream = b"".join(data for data, _ in packets)
    reader, found = Reader(), []
    for cut in [*cuts, len(stream)]:
        piece, stream = stream[:cut], stream[cut:]
        found += reader.feed(piece)
    assert joined(found) == joined([one for _, many in packets for one in many])


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_stranger_makes_nobody_hold_more_than_a_packet_of_ours(pieces):
    reader = Reader()
    for piece in pieces:
        try:
            found = reader.feed(piece)
        except ProtocolError:
            return
        assert all(isinstance(one, Packet) for one in found)
        assert len(reader._kept) <= protocol.CONTROL_MAX + protocol.HEADER.size


def test_a_packet_of_ours_that_is_too_long_is_refused():
    with pytest.raises(ProtocolError):
        Reader().feed(struct.pack("<BHB", protocol.OURS, 4097, 1))


@given(st.binary(max_size=200000), st.integers(1, 5000))
def test_output_comes_out_of_packets_as_it_went_in(data, cut):
    stream, answers, found = protocol.output(data), Answers(), b""
    for at in range(0, len(stream), cut):
        found += b"".join(body for _, body in answers.feed(stream[at : at + cut]))
    assert found == data


QUESTIONS = [
    b"\x1b[c", b"\x1b[>c", b"\x1b[6n", b"\x1b[?6n", b"\x1b[21t", b"\x1b[18t", b"\x1bZ", b"\x05",
    b"\x1bP$qm\x1b\\", b"\x1bP+q544e\x1b\\", b"\x1b]10;?\x07", b"\x1b]4;1;?\x1b\\", b"\x1b[?2026$p",
    b"\x1b]52;c;aGk=\x07", b"\x1b[>q", b"\x1b[?u", b"\x1b[x",
]  # fmt: skip
PLAIN = [
    b"text", b"\x1b[31m", b"\x1b[2J", b"\x1b]0;title\x07", b"\x1b[?2004h", b"\x1b[10;20H", b"\x1b7",
    b"\x1b[8;24;80t", b"\x1b(B", "ä€".encode(), b"\r\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(QUESTIONS + PLAIN)), st.integers(1, 9))
def test_questions_are_taken_out_and_nothing_else(parts, cut):
    screen, stream, shown = Filter(), b"".join(parts), b""
    for at in range(0, len(stream), cut):
        shown += screen.feed(stream[at : at + cut])
    assert shown == b"".join(one for one in parts if one in PLAIN)


@given(st.lists(st.binary(max_size=64), max_size=30))
def test_a_filter_holds_little_and_never_shows_an_enquiry(pieces):
    screen = Filter()
    for piece in pieces:
        assert b"\x05" not in screen.feed(piece)
        assert len(screen._kept) <= 4096
