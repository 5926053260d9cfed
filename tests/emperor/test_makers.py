"""The Emperor's questions to the helper that makes network namespaces, many and long ones."""

import os
import signal
import subprocess
import sys
from ipaddress import ip_address

import pytest
from empire import wait_for
from netlab import Space

from donjon.emperor.makers import AT_ONCE, Makers
from donjon.emperor.reactor import Reactor
from donjon.errors import DonjonError
from donjon.netns import helper as helpers
from donjon.netns import nat
from donjon.netns.wanted import HostDevice, Interface, Namespace, Removal

WHY = ": File name too long"

pytestmark = pytest.mark.root


@pytest.fixture
def makers():
    reactor = Reactor()
    found = Makers(reactor)
    yield found
    found.close()
    reactor.close()


def turn_until(makers, condition):
    end = makers.reactor.clock() + 20
    while not condition():
        assert makers.reactor.clock() < end
        makers.reactor.turn(0.1)


def close(found):
    for one in found:
        one.close()


def test_however_many_questions_there_are_few_are_under_way(makers, monkeypatch):
    asked, answered, most = [], [], []
    ask = helpers.Helper.ask

    def counted(self, request):
        asked.append(request)
        most.append(len(asked) - len(answered))
        ask(self, request)

    monkeypatch.setattr(helpers.Helper, "ask", counted)

    def made(found):
        answered.append(found)
        close(found)

    for _ in range(5 * AT_ONCE):
        makers.make(Namespace(), made)
    turn_until(makers, lambda: len(answered) == 5 * AT_ONCE)
    assert max(most) <= AT_ONCE + 1  # an answer is counted after the next question


def test_the_questions_of_a_thousand_vassals_are_all_answered(makers):
    makers.make(Namespace(), close)
    turn_until(makers, lambda: makers.pid > 0)
    os.kill(makers.pid, signal.SIGSTOP)  # it is slow
    answered = []
    try:
        for _ in range(1000):
            makers.make(HostDevice(interface=Interface(name="x" * 16)), answered.append)
    finally:
        os.kill(makers.pid, signal.SIGCONT)
    turn_until(makers, lambda: len(answered) == 1000)
    assert {str(one) for one in answered} == {"cannot make the device " + "x" * 16 + WHY}


def test_what_is_left_to_ask_goes_to_the_next_helper(makers):
    answered = []
    for _ in range(AT_ONCE + 2):
        makers.make(Namespace(), answered.append)
    os.kill(makers.pid, signal.SIGKILL)
    turn_until(makers, lambda: len(answered) == AT_ONCE + 2)
    failed = [one for one in answered if isinstance(one, DonjonError)]
    assert len(failed) <= AT_ONCE
    for found in answered:
        if found not in failed:
            close(found)
    assert isinstance(answered[-1], list)


def test_the_end_of_a_helper_that_never_answered_is_told_later(makers):
    told = []
    makers.lost = lambda: told.append(makers.reactor.clock())
    answered = []
    makers.make(Namespace(), answered.append)
    begun = makers.reactor.clock()
    os.kill(makers.pid, signal.SIGKILL)
    turn_until(makers, lambda: told)
    assert isinstance(answered[0], DonjonError)
    assert told[0] - begun > 1.5


def test_a_table_may_be_longer_than_a_packet(tmp_path):
    ports = [
        nat.Port(protocol="tcp", address=None, port=port, jail=ip_address("192.0.2.2"), inner=80)
        for port in range(1000, 2500)
    ]
    script = nat.script("donjon0", ["192.0.2.0/24"], ports, masquerade=False)
    assert len(script) > 256 << 10
    space = Space()
    program = (
        "import sys\n"
        "from donjon.netns.helper import Helper, Request\n"
        "from donjon.netns.wanted import Nat\n"
        "one = Helper()\n"
        "one.ask(Request(1, Nat(table='donjon_donjon0', script=sys.stdin.read(), record=sys.argv[1])))\n"
        "print(one.answer())\n"
        "one.close()\n"
    )
    try:
        words = space.command(sys.executable, "-c", program, str(tmp_path / "record"))
        done = subprocess.run(words, input=script, check=True, capture_output=True, text=True)
        assert done.stdout == "(Answer(number=1, error=''), [])\n", done.stderr
    finally:
        space.close()


def test_a_device_is_removed_by_the_helper_when_there_is_nothing_else(makers, monkeypatch):
    asked, answered = [], []
    ask = helpers.Helper.ask

    def noted(self, request, *last):
        asked.append(request.wanted)
        ask(self, request, *last)

    monkeypatch.setattr(helpers.Helper, "ask", noted)
    makers.make(Namespace(tun=Interface(name="tun0")), answered.append)
    turn_until(makers, lambda: answered)
    namespace, device = answered.pop()
    makers.make(Namespace(), answered.append)
    makers.remove(device)
    makers.make(Namespace(), answered.append)
    turn_until(makers, lambda: device.closed)
    assert [type(one) for one in asked] == [Namespace] * 3 + [Removal]
    words = ["nsenter", f"--net=/proc/self/fd/{namespace.fileno()}", "ip", "-oneline", "link"]

    def links():
        inherited = [namespace.fileno()]
        return subprocess.run(words, check=True, capture_output=True, pass_fds=inherited).stdout

    wait_for(lambda: b"tun0" not in links(), "the end of the device")
    for found in ([namespace], *answered):
        close(found)


def test_without_a_helper_a_device_is_closed_all_the_same(makers):
    answered = []
    makers.make(Namespace(tun=Interface(name="tun0")), answered.append)
    turn_until(makers, lambda: answered)
    namespace, device = answered.pop()
    namespace.close()
    os.kill(makers.pid, signal.SIGKILL)
    turn_until(makers, lambda: makers.pid < 0)
    makers.remove(device)
    assert device.closed
