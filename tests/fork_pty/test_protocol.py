"""Packets, however the stream is cut."""

import re
import struct

import pytest
from hypothesis import given, settings
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
    b"\x1b]52;c;aGk=\x07", b"\x1b[>q", b"\x1b[?u", b"\x1b[x", b"\x1b[?2;1;0S", b"\x1b[1$w",
    b"\x1b[1;1;1;1;1;1*y", b"\x1b_Gi=31,a=q;AAAA\x1b\\", b"\x1b]1337;ReportCellSize\x07",
    b"\x1bP0;1|17/0a\x1b\\", b"\x1b]21;foreground=?\x1b\\", b"\x1b%@", b"\x1b]11;?\xc2\x9c",
]  # fmt: skip
HIDDEN = [
    b"\x1b[\n6n", b"\x1b[\x006n", b"\x1b\n[6n", b"\xc2\x9b6n", b"\xc2\x9a", b"\x1b[018t",
    b"\x1b[0000000000018t", b"\x1b[4294967314t", b"\x1b]052;c;eA==\x07", b"\x1b]4;1;\x00?\x07",
    "\x1b]4;1;\u271c;2;?\x07".encode(), b"\x1bP\x07$qm\x1b\\",
]  # fmt: skip
PLAIN = [
    b"text", b"\x1b[31m", b"\x1b[2J", b"\x1b]0;title\x07", b"\x1b[?2004h", b"\x1b[10;20H", b"\x1b7",
    b"\x1b[8;24;80t", b"\x1b(B", "ä€\u271c".encode(), b"\r\n", b"\x1b]8;;http://x/?a=?\x1b\\",
    b"\x1bPq#0~\x1b\\", b"\x1b[38:2::1:2:3m", b"\x1b[22;0t",
]  # fmt: skip


@given(st.lists(st.sampled_from(QUESTIONS + HIDDEN + PLAIN)), st.integers(1, 9))
def test_questions_are_taken_out_and_nothing_else(parts, cut):
    screen, stream, shown = Filter(), b"".join(parts), b""
    for at in range(0, len(stream), cut):
        shown += screen.feed(stream[at : at + cut])
    assert shown == b"".join(one for one in parts if one in PLAIN)


PIECES = [
    b"\x1b", b"[", b"]", b"P", b"_", b"\\", b"\x07", b"\x18", b"\n", b"\0", b"\xc2", b"\x9b", b"\x9c",
    b"6", b"n", b"$q", b"?", b";", b"4", b"Z", b"\x05", b"(", b"\x1b[6n",
]  # fmt: skip


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(PIECES), max_size=40), st.integers(1, 9))
def test_what_is_left_of_any_stream_is_no_question(pieces, cut):
    screen, stream, shown = Filter(), b"".join(pieces), b""
    for at in range(0, len(stream), cut):
        shown += screen.feed(stream[at : at + cut])
    assert list(questions(shown.decode())) == []


@pytest.mark.parametrize("parts", [(b"\x1b[", b"\x1b[6n", b"6n"), (b"\x1b", b"\x1b[6n", b"[6n"),
                                   (b"\xc2", b"\x1b[6n", b"\x9b6n"), (b"\x1b", b"\x05", b"[6n")])  # fmt: skip
def test_what_is_taken_out_does_not_join_a_question(parts):
    assert list(questions(Filter().feed(b"".join(parts)).decode())) == []


def questions(text):
    """What a terminal would answer: one that reads UTF-8, obeys C1, and does controls anywhere."""
    state, body, before = "text", "", ("text", "")
    for each in re.sub("[\x80-\x9f]", lambda c: f"\x1b{chr(ord(c[0]) - 64)}", text):
        if each == "\x05":
            yield each
        elif each in "\x18\x1a":
            state = "text"
        elif each == "\x1b":
            before, state = (state, body), "escape"
        elif each < " " and not (state == "]" and each == "\x07"):
            continue
        elif state == "escape":
            if each == "Z" or (each == "\\" and asks(*before)):
                yield each
            state, body = (each if each in "[]P_(" else "text"), ""
        elif state in "[]P_":
            body += each
            if (state == "[" and "@" <= each <= "~") or each == "\x07":
                if asks(state, body):
                    yield body
                state = "text"
        else:
            state = "text"


def asks(state, body):
    if state == "[":
        return body[-1:] == "n" and "(" not in body
    if state == "]":
        return body[:1] == "4" and "?" in body.rstrip("\x07").split(";")
    return state == "_" or (state == "P" and body.startswith("$q"))


@given(st.lists(st.binary(max_size=64), max_size=30))
def test_a_filter_holds_little_and_never_shows_an_enquiry(pieces):
    screen = Filter()
    for piece in pieces:
        assert b"\x05" not in screen.feed(piece)
        assert len(screen._kept) <= 4096
