"""Questions and answers on the wire, through dnspython; nothing here touches a socket.

A question is read strictly: one question, no records, EDNS at most. It is never passed on as it
came: what goes upstream is made anew of its name, type and two flags. What comes back is read and
written anew as well, so that no byte gets to a jail that was not understood.
"""

from __future__ import annotations

import ipaddress
import secrets
import struct
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from donjon.records import dataclass
from donjon.tuntap.dns.book import ZONE, Address, Book, Jail

PAYLOAD = 1232
"""Bytes of a datagram that pass everywhere without fragments (DNS flag day 2020)."""

LEAST_PAYLOAD = 512
"""Bytes that everybody takes: RFC 1035, 4.2.1."""

LARGEST_QUESTION = 1232
LARGEST_ANSWER = 16 << 10
"""Bytes of an answer over TCP that are read: 40 ms of work at the worst."""

_HEADER = struct.Struct("!6H")
_TTL = 0  # seconds that a jail may keep a name of ours, which can change at any time
_NO_QUESTION = frozenset(range(249, 256)) | {41}
"""Types that ask for a transfer, for everything, or are none of data (RFC 6895)."""

_ADDRESSES = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}
_LOOPBACK: tuple[Address, ...] = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


@dataclass(frozen=True, slots=True)
class Question:
    """A question that was understood."""

    message: dns.message.Message
    name: dns.name.Name
    type: dns.rdatatype.RdataType
    is_stream: bool

    @property
    def room(self) -> int:
        """Bytes that an answer may have."""
        if self.is_stream:
            return 65535
        return min(PAYLOAD, max(LEAST_PAYLOAD, self.message.payload))


def read(wire: bytes, *, is_stream: bool) -> Question | bytes | None:
    """Return a question; or what it is answered to what is none; or None, which is silence."""
    if len(wire) < _HEADER.size:
        return None
    _id, flags, *counts = _HEADER.unpack_from(wire)
    if flags & dns.flags.QR:
        return None
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        return _bare(wire, dns.rcode.NOTIMP)
    message = None
    if counts[:3] == [1, 0, 0] and counts[3] <= 1 and len(wire) <= LARGEST_QUESTION:
        message = _parsed(wire)
    return (
        _bare(wire, dns.rcode.FORMERR)
        if message is None
        else _checked(message, is_stream=is_stream)
    )


def _parsed(wire: bytes) -> dns.message.Message | None:
    try:
        return dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None


def _checked(message: dns.message.Message, *, is_stream: bool) -> Question | bytes:
    asked = message.question[0]
    question = Question(message, asked.name, asked.rdtype, is_stream)
    if message.edns > 0:
        return refuse(question, dns.rcode.BADVERS)
    if asked.rdclass != dns.rdataclass.IN or int(asked.rdtype) in _NO_QUESTION:
        return refuse(question, dns.rcode.REFUSED)
    return question


def _bare(wire: bytes, rcode: int) -> bytes:
    """Return an answer to what was not read: the header alone."""
    number, flags = struct.unpack_from("!2H", wire)
    kept = flags & (0x7800 | dns.flags.RD)  # with the opcode
    return _HEADER.pack(number, kept | dns.flags.QR | rcode, 0, 0, 0, 0)


def _begin(question: Question) -> dns.message.Message:
    return dns.message.make_response(
        question.message, recursion_available=True, our_payload=PAYLOAD
    )


def refuse(question: Question, rcode: dns.rcode.Rcode) -> bytes:
    """Return an answer that is nothing but a code."""
    answer = _begin(question)
    answer.set_rcode(rcode)
    return answer.to_wire()


# -- what is known here


def local(question: Question, book: Book, jail: Jail) -> bytes | None:
    """Return the answer to a question about jails, None to one that is for others.

    A name that the jail may not ask for is one that is not there.
    """
    name = question.name.to_text(omit_final_dot=True).lower()
    stem, _, top = name.rpartition(".")
    if top == ZONE:
        return _about(question, jail.sees.get(stem), exists=not stem)
    if top == "localhost":  # RFC 6761, 6.3
        return _about(question, _LOOPBACK)
    if top and not stem and (name in jail.sees or question.type in _ADDRESSES):
        return _about(question, jail.sees.get(name))
    if top == "arpa":
        return _reverse(question, book, jail)
    return None


def _about(
    question: Question, found: tuple[Address, ...] | None, *, exists: bool = False
) -> bytes:
    version = _ADDRESSES.get(question.type)
    texts = [str(one) for one in found or () if one.version == version]
    answer = _begin(question)
    answer.flags |= dns.flags.AA
    if found is None and not exists:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif texts:
        answer.answer.append(_records(question, texts))
    return _written(question, answer)


def _reverse(question: Question, book: Book, jail: Jail) -> bytes | None:
    try:
        address = ipaddress.ip_address(dns.reversename.to_address(question.name))
    except (dns.exception.DNSException, ValueError):
        return None
    if not book.is_inner(address):
        return None
    answer = _begin(question)
    answer.flags |= dns.flags.AA
    names = [f"{name}.{ZONE}." for name, found in jail.sees.items() if address in found]
    if not names:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif question.type == dns.rdatatype.PTR:
        answer.answer.append(_records(question, names))
    return _written(question, answer)


def _records(question: Question, texts: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text(question.name, _TTL, dns.rdataclass.IN, question.type, *texts)


# -- what others know


def ask(question: Question) -> dns.message.Message:
    """Return what is asked upstream: the same question in our words, with an id of its own."""
    flags = dns.flags.RD | (question.message.flags & dns.flags.CD)
    return dns.message.make_query(
        question.name,
        question.type,
        use_edns=0,
        want_dnssec=bool(question.message.ednsflags & dns.flags.DO),
        payload=PAYLOAD,
        id=secrets.randbits(16),
        flags=flags,
    )


def accept(asked: dns.message.Message, wire: bytes) -> dns.message.Message | None:
    """Return an answer, if it is one to what was asked: same id, same question, whole."""
    if len(wire) < _HEADER.size or wire[:2] != asked.id.to_bytes(2):
        return None
    found = _parsed(wire)
    return found if found is not None and asked.is_response(found) else None


def is_truncated(found: dns.message.Message) -> bool:
    """Whether there is more to be had over TCP."""
    return bool(found.flags & dns.flags.TC)


def passed_on(question: Question, found: dns.message.Message) -> bytes:
    """Return an answer from upstream as the answer to the question."""
    answer = _begin(question)
    rcode = found.rcode()
    if rcode > 15 and question.message.edns < 0:  # it has no place without EDNS
        rcode = dns.rcode.SERVFAIL
    answer.set_rcode(rcode)
    answer.flags |= found.flags & (dns.flags.AD | dns.flags.TC)
    answer.answer, answer.authority = found.answer, found.authority
    answer.additional = found.additional
    return _written(question, answer)


def _written(question: Question, answer: dns.message.Message) -> bytes:
    """Return an answer as bytes: without its records, and a word that there are, if too long."""
    try:
        return answer.to_wire(max_size=question.room)
    except dns.exception.TooBig:
        cut = _begin(question)
        cut.set_rcode(answer.rcode())
        cut.flags |= dns.flags.TC
        return cut.to_wire()
    except (dns.exception.DNSException, ValueError):
        return refuse(question, dns.rcode.SERVFAIL)


def load() -> None:
    """Have all that dnspython reads while it works: afterwards there are no files."""
    load_all: Callable[[], None] = dns.rdata.load_all_types
    load_all()
