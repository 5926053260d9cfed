"""The pump copies what it can whole, returns the rest, and forgets nothing."""

import os
import select
import socket
import struct
import sys

import pytest

from donjon.fork_pty._pump import Pump


class Pair:
    """A pump with a pair: a pipe's socket as the terminal, another as the connection."""

    def __init__(self, *, framed):
        self.epoll = select.epoll()
        self.pump = Pump(self.epoll.fileno())
        self.inside, self.terminal = socket.socketpair()
        self.link, self.outside = socket.socketpair()
        for each in (self.inside, self.terminal, self.link, self.outside):
            each.setblocking(False)
        for each in (self.terminal, self.link):
            self.epoll.register(each.fileno(), select.EPOLLIN)
        self.framed = framed
        self.pair()

    def pair(self):
        self.pump.pair(self.terminal.fileno(), self.link.fileno(), self.framed)

    def wait(self):
        return self.pump.wait(0.0, 64)

    def close(self):
        for each in (self.inside, self.terminal, self.link, self.outside, self.epoll):
            each.close()


@pytest.fixture(params=[False, True], ids=["raw", "framed"])
def pair(request):
    found = Pair(framed=request.param)
    yield found
    found.close()


def typed(pair, data):
    return struct.pack("<BHB", 0, len(data), 0) + data if pair.framed else data


def test_both_ways_are_copied_and_counted(pair):
    pair.inside.send(b"shown")
    pair.outside.send(typed(pair, b"key"))
    assert pair.wait() == []
    assert pair.outside.recv(100) == b"shown"
    assert pair.inside.recv(100) == b"key"
    assert pair.pump.counts(pair.terminal.fileno()) == (3, 5)
    assert pair.pump.counts(pair.terminal.fileno()) == (0, 0)


def test_what_the_client_does_not_take_comes_back_whole(pair):
    sent = got = 0
    rest = b""
    while not rest:
        sent += pair.inside.send(b"y" * 4096)
        for fd, _, data in pair.wait():
            assert fd == pair.terminal.fileno()
            rest += data
    while True:
        try:
            got += len(pair.outside.recv(65536))
        except BlockingIOError:
            break
    assert got + len(rest) == sent
    pair.inside.send(b"more")
    assert [(fd, data) for fd, _, data in pair.wait()] == [(pair.terminal.fileno(), None)]


def test_what_the_terminal_does_not_take_comes_back_whole(pair):
    filler = 0
    while True:
        try:
            filler += pair.terminal.send(b"z" * 65536)
        except BlockingIOError:
            break
    pair.outside.send(typed(pair, b"keys"))
    ((fd, _, data),) = pair.wait()
    assert (fd, data) == (pair.link.fileno(), typed(pair, b"keys"))


def test_what_the_terminal_takes_in_part_comes_back_as_it_was_spoken(pair):
    pair.terminal.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    keys = bytes(range(256)) * 40
    pair.outside.send(typed(pair, keys))
    ((fd, _, data),) = pair.wait()
    rest = data[4:] if pair.framed else data
    taken = pair.inside.recv(65536)
    assert (fd, data) == (pair.link.fileno(), typed(pair, rest))
    assert 0 < len(rest) < len(keys)
    assert taken + rest == keys


def test_what_is_no_key_is_left_to_python():
    pair = Pair(framed=True)
    try:
        for stream in (b"\0\x18\0\x64", b"\0\5\0\0ab", typed(pair, b"x") + b"\0\0\0\2"):
            pair.pair()
            pair.outside.send(stream)
            assert [(fd, data) for fd, _, data in pair.wait()] == [(pair.link.fileno(), stream)]
            pair.outside.send(b"z")
            assert [data for _, _, data in pair.wait()] == [None], "parted"
            pair.link.recv(100)
    finally:
        pair.close()


def test_ends_and_strangers_are_events(pair):
    pair.outside.close()
    assert [data for _, _, data in pair.wait()] == [None]
    reader, writer = os.pipe()
    pair.epoll.unregister(pair.link.fileno())
    pair.epoll.register(reader, select.EPOLLIN)
    os.write(writer, b"x")
    assert pair.wait() == [(reader, select.EPOLLIN, None)]
    os.close(reader)
    os.close(writer)


def test_as_many_events_are_taken_as_asked_for(pair):
    pair.pump.part(pair.link.fileno())
    pair.inside.send(b"shown")
    pair.outside.send(b"key")
    assert len(pair.pump.wait(0.0, 1)) == 1
    assert len(pair.pump.wait(0.0, 64)) == 2


def test_what_is_parted_is_not_copied(pair):
    pair.pump.part(pair.link.fileno())
    pair.inside.send(b"shown")
    assert pair.wait() == [(pair.terminal.fileno(), select.EPOLLIN, None)]
    pair.pump.part(10_000)
    assert pair.pump.counts(10_000) == (0, 0)


def test_a_pair_is_of_two():
    with select.epoll() as epoll:
        pump = Pump(epoll.fileno())
        for one, other in ((3, 3), (-1, 4), (4, -1)):
            with pytest.raises(ValueError, match="not two descriptors"):
                pump.pair(one, other, False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        pump.wait(0, 1)


def test_nothing_leaks(pair):
    def turn():
        for _ in range(200):
            pair.pair()
            pair.outside.send(typed(pair, b"k"))
            pair.inside.send(b"s")
            pair.wait()
            pair.pump.part(pair.link.fileno())
            pair.inside.send(b"s")
            pair.wait()
            pair.terminal.recv(10)
            pair.inside.recv(10)
            pair.outside.recv(10)

    turn()
    before = sys.getallocatedblocks()
    turn()
    assert sys.getallocatedblocks() - before < 50
