"""What is done for all vassals of a router together, with a router and a helper that only note."""

from ipaddress import ip_address

import pytest

from donjon.config.spec import EmperorSpec
from donjon.emperor import tapwords
from donjon.emperor.reactor import Reactor
from donjon.emperor.router import Limits
from donjon.emperor.tapnet import TapNetwork
from donjon.emperor.tapped import Tapped
from donjon.errors import DonjonError
from donjon.jail.netgrant import Pool
from donjon.jail.spec import Allowed, JailSpec, Published
from donjon.tuntap.client import UNLIMITED, Bandwidth

ADDRESS = ip_address("192.0.2.2").packed[::-1]  # in a table


class Router:
    def __init__(self):
        self.tables, self.attached, self.refused = [], [], b""

    def rules(self, table, done):
        if self.refused and self.refused in table:
            done(DonjonError("refused"))
            return
        self.tables.append(table)
        done(None)

    def attach(self, name, device, addresses, limits, done):
        self.attached.append((name, limits.bandwidth))
        done(None)

    def detach(self, name):
        self.attached.append((name, None))


class Makers:
    def __init__(self):
        self.asked = []

    def make(self, wanted, made):
        self.asked.append((wanted, made))

    def answer(self):
        self.asked[-1][1]([])


@pytest.fixture
def reactor():
    found = Reactor()
    yield found
    found.close()


@pytest.fixture
def new(reactor):
    def make(**words):
        spec = EmperorSpec(network_nat=True, **words)
        tap = TapNetwork(
            spec, Pool(networks=("192.0.2.0/24",)), reactor, Makers(), record="/nowhere/record"
        )
        tap.router = Router()
        return tap

    return make


def member(number, *, publish=(), allow=(), bandwidth=UNLIMITED, plan=""):
    return Tapped(
        jail=JailSpec(
            publish=tuple(Published(port, 80) for port in publish),
            network_allow=tuple(map(Allowed, allow)),
        ),
        addresses=(ip_address(f"192.0.2.{number}"),),
        limits=Limits(bandwidth),
        plan=plan,
    )


def admit(tap, name, one):
    told = []
    tap.admit(name, one, told.append)
    tap.reactor.turn(0.1)
    return told


def test_many_deaths_and_births_are_one_compilation_and_one_table(new):
    tap, told = new(), []
    for number in range(2, 22):
        tap.admit(f"{number}.ini", member(number, publish=[8000 + number]), told.append)
    tap.reactor.turn(0.1)
    assert (len(tap.router.tables), len(tap.makers.asked), told) == (1, 1, [])
    tap.makers.answer()
    assert told == [None] * 20
    for number in range(2, 22):
        tap.dismiss(f"{number}.ini")
    tap.reactor.turn(0.1)
    assert (len(tap.router.tables), len(tap.makers.asked)) == (2, 2)
    assert "dport" not in tap.makers.asked[-1][0].script


def test_who_comes_while_a_table_is_written_is_in_the_next_with_all_others(new):
    tap = new()
    first = admit(tap, "2.ini", member(2, publish=[8002]))
    later = [admit(tap, f"{one}.ini", member(one, publish=[8000 + one])) for one in range(3, 9)]
    assert len(tap.makers.asked) == 1
    tap.makers.answer()
    assert (first, later) == ([None], [[]] * 6)
    assert len(tap.makers.asked) == 2
    tap.makers.answer()
    assert later == [[None]] * 6
    assert "dport 8008" in tap.makers.asked[-1][0].script


def test_one_that_the_rules_refuse_keeps_nobody_else_out(new):
    tap, told = new(), {}
    for number, name in ((2, "a.ini"), (3, 'b".ini'), (4, "c.ini")):
        one = member(number, publish=[8000 + number])
        tap.admit(name, one, lambda problem, name=name: told.setdefault(name, problem))
    tap.reactor.turn(0.1)
    assert "no vassal can be called" in str(told.pop('b".ini'))
    tap.makers.answer()
    assert told == {"a.ini": None, "c.ini": None}
    assert "dport 8003" not in tap.makers.asked[-1][0].script


def test_who_comes_or_goes_while_the_router_thinks_is_in_the_next_rules(new):
    tap, told, answers = new(), [], []
    tap.router.rules = lambda table, done: answers.append((table, done))
    tap.admit("a.ini", member(2, allow=["198.51.100.7"]), told.append)
    tap.admit("b.ini", member(3), told.append)
    tap.reactor.turn(0.1)
    tap.admit("c.ini", member(4), lambda problem: told.append(("c", problem)))
    tap.dismiss("a.ini")
    tap.reactor.turn(0.1)
    assert (len(answers), told) == (1, [])
    answers[0][1](None)
    tap.makers.answer()
    assert told == [None]  # of b.ini: a.ini is gone
    tap.reactor.turn(0.1)
    assert len(answers) == 2
    answers[1][1](DonjonError("no memory"))
    assert str(told[1][1]) == "no memory"
    assert sorted(tap._members) == ["b.ini"]
    tap.reactor.turn(0.1)
    assert len(answers) == 2


def test_a_change_that_is_refused_changes_nothing(new):
    tap = new()
    admit(tap, "a.ini", member(2, publish=[8002]))
    admit(tap, "b.ini", member(3))
    tap.makers.answer()
    told, count = [], len(tap.makers.asked)
    tap.change("b.ini", member(3, publish=[8002]), None, told.append)
    assert "cannot publish port 8002/tcp: a.ini publishes it" in str(told[0])
    assert not tap.differs("b.ini", member(3))
    assert len(tap.makers.asked) == count


def test_a_change_leaves_the_device_attached_and_one_of_bandwidth_does_so_again(new):
    tap = new()
    told = []
    admit(tap, "a.ini", member(2))
    tap.attach("a.ini", None, told.append)
    assert told.pop() is None
    tap.change("a.ini", member(2, publish=[8002]), None, told.append)
    tap.reactor.turn(0.1)
    tap.makers.answer()
    assert told == [None]
    assert tap.router.attached == [("a.ini", UNLIMITED)]
    rate = Bandwidth(out=1000, into=1000)
    tap.change("a.ini", member(2, publish=[8002], bandwidth=rate), None, told.append)
    assert tap.router.attached[1:] == [("a.ini", None), ("a.ini", rate)]


def test_who_dies_while_it_is_changed_does_not_come_back(new):
    tap = new()
    admit(tap, "a.ini", member(2))
    tap.change("a.ini", member(2, publish=[8002]), None, lambda _problem: None)
    tap.dismiss("a.ini")
    tap.reactor.turn(0.1)
    assert "dport" not in tap.makers.asked[-1][0].script


def test_who_dies_while_others_are_tried_one_after_the_other_does_not_come_back(new):
    tap, told, answers = new(), [], []
    admit(tap, "a.ini", member(2))
    admit(tap, "b.ini", member(3))
    tap.router.rules = lambda table, done: answers.append(done)
    for name, number in (("c.ini", 4), ("a.ini", 2), ("b.ini", 3)):
        one = member(number, publish=[8000 + number])
        tap.admit(name, one, lambda problem, name=name: told.append((name, problem)))
    tap.reactor.turn(0.1)
    refusal = DonjonError("refused")
    answers[0](refusal)  # of all three
    tap.dismiss("a.ini")
    answers[1](refusal)  # of c.ini
    tap.dismiss("b.ini")
    answers[2](None)  # of b.ini
    assert told == [("c.ini", refusal)]
    tap.reactor.turn(0.1)
    answers[3](None)
    assert (len(answers), tap._members) == (4, {})
    assert "dport" not in tap.makers.asked[-1][0].script


def test_who_comes_when_one_is_refused_waits_for_all_that_are_tried(new):
    tap, told, answers = new(), [], []
    tap.router.rules = lambda table, done: answers.append(done)

    def refused(problem):
        told.append(str(problem))
        tap.admit("c.ini", member(4), told.append)

    tap.admit("a.ini", member(2), refused)
    tap.admit("b.ini", member(3), told.append)
    tap.reactor.turn(0.1)
    for count, problem in enumerate((DonjonError("no"), DonjonError("no"), None, None), 1):
        assert len(answers) == count
        answers[-1](problem)
        tap.reactor.turn(0.1)
    assert told == ["no", None, None]
    assert sorted(tap._members) == ["b.ini", "c.ini"]


def test_many_that_the_rules_refuse_are_told_so(new):
    tap, told = new(), []
    for number in range(500):
        tap.admit(f'{number}".ini', member(2, publish=[8000 + number]), told.append)
    tap.reactor.turn(0.1)
    assert (len(told), None in told, tap._members) == (500, False, {})


def test_a_port_of_a_family_that_the_vassal_has_not_is_refused(new):
    jail = JailSpec(publish=(Published(80, 80, "tcp", "2001:db8::1"),))
    one = Tapped(jail=jail, addresses=(ip_address("192.0.2.2"),), limits=Limits())
    (problem,) = admit(new(), "a.ini", one)
    assert "cannot publish port 80 of 2001:db8::1: the vassal has no address" in str(problem)


def test_a_peer_must_be_somebody_but_may_go(new):
    tap = new()
    tap.known = lambda: ["b.ini"]
    assert admit(tap, "a.ini", member(2, allow=["b.ini"])) == []
    tap.makers.answer()
    tap.known = tuple
    assert admit(tap, "c.ini", member(4)) == [None]
    (problem,) = admit(tap, "d.ini", member(5, allow=["cc.ini"]))
    assert str(problem).endswith("no vassal is called 'cc.ini' (did you mean 'c.ini'?)")


def test_rules_may_speak_of_plans_and_of_vassals_that_are_not_there(new, tmp_path, capfd):
    rules = tmp_path / "rules"
    rules.write_text(
        'out saddr plan gold daddr 198.51.100.7 accept\nout saddr vassal "x.ini" drop\n'
    )
    tap = new(network_rules=str(rules))
    assert admit(tap, "a.ini", member(2, plan="gold")) == [None]
    assert ADDRESS in tap.router.tables[-1]
    assert tap.differs("a.ini", member(2, plan="free"))
    assert admit(tap, "a.ini", member(2, plan="free")) == [None]
    assert ADDRESS not in tap.router.tables[-1]
    tap.reload_rules()
    assert "rules:2: no vassal is called 'x.ini' now" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("10.0.0.1-10.0.0.9", "daddr 10.0.0.1-10.0.0.9 accept"),
        ("10.0.0.0/255.0.0.0", "daddr 10.0.0.0-10.255.255.255 accept"),
        ("10.0.0.0/08", "daddr 10.0.0.0-10.255.255.255 accept"),
        ("10.0.0.1:010", "daddr 10.0.0.1-10.0.0.1 meta l4proto { tcp, udp } th dport 10-10"),
        ("[fd00::/8]:80-90", ""),
    ],
)
def test_what_is_allowed_is_in_the_table_as_the_rules_read_it(new, text, opening):
    tap = new()
    admit(tap, "a.ini", member(2, allow=[text]))
    script = tap.makers.asked[-1][0].script
    assert opening in script
    assert script.count("saddr 192.0.2.2") == bool(opening)


def test_rules_that_are_too_long_are_refused_not_cut(new, tmp_path, monkeypatch):
    rules = tmp_path / "rules"
    rules.write_text("out accept\nout drop\n")
    monkeypatch.setattr(tapwords, "RULES_MAX", 11)
    with pytest.raises(DonjonError, match="more than 11 characters"):
        new(network_rules=str(rules))
