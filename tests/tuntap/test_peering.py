"""Two ends of links over a real connection with real certificates, driven by the test."""

import contextlib
import select
import socket
import time
from ipaddress import ip_address, ip_network

import pytest
from authority import Authority

from donjon.tuntap.federation import credentials, peering, wire
from donjon.tuntap.federation.link import HIGH, READ, WRITE, Link, State
from donjon.tuntap.federation.peer import Peer
from donjon.tuntap.federation.peering import Peering
from donjon.tuntap.federation.wire import Kind
from donjon.tuntap.protocol import RouterError

PACKET = wire.frame(Kind.PACKET, bytes(1400))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Credentials of both ends by name."""
    place = tmp_path_factory.mktemp("authority")
    authority, found = Authority(place), {}
    for name in ("near", "far"):
        authority.sign(place / name, name)
        texts = {end: (place / name / end).read_text() for end in credentials.TEXTS}
        found[name] = credentials.make(texts, str(place))
    return found


class Ends:
    """The near end dials, the far one accepts; each has a stream to its router, which is ours."""

    def __init__(self, made, stack):
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.settimeout(0)
        self.far_context = made["far"].server
        where = (ip_address("127.0.0.1"), self.listener.getsockname()[1])
        self.near = self.end("far", where, "10.2.0.0/24", 1, made["near"])
        self.far = self.end("near", None, "10.1.0.0/24", 2, made["far"])
        self.strangers = []
        stack.callback(self.close)
        self.routers = []
        for one in (self.near, self.far):
            inner, outer = socket.socketpair()
            one.use_stream(inner)
            outer.settimeout(0)
            self.routers.append(stack.enter_context(outer))

    def end(self, name, where, network, identity, its):
        other = Peer(name, where, (ip_network(network),))
        return Peering(other, identity, lambda: (its.client, its.server))

    def close(self):
        for one in (self.near, self.far, *self.strangers):
            one.close()

    def turn(self):
        """Do what can be done now, at both ends."""
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            stream = self.listener.accept()[0]
            self.strangers.append(Link(stream, self.far_context, None, now))
        for link in list(self.strangers):
            found = link.advance(now, listen=True)
            if link.state is State.GREETING:
                self.strangers.remove(link)
                self.far.welcome(link, found, now)
        for one in (self.near, self.far):
            self.turn_of(one, now)
        select.select([self.listener], [], [], 0.001)

    def turn_of(self, one, now):
        one.tick(now)
        for link in one.links():
            if link.events(listen=True):
                one.advance(link, now)
        if one.stream is not None and dict(one.sockets())[one.stream] & READ:
            one.hear_router(now)
        one.flush()

    def until(self, condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            self.turn()

    def up(self):
        self.until(lambda: self.near.is_up and self.far.is_up)

    def received(self, router, size):
        data = b""

        def look():
            nonlocal data
            with contextlib.suppress(BlockingIOError):
                data += router.recv(65536)
            return len(data) >= size

        self.until(look)
        return data


@pytest.fixture
def ends(made):
    with contextlib.ExitStack() as stack:
        found = Ends(made, stack)
        found.up()
        yield found


def test_what_one_router_sends_the_other_gets_also_while_links_change(ends):
    near, far = ends.routers
    for round_ in range(3):
        near.sendall(PACKET * 40)
        far.sendall(PACKET * 20)
        if round_:
            (ends.near, ends.far)[round_ - 1].renew(time.monotonic())
        assert ends.received(far, 40 * len(PACKET)) == PACKET * 40
        assert ends.received(near, 20 * len(PACKET)) == PACKET * 20
    ends.until(lambda: len(ends.near.links()) == len(ends.far.links()) == 1)


def test_half_a_packet_of_a_router_waits_for_its_end(ends):
    near, far = ends.routers
    near.sendall(PACKET[:100])
    ends.near.renew(time.monotonic())
    old = ends.near.link
    ends.until(lambda: ends.near.link not in (None, old))
    near.sendall(PACKET[100:])
    assert ends.received(far, len(PACKET)) == PACKET


def test_what_is_announced_is_known_until_the_link_ends(ends):
    ours = [(ip_address("10.1.0.2"), "shop.ini"), (ip_address("10.9.0.2"), "evil.ini")]
    ends.near.announce(ours, time.monotonic())
    ends.until(lambda: ends.far.routes == ours[:1])
    assert ends.far.refused == 1
    ends.far.lose(ends.far.link, "the test ends it", time.monotonic())
    assert ends.far.routes == []
    assert ends.far.why == "the test ends it"
    ends.until(lambda: ends.near.why == "the peer closed it")
    ends.up()
    ends.until(lambda: ends.far.routes == ours[:1])


def test_a_silent_link_is_dead(ends):
    now = time.monotonic()
    ends.near.tick(now + peering.DEAD + 1)
    assert not ends.near.is_up
    assert ends.near.why == "nothing was heard for 7 s"


def test_a_link_that_has_nothing_to_say_says_that_it_is_there(ends):
    link, heard = ends.near.link, ends.far.link.heard
    assert not link.out
    ends.near.tick(time.monotonic() + peering.ALIVE)
    ends.until(lambda: ends.far.link.heard > heard)


def test_a_link_ends_with_the_certificate_of_the_peer(ends):
    assert not ends.near.link.is_expired()
    ends.near.link.expires = time.time() - 1
    ends.near.tick(time.monotonic())
    assert not ends.near.is_up
    assert ends.near.why == "its certificate has expired"


def test_a_link_is_replaced_before_its_keys_are_old(ends):
    old = ends.near.link
    ends.near.tick(time.monotonic())
    assert ends.near.dialing is None
    old.begun -= peering.RENEW
    ends.until(lambda: ends.near.is_up and ends.near.link is not old)


def test_a_peer_that_stops_reading_makes_our_router_wait(ends):
    near, _ = ends.routers
    link = ends.near.link
    for _ in range(10000):
        with contextlib.suppress(BlockingIOError):
            near.send(PACKET * 10)
        ends.turn_of(ends.near, link.heard)
        if not dict(ends.near.sockets())[ends.near.stream] & READ:
            break
    assert HIGH <= len(link.out) < HIGH + 2 * 65536
    assert not dict(ends.near.sockets())[ends.near.stream] & READ


def test_a_router_is_not_heard_while_the_link_is_full_whatever_the_event(ends):
    near, _ = ends.routers
    link = ends.near.link
    link.say(wire.frame(Kind.ALIVE) * HIGH)
    near.send(PACKET)
    ends.near._to_router += bytes(8)  # so the stream is waited for, to be written to
    events, size = dict(ends.near.sockets())[ends.near.stream], len(link.out)
    assert events == WRITE
    ends.near.hear_router(time.monotonic())
    assert len(link.out) == size


def test_a_peer_that_stops_reading_is_told_of_our_vassals_when_it_reads_again(ends, monkeypatch):
    monkeypatch.setattr(peering, "ALIVE", 0.2)
    link, routes = ends.near.link, [(ip_address("10.1.0.7"), "shop.ini")]
    link.say(wire.frame(Kind.ALIVE) * HIGH)
    size, now = len(link.out), link.heard
    for turn in range(5):
        ends.near.announce(routes, now - 1)
        ends.near.tick(now + turn * 0.1)
    assert len(link.out) == size
    ends.until(lambda: ends.far.routes == routes)


def test_a_peer_that_makes_links_without_end_has_few_of_them(ends):
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(2 * peering.MOST_GUESTS):
            near, far = socket.socketpair()
            stack.enter_context(near)
            made.append(Link(far, ends.far_context, None, time.monotonic()))
            stack.callback(made[-1].close)
            ends.far.up(made[-1], time.monotonic())
        assert ends.far.leaving == made[-1 - peering.MOST_GUESTS : -1]
        assert made[0].fileno() == -1


def test_a_router_that_stops_reading_makes_the_peer_wait(ends):
    near, _ = ends.routers

    def full():
        with contextlib.suppress(BlockingIOError):
            near.send(PACKET * 10)
        return not ends.far.link.events(listen=len(ends.far._to_router) < HIGH) & READ

    ends.until(full)
    assert len(ends.far._to_router) < 3 * HIGH


def test_credentials_that_do_not_fit_say_so_and_leave_no_key_behind(tmp_path):
    authority, texts = Authority(tmp_path / "authority"), {}
    place = tmp_path / "place"
    place.mkdir()
    for name in ("one", "two"):
        authority.sign(tmp_path / name, name)
        texts[name] = {end: (tmp_path / name / end).read_text() for end in credentials.TEXTS}
    mixed = {**texts["one"], "key": texts["two"]["key"]}
    with pytest.raises(RouterError, match="network-peer-cert and network-peer-key do not go"):
        credentials.make(mixed, str(place))
    with pytest.raises(RouterError, match="network-peer-ca is no certificate"):
        credentials.make({**texts["one"], "ca": "nothing"}, str(place))
    with pytest.raises(RouterError, match="network-peer-key is no text"):
        credentials.make({**texts["one"], "key": None}, str(place))
    assert list(place.iterdir()) == []
