"""The Emperor's router when things go wrong."""

import os
import signal

import pytest

from donjon.emperor import router as routers
from donjon.emperor.reactor import Reactor
from donjon.emperor.router import Router
from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.netns import making
from donjon.netns.wanted import Interface, Namespace
from donjon.tuntap.rules import Ruleset, compile_rules

pytestmark = pytest.mark.root


@pytest.fixture
def reactor():
    found = Reactor()
    yield found
    found.close()


def children():
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return file.read().split()


def test_a_router_that_refuses_its_device_is_not_left_behind(reactor):
    before = children()
    with Fd(os.open("/dev/null", os.O_RDWR)) as device, pytest.raises(DonjonError):
        Router(reactor, device, compile_rules(Ruleset()).table)
    assert children() == before


def test_rules_that_are_no_table_are_refused(reactor):
    with Fd(os.open("/dev/null", os.O_RDWR)) as device, pytest.raises(DonjonError):
        Router(reactor, device, b"nonsense")


def test_a_program_that_is_no_router_is_one_line(reactor, monkeypatch):
    monkeypatch.setattr(routers.launch.sys, "executable", "/bin/false")
    with Fd(os.open("/dev/null", os.O_RDWR)) as device, pytest.raises(DonjonError) as caught:
        Router(reactor, device, b"")
    assert "router" in str(caught.value)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_rules_that_were_refused_are_not_the_next_routers(reactor):
    namespace, device = making.make(Namespace(tun=Interface(name="tun0")))
    with namespace, device:
        router = Router(reactor, device, compile_rules(Ruleset()).table)
        try:
            with pytest.raises(DonjonError):
                router.rules(b"nonsense")
            os.kill(router.pid, signal.SIGKILL)
            end = reactor.clock() + 10
            while not router.restarts:
                assert reactor.clock() < end
                reactor.turn(0.1)
        finally:
            router.close()
