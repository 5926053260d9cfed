"""Packets of one vassal as a pcap file: both ways, bounded, and never at the cost of the data plane."""

import os
import signal
import socket
import struct
import subprocess
import sys

import pytest
from empire import Emperor, wait_for
from netlab import HOST, OUTSIDE, ask, server
from netspaces import enter

from donjon.emperor import client
from donjon.errors import DonjonError

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def emperor(tmp_path_factory, lab):
    place = tmp_path_factory.mktemp("capture")
    found = Emperor(place)
    found.start(
        prefix=lab.host.command(),
        network_pool=["192.168.80.0/24"],
        network_nat=True,
        network_ledger=str(place / "ledger"),
    )
    for name, kind in (("a.ini", "tap"), ("b.ini", "tap"), ("n.ini", "none")):
        found.vassal(name, network=kind)
        found.started(name)
    yield found
    assert found.end() == 0, found.log()


BEGUN = "the operator captures packets of"


def vassal(emperor, name):
    return emperor.record(name)[-1]["pid"]


def words(emperor, *more):
    control = ["--control", str(emperor.place / "control")]
    return [sys.executable, "-m", "donjon", "net", "capture", *control, *more]


def begin(emperor, *more):
    """A capture to a file, once it is."""
    before = emperor.log().count(BEGUN)
    process = subprocess.Popen(words(emperor, *more), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: emperor.log().count(BEGUN) > before, "a capture")
    return process


def end(process):
    """What a capture that ends says."""
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said
    return said


def read(path):
    """The lines of tcpdump for a file."""
    done = subprocess.run(
        ["tcpdump", "-n", "-r", str(path)], check=True, capture_output=True, text=True
    )
    assert "link-type RAW" in done.stderr
    assert "truncated" not in done.stderr
    return done.stdout.splitlines()


def send(pid, count, size=1000):
    """Send datagrams from a jail to a port outside where nobody is."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for n in range(int(sys.argv[2])): s.sendto(bytes(int(sys.argv[3])), (sys.argv[1], 9))"
    )
    subprocess.run(
        [*enter(pid), sys.executable, "-c", code, OUTSIDE, str(count), str(size)], check=True
    )


def capturing(emperor, name, **bounds):
    wanted = {"packets": 1000, "bytes": 1 << 20, "seconds": 60, **bounds}
    return client.capturing(name, socket=str(emperor.place / "control"), **wanted)


def test_packets_both_ways_of_one_vassal_are_read_by_tcpdump(emperor, lab):
    a, b = vassal(emperor, "a.ini"), vassal(emperor, "b.ini")
    file = emperor.place / "a.pcap"
    running = begin(emperor, "a.ini", "-w", str(file), "--packets", "6")
    with server(lab.world, OUTSIDE, 7000):
        assert ask(b, OUTSIDE, 7000) == HOST
        while running.poll() is None:
            assert ask(a, OUTSIDE, 7000) == HOST
    assert "6 packets captured, 0 lost" in end(running)
    lines = read(file)
    assert len(lines) == 6
    assert any("IP 192.168.80.2." in line and f"> {OUTSIDE}.7000" in line for line in lines)
    assert any(f"IP {OUTSIDE}.7000 > 192.168.80.2." in line for line in lines)
    assert not [line for line in lines if "192.168.80.3" in line]
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_dropped_on_its_way_out_is_shown_too(emperor):
    a = vassal(emperor, "a.ini")
    with capturing(emperor, "a.ini") as (stream, end_it):
        send_to = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('169.254.169.254', 80))"
        subprocess.run([*enter(a), sys.executable, "-c", send_to], check=True)
        record = stream.recv(65551)
        assert record[16 + 16 : 16 + 20] == socket.inet_aton("169.254.169.254")
        assert struct.unpack_from("=2I", record, 8) == (29, 29)
        assert end_it() == {"ok": True, "captured": 1, "lost": 0}


@pytest.mark.parametrize(("key", "most"), [("packets", 3), ("bytes", 4200)])
def test_a_capture_ends_at_its_bounds(emperor, key, most):
    a = vassal(emperor, "a.ini")
    with capturing(emperor, "a.ini", **{key: most}) as (stream, end_it):
        send(a, 10)
        records = []
        while record := stream.recv(65551):
            records.append(record)
        if key == "packets":
            assert len(records) == most
        else:  # the next one, of 1028 bytes at most, did not fit
            assert most - 1044 < sum(map(len, records)) <= most
        assert end_it()["captured"] == len(records)


def test_one_that_nobody_sends_through_ends_at_its_time(emperor):
    with capturing(emperor, "a.ini", seconds=1) as (stream, end_it):
        stream.settimeout(30)
        assert stream.recv(65551) == b""
        assert end_it()["captured"] == 0


def test_a_reader_that_does_not_read_costs_itself_alone(emperor, lab):
    a = vassal(emperor, "a.ini")
    with capturing(emperor, "a.ini", packets=100_000, bytes=1 << 30) as (_stream, end_it):
        send(a, 30_000)
        with server(lab.world, OUTSIDE, 7000):
            assert ask(a, OUTSIDE, 7000) == HOST
        counts = end_it()
    assert counts["lost"] > 0
    rows = emperor.ask({"verb": "net"})["vassals"]
    (row,) = [one for one in rows if one["name"] == "a.ini"]
    assert row["counters"]["out"]["packets"] > counts["captured"] > 0


def test_one_at_a_time_and_it_ends_with_who_reads(emperor):
    with (
        capturing(emperor, "a.ini"),
        pytest.raises(DonjonError, match=r"packets of a\.ini are captured already"),
    ):
        capturing(emperor, "b.ini").__enter__()
    running = begin(emperor, "b.ini", "-w", "/dev/null")
    running.send_signal(signal.SIGKILL)
    running.communicate()

    def free():
        try:
            with capturing(emperor, "a.ini"):
                return True
        except DonjonError:
            return False

    wait_for(free, "a capture that begins")


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"packets": 0}, "packets of a capture is not a number from 1 to 10000000"),
        ({"seconds": 3601}, "seconds of a capture is not a number from 1 to 3600"),
        ({"bytes": -1}, "bytes of a capture is not a number from 1 to"),
    ],
)
def test_bounds_that_are_none_are_refused(emperor, bounds, reason):
    with pytest.raises(DonjonError, match=reason):
        capturing(emperor, "a.ini", **bounds).__enter__()


def test_who_has_no_port_has_no_packets(emperor):
    done = subprocess.run(words(emperor, "n.ini"), check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "donjon: n.ini has no port of the router" in done.stderr
    assert done.stdout == ""


def test_it_ends_with_the_vassal_and_with_the_router(emperor):
    first = vassal(emperor, "a.ini")
    with capturing(emperor, "a.ini") as (stream, _end):
        stream.settimeout(30)
        os.kill(first, signal.SIGKILL)
        while stream.recv(65551):
            pass
    emperor.started("a.ini", 2)
    with capturing(emperor, "a.ini") as (stream, end_it):
        stream.settimeout(30)
        os.kill(emperor.ask({"verb": "net"})["router"]["pid"], signal.SIGKILL)
        while stream.recv(65551):
            pass
        assert end_it()["ok"] is True
