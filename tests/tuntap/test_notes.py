"""What rules with ``log`` note, and that it holds nothing up."""

import select
import time

import pytest
from netspaces import four
from routed import routed

from donjon.tuntap import notes
from donjon.tuntap.notes import Note
from donjon.tuntap.rules import compile_rules, parse

LOGGING = """
policy in accept
out tcp dport 81 log prefix "web" drop
out udp dport 9 log
out accept
in icmp type echo-reply log accept
"""


@pytest.fixture
def router():
    with routed() as one:
        yield one


def ruled(router, text=LOGGING):
    compiled = compile_rules(parse(text, "rules"))
    router.client.rules(compiled.table)
    return notes.labels(compiled)


def send(space, count=1):
    """Send datagrams; an answer that nobody is there does not end it."""
    text = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"[s.sendto(b'x', ('{four(1)}', 9)) for _ in range({count})]"
    )
    space.run("/usr/bin/python3", "-c", text)


def connect(space, port):
    text = (
        "import socket; s = socket.socket(); s.setblocking(False);"
        f"s.connect_ex(('{four(1)}', {port}))"
    )
    space.run("/usr/bin/python3", "-c", text)


def noted(router, labels, enough):
    """The lines, once ``enough`` says so of them."""
    found, end = [], time.monotonic() + 20
    while not enough(found):
        assert time.monotonic() < end, found
        select.select([router.client.notes], [], [], 0.1)
        names = router.client.names()
        found += [notes.line(one, labels, names) for one in router.client.noted()]
    return found


@pytest.mark.root
def test_a_packet_is_one_line_with_jail_ends_and_verdict(router):
    jail = router.jail(2)
    labels = ruled(router)
    connect(jail, 81)
    lines = noted(router, labels, lambda found: found)
    assert lines[0].startswith(f"packet out of 2: tcp {four(2)}:")
    assert lines[0].endswith(f" > {four(1)}:81, 60 bytes: drop (rules:3 web)")
    send(jail)
    lines = noted(router, labels, lambda found: any("udp" in one for one in found))
    (line,) = [one for one in lines if "udp" in one]
    assert line.endswith(f" > {four(1)}:9, 29 bytes: accept (rules:4)")
    jail.run("ping", "-c", "1", four(1), check=False)
    router.host.run("ping", "-c", "1", four(2), check=False)
    lines = noted(router, labels, lambda found: any("icmp" in one for one in found))
    expected = f"packet in to 2: icmp {four(1)} > {four(2)}, type 0 code 0, 84 bytes: accept"
    assert [one for one in lines if "icmp" in one] == [f"{expected} (rules:6)"]


@pytest.mark.root
def test_of_a_flood_ten_are_written_and_the_rest_is_counted(router):
    jail = router.jail(2)
    labels = ruled(router)
    send(jail, 300)

    def seen(lines):
        single = sum("udp" in one for one in lines)
        return single + sum(int(one.split()[0]) for one in lines if "more packets" in one)

    lines = noted(router, labels, lambda found: seen(found) == 300)
    assert 10 <= sum("udp" in one for one in lines) < 300
    assert any("more packets matched rules:4" in one for one in lines)
    counted = router.client.counters().totals["notes_lost"]
    assert counted == 300 - sum("udp" in one for one in lines)


@pytest.mark.root
def test_notes_that_nobody_reads_hold_no_packet_up(router):
    jail = router.jail(2)
    ports = range(1, 1500)
    rules = "".join(f"out udp dport {port} log\n" for port in ports)
    ruled(router, f"policy in accept\npolicy out accept\n{rules}")
    text = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"[s.sendto(b'x', ('{four(1)}', port)) for _ in range(10) for port in range(1, 1500)]"
    )
    end = time.monotonic() + 30
    while router.client.counters().totals["notes_lost"] == 0:  # not all may arrive
        assert time.monotonic() < end
        jail.run("/usr/bin/python3", "-c", text, check=False)
    jail.run("ping", "-c", "10", "-i", "0.1", "-w", "20", four(1))  # raises without an answer


@pytest.mark.root
def test_notes_go_on_with_the_next_router(router):
    jail = router.jail(2)
    labels = ruled(router)
    router.restart()
    send(jail)
    assert "udp" in noted(router, labels, lambda found: found)[0]


def test_a_name_cannot_begin_a_line_of_its_own_or_speak_to_a_terminal():
    note = Note(rule=1, more=0, packet="udp", port=2, out=True, verdict="drop")
    line = notes.line(note, {1: "rules\x1b[2J:3"}, {2: "a\nb"})
    assert line == "packet out of a\\x0ab: udp: drop (rules\\x1b[2J:3)"


@pytest.mark.parametrize("size", [1, 119, 121, 65 * 120])
def test_what_is_no_array_of_notes_says_nothing(size):
    assert list(notes.read(bytes(size))) == []


def test_numbers_that_mean_nothing_say_nothing():
    assert next(notes.read(b"\xff" * 16 + bytes(104))).more == 2**64 - 1
    assert list(notes.read(bytes(16) + b"\xff" * 104)) == []
    assert list(notes.read(bytes(120))) == []
