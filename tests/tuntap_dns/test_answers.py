"""What the resolver says of bytes, and of names, without a socket."""

import ipaddress
import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from donjon.tuntap.dns import answers, book
from donjon.tuntap.dns.answers import Question
from donjon.tuntap.dns.budget import BURST, BYTES, RATE, Budgets

DB = ipaddress.ip_address("192.0.2.7")
JAIL = book.Jail((ipaddress.ip_address("192.0.2.2"),), {"db": (DB,)})
BOOK = book.make((JAIL,), (ipaddress.ip_network("192.0.2.0/24"),), (("192.0.2.53", 53),))


def question(name, kind="A", *, stream=False, **more):
    found = answers.read(dns.message.make_query(name, kind, **more).to_wire(), is_stream=stream)
    assert isinstance(found, Question)
    return found


def rcode(wire):
    return dns.rcode.to_text(dns.message.from_wire(wire).rcode())


def test_a_book_is_read_as_it_was_written():
    assert book.read(book.write(BOOK)) == BOOK


@pytest.mark.parametrize(
    ("vassal", "name"),
    [
        ("Shop.ini", "shop"),
        ("/etc/vassals/my.shop.yaml", "my.shop"),
        ("plain", "plain"),
        ("a b.ini", None),
        ("-a.ini", None),
        ("shop.ini:zerg", "shop"),
        ("a..b.ini", None),
        ("ü.ini", None),
        ("x" * 64 + ".ini", None),
    ],
)
def test_a_vassal_has_the_name_of_its_file_if_that_can_be_one(vassal, name):
    assert book.name_of(vassal) == name


@pytest.mark.parametrize(
    ("name", "kind", "answered"),
    [
        ("db", "A", "NOERROR"),
        ("db.internal", "AAAA", "NOERROR"),
        ("db.internal", "TXT", "NOERROR"),
        ("internal", "A", "NOERROR"),
        ("x.db.internal", "A", "NXDOMAIN"),
        ("other", "A", "NXDOMAIN"),
        ("7.2.0.192.in-addr.arpa", "PTR", "NOERROR"),
        ("8.2.0.192.in-addr.arpa", "PTR", "NXDOMAIN"),
        ("x.localhost", "A", "NOERROR"),
    ],
)
def test_names_of_jails_are_answered_here(name, kind, answered):
    assert rcode(answers.local(question(name, kind), BOOK, JAIL)) == answered


@pytest.mark.parametrize(
    ("name", "kind"),
    [("example.org", "A"), ("com", "NS"), (".", "NS"), (".", "A"), ("1.1.1.1.in-addr.arpa", "PTR"),
     ("db.example.org", "A"), ("arpa", "NS"), ("x.in-addr.arpa", "PTR")],
)  # fmt: skip
def test_all_other_names_are_asked_upstream(name, kind):
    assert answers.local(question(name, kind), BOOK, JAIL) is None


@pytest.mark.parametrize("kind", ["ANY", "AXFR", "IXFR", "MAILB"])
def test_nobody_gets_everything_of_a_name(kind):
    wire = dns.message.make_query("db", kind).to_wire()
    assert rcode(answers.read(wire, is_stream=True)) == "REFUSED"


def test_what_is_no_question_is_not_answered_as_one():
    query = dns.message.make_query("db", "A")
    wire = bytearray(query.to_wire())
    assert answers.read(wire[:11], is_stream=False) is None
    assert answers.read(dns.message.make_response(query).to_wire(), is_stream=False) is None
    for at, value, answered in ((2, 0x28, "NOTIMP"), (5, 2, "FORMERR"), (7, 1, "FORMERR")):
        changed = bytearray(wire)
        changed[at] = value
        assert rcode(answers.read(bytes(changed), is_stream=False)) == answered
    assert rcode(answers.read(bytes(wire) + b"more", is_stream=False)) == "FORMERR"
    chaos = dns.message.make_query("version.bind", "TXT", "CH").to_wire()
    assert rcode(answers.read(chaos, is_stream=False)) == "REFUSED"


def test_nothing_of_a_jails_own_words_goes_upstream():
    secret = dns.edns.GenericOption(65001, b"secret")
    asked = question("example.org", use_edns=0, options=[secret], payload=4096, id=7)
    sent = answers.ask(asked)
    assert b"secret" not in sent.to_wire()
    assert (sent.payload, sent.options) == (answers.PAYLOAD, ())
    assert len({answers.ask(asked).id for _ in range(20)}) > 1


def test_an_answer_is_cut_where_it_does_not_fit():
    asked = question("example.org", "TXT")
    sent = answers.ask(asked)
    found = dns.message.make_response(sent)
    found.answer.append(
        dns.rrset.from_text("example.org.", 60, "IN", "TXT", *(f"{n:0200}" for n in range(9)))
    )
    cut = answers.passed_on(asked, found)
    assert len(cut) <= answers.LEAST_PAYLOAD
    assert dns.message.from_wire(cut).flags & dns.flags.TC
    whole = answers.passed_on(question("example.org", "TXT", stream=True), found)
    assert len(dns.message.from_wire(whole).answer[0]) == 9


def test_only_an_answer_to_what_was_asked_is_one():
    sent = answers.ask(question("example.org"))
    right = dns.message.make_response(sent)
    assert answers.accept(sent, right.to_wire()) is not None
    other = dns.message.make_response(dns.message.make_query("example.net", "A", id=sent.id))
    assert answers.accept(sent, other.to_wire()) is None
    right.id ^= 0x100
    assert answers.accept(sent, right.to_wire()) is None
    assert answers.accept(sent, sent.to_wire()) is None  # the question itself


def test_a_code_that_needs_edns_is_not_said_without():
    asked = question("example.org")
    found = dns.message.make_response(answers.ask(asked))
    found.set_rcode(dns.rcode.BADVERS)
    assert rcode(answers.passed_on(asked, found)) == "SERVFAIL"


HEADERS = some.builds(
    lambda number, flags, counts: struct.pack("!6H", number, flags, *counts),
    some.integers(0, 65535),
    some.integers(0, 65535),
    some.tuples(*(some.integers(0, 2) for _ in range(4))),
)
SEEDS = [
    dns.message.make_query("db.internal", "A", use_edns=0).to_wire(),
    dns.message.make_response(dns.message.make_query("example.org", "MX")).to_wire(),
]


@settings(max_examples=400, deadline=None)
@given(
    some.one_of(
        some.binary(max_size=80),
        some.builds(bytes.__add__, HEADERS, some.binary(max_size=60)),
        some.builds(
            lambda seed, at, value: (
                seed[: at % len(seed)] + value + seed[at % len(seed) + len(value) :]
            ),
            some.sampled_from(SEEDS),
            some.integers(0, 200),
            some.binary(min_size=1, max_size=4),
        ),
    ),
    some.booleans(),
)
def test_no_bytes_are_too_much_for_it(wire, stream):
    found = answers.read(wire, is_stream=stream)
    if isinstance(found, Question):
        local = answers.local(found, BOOK, JAIL)
        sent = answers.ask(found)
        answers.accept(sent, sent.id.to_bytes(2) + wire[2:])
        found = local or answers.refuse(found, dns.rcode.SERVFAIL)
    if found is not None:
        assert found[:2] == wire[:2]
        assert dns.message.from_wire(found).flags & dns.flags.QR


def test_a_budget_is_a_rate_a_burst_and_the_bytes_that_were_answered():
    budgets = Budgets()
    taken = 0
    while budgets.take("a", 0.0):
        taken += 1
    assert taken == BURST
    assert budgets.take("b", 0.0)
    assert budgets.take("a", 2 / RATE)
    budgets.charge("a", 10 * BYTES)
    assert not budgets.take("a", 4 / RATE)
    assert budgets.take("a", 20 / RATE)
    budgets.keep({"b"})
    assert budgets.take("a", 20 / RATE)
