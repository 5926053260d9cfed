"""A name server outside, that answers as its names say, and someone in a jail who asks one.

``big.example`` has more than a datagram takes; ``forged.example`` is answered wrongly three times first;
``silent.example`` never; ``two.example`` after the first try; ``ends.example`` with a name that ends nowhere.
All others have the address ``ADDRESS``.
"""

import contextlib
import json
import select
import socket
import subprocess
import sys
from pathlib import Path

import dns.flags
import dns.message
import dns.rrset
from netspaces import enter

ADDRESS = "203.0.113.9"
BIG = [f"{n:03}" * 60 for n in range(20)]

_ASK = """
import json, sys, dns.message, dns.query, dns.rcode, dns.flags
for line in sys.stdin:
    name, kind, server, how, patience, payload = json.loads(line)
    edns = {'use_edns': 0, 'payload': payload} if payload else {}
    question = dns.message.make_query(name, kind, **edns)
    try:
        found = getattr(dns.query, how)(question, server, timeout=patience)
        answer = {
            'rcode': dns.rcode.to_text(found.rcode()),
            'found': [item.to_text() for one in found.answer for item in one],
            'flags': dns.flags.to_text(found.flags).split(),
            'edns': found.edns,
            'payload': found.payload,
            'ttl': [one.ttl for one in found.answer],
        }
    except Exception as error:
        answer = {'rcode': type(error).__name__, 'found': []}
    print(json.dumps(answer), flush=True)
"""

_askers = {}


def ask(pid, server, name, kind="A", *, how="udp", patience=6.0, payload=0):
    """What a name server answers in the network namespace of ``pid``; ``forget_askers`` comes at the end."""
    if pid not in _askers:
        words = [*enter(pid), sys.executable, "-c", _ASK]
        _askers[pid] = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    asker = _askers[pid]
    asker.stdin.write(json.dumps([name, kind, server, how, patience, payload]) + "\n")
    asker.stdin.flush()
    return json.loads(asker.stdout.readline())


def forget_askers():
    """End those who ask in jails."""
    while _askers:
        _askers.popitem()[1].communicate()


def addresses(pid, server, name, kind="A", **more):
    """The addresses, or the code that says why there are none."""
    answer = ask(pid, server, name, kind, **more)
    return sorted(answer["found"]) or answer["rcode"]


class Nameserver:
    """The server outside, and what it was asked."""

    def __init__(self, process):
        self._process = process

    def asked(self):
        """The next question: name, source port, id, and what is special of it."""
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def nameserver(pid, address, port=53, *, free=False):
    """One in the network namespace of ``pid``; ``free`` where the address may not be there yet."""
    words = [*enter(pid), sys.executable, str(Path(__file__)), address, str(port), str(int(free))]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"listening\n"
        yield Nameserver(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _main(address, port, free):
    def answer(wire, seen, stream):
        question = dns.message.from_wire(wire)
        name = question.question[0].name.to_text()
        response = dns.message.make_response(question, recursion_available=True)
        if name == "big.example.":
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *BIG))
        elif name != "ends.example.":
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", ADDRESS))
        whole = response.to_wire(max_size=65535)
        if len(whole) > 512 and not stream:
            response.answer.clear()
            response.flags |= dns.flags.TC
            whole = response.to_wire()
        if name == "ends.example.":
            whole = whole[:-1]
        if name == "silent.example." or (name == "two.example." and seen == 1):
            return name, []
        if name == "forged.example.":
            other = dns.message.make_response(
                dns.message.make_query("other.example.", "A", id=question.id)
            )
            other.answer.append(
                dns.rrset.from_text("other.example.", 60, "IN", "A", "203.0.113.66")
            )
            liar = dns.message.make_response(question)
            liar.id ^= 1
            liar.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "203.0.113.66"))
            return name, [other.to_wire(), liar.to_wire(), b"\0", whole]
        return name, [whole]

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    seen = {}
    with (
        socket.socket(family, socket.SOCK_DGRAM) as datagrams,
        socket.socket(family, socket.SOCK_STREAM) as streams,
    ):
        for one in (datagrams, streams):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, one is streams)
            one.setsockopt(socket.SOL_IP, 15, free)  # IP_FREEBIND of linux/in.h
            one.bind((address, port))
        streams.listen()
        print("listening", flush=True)
        while True:
            ready, _, _ = select.select([datagrams, streams], [], [])
            for one in ready:
                if one is datagrams:
                    wire, peer = one.recvfrom(65535)
                else:
                    link, peer = one.accept()
                    wire = link.recv(2)
                    wire = link.recv(int.from_bytes(wire))
                key = dns.message.from_wire(wire).question[0].name.to_text()
                seen[key] = seen.get(key, 0) + 1
                name, answers = answer(wire, seen[key], one is streams)
                facts = {
                    "name": name,
                    "port": peer[1],
                    "id": int.from_bytes(wire[:2]),
                    "tcp": one is streams,
                }
                print(json.dumps(facts), flush=True)
                if one is streams:
                    with link:
                        for whole in answers:
                            link.sendall(len(whole).to_bytes(2) + whole)
                else:
                    for whole in answers:
                        one.sendto(whole, peer)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
