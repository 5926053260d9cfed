"""The Emperor's router when things go wrong."""

import os
import signal
import socket

import pytest
from scarce import no_more_descriptors

from donjon.emperor import router as routers
from donjon.emperor.letters import Letters
from donjon.emperor.reactor import Reactor
from donjon.emperor.router import Limits, Router
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.netns import making
from donjon.netns.wanted import Interface, Namespace
from donjon.tuntap import client, protocol
from donjon.tuntap.protocol import RouterError
from donjon.tuntap.rules import Ruleset, compile_rules

pytestmark = pytest.mark.root
NO_RULES = compile_rules(Ruleset()).table


@pytest.fixture
def reactor():
    found = Reactor()
    yield found
    found.close()


@pytest.fixture
def router(reactor):
    namespace, device = making.make(Namespace(tun=Interface(name="tun0")))
    with namespace, device:
        told = []
        found = Router(reactor, device, NO_RULES, told.append)
        assert turned(reactor, told) == [None]
        yield found
        found.close()


def turned(reactor, told, count=1):
    """Turn the loop until so much was told."""
    end = reactor.clock() + 30
    while len(told) < count:
        assert reactor.clock() < end
        reactor.turn(0.1)
    return told


def restarted(reactor, router, count=1):
    end = reactor.clock() + 30
    while router.restarts < count:
        assert reactor.clock() < end
        reactor.turn(0.1)


def problem_of(reactor, rules):
    """Return why a router cannot begin with /dev/null for a device."""
    told = []
    with Fd(os.open("/dev/null", os.O_RDWR)) as device:
        Router(reactor, device, rules, told.append)
        (problem,) = turned(reactor, told)
    return problem


def children():
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return file.read().split()


def test_a_router_that_refuses_its_device_is_not_left_behind(reactor):
    before = children()
    assert "this is no tun device" in str(problem_of(reactor, NO_RULES))
    assert children() == before


def test_rules_that_are_no_table_are_refused(reactor):
    assert isinstance(problem_of(reactor, b"nonsense"), DonjonError)


def test_a_program_that_is_no_router_is_one_line(reactor, monkeypatch):
    monkeypatch.setattr(routers.launch.sys, "executable", "/bin/false")
    assert "router" in str(problem_of(reactor, b""))
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_rules_that_were_refused_are_not_the_next_routers(reactor, router):
    told = []
    router.rules(b"nonsense", told.append)
    assert isinstance(turned(reactor, told)[0], DonjonError)
    os.kill(router.pid, signal.SIGKILL)
    restarted(reactor, router)


def test_an_emperor_without_descriptors_refuses_in_one_line_and_goes_on(reactor, router):
    namespace, device = making.make(Namespace(tun=Interface(name="tun0")))
    told = []
    with namespace, device:
        with no_more_descriptors():
            router.rules(NO_RULES, told.append)
            with pytest.raises(RouterError, match="cannot give the router anything: Too many"):
                router.attach("one", device, ["10.0.0.2"], Limits(), told.append)
        assert str(told.pop()) == "cannot ask the router: Too many open files"
        router.rules(NO_RULES, told.append)
        router.attach("one", device, ["10.0.0.2"], Limits(), told.append)
        assert turned(reactor, told, 2) == [None, None]


def test_a_router_that_hangs_holds_nobody_up_and_is_replaced(reactor, router, monkeypatch, capfd):
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    stopped, told = router.pid, []
    os.kill(stopped, signal.SIGSTOP)
    before = reactor.clock()
    for _ in range(3):
        router.rules(NO_RULES, told.append)
    router.detach("nobody")
    assert reactor.clock() - before < 0.2  # the first would have waited
    assert told == []
    assert turned(reactor, told, 3) == [None] * 3  # they are the next one's
    monkeypatch.undo()
    restarted(reactor, router)
    assert router.pid != stopped
    assert f"(pid {stopped}) ended with signal 9" in capfd.readouterr().err


def test_a_router_of_which_nobody_asks_anything_is_seen_to_hang(reactor, router, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    monkeypatch.setattr(routers, "CHECK", 0.1)
    router._look()
    os.kill(router.pid, signal.SIGSTOP)
    end = reactor.clock() + 30
    while not router._started.pidfd.closed:
        assert reactor.clock() < end
        reactor.turn(0.1)
    monkeypatch.undo()
    restarted(reactor, router)


def test_a_device_that_a_hanging_router_was_to_attach_is_the_next_ones(
    reactor, router, monkeypatch
):
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    namespace, device = making.make(Namespace(tun=Interface(name="tun1")))
    told = []
    with namespace, device:
        os.kill(router.pid, signal.SIGSTOP)
        router.attach("a", device, ["192.0.2.2"], Limits(), told.append)
    assert turned(reactor, told) == [None]
    monkeypatch.undo()
    restarted(reactor, router)
    assert router.client.port("a") == 1
    router.attach("b", router.client._ports["a"].device, ["192.0.2.2"], Limits(), told.append)
    assert "address 192.0.2.2 is another port's" in str(turned(reactor, told, 2)[1])


def test_what_is_asked_of_a_router_that_is_closed_is_told(reactor, router):
    os.kill(router.pid, signal.SIGSTOP)
    told = []
    router.rules(NO_RULES, told.append)
    router.close()
    assert told == [None]


@pytest.mark.parametrize(
    "answer", [b"[]", b"[" * 100_000, b'{"captured": 1}', b'{"captured": [], "lost": 0}', None]
)
def test_what_a_router_that_was_taken_over_answers_is_a_refusal(reactor, answer):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far:
        letters, told = Letters(near, reactor, lambda: None), []
        letters.post(letters.ending_capture(), told.append)
        protocol.receive(far).close()
        protocol.send(far, {"ok": True})
        reactor.turn(1)
        protocol.receive(far)
        ends = os.pipe()
        with Fd(ends[0]) as pipe, Fd(ends[1]), protocol.memory("answer", answer or b"") as memory:
            sent = pipe if answer is None else memory
            protocol.send(far, {"ok": True}, [sent.fileno()])
        assert isinstance(turned(reactor, told)[0], RouterError)
        letters.close()


def test_a_router_that_shuts_down_what_it_notes_on_does_not_keep_the_loop_awake(
    reactor, router, capfd
):
    router.client._noting.shutdown(socket.SHUT_RDWR)
    restarted(reactor, router)
    assert router.client.notes.fileno() not in reactor._ready
    assert capfd.readouterr().err.count("what rules match is written no more") == 1
