"""One vassal that shouts: on its output, and on the Emperor protocol."""

import os
import time

import hosting
import pytest

from donjon.emperor import logs

LIAR = """#!{python}
import os, socket
link = socket.socket(fileno=int(os.environ["UWSGI_EMPEROR_FD"]))
{act}
"""


@pytest.fixture
def calls(monkeypatch):
    """What is written to the Emperor's log, call by call."""
    made = []
    monkeypatch.setattr(logs, "write_stderr", made.append)
    return made


@pytest.mark.parametrize("data", [b"\n" * 65536, b"x" * 65536, b"\x1b\n" * 32768])
def test_a_flood_of_output_costs_little_and_stays_within_bounds(tmp_path, calls, data):
    log = logs.VassalLog("a.ini", str(tmp_path), lambda: 0.5)
    log._since = 0.1  # the window is open
    for _ in range(1000):
        log.feed(data)
    assert len(calls) <= 300
    assert sum(map(len, calls)) <= 4 * logs.ALLOWANCE + 65536
    assert sum(call.count(b"\n") for call in calls) <= logs.ALLOWANCE // logs.LINE_COST
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3 * logs.FILE_MAX


def test_dropped_lines_are_counted_and_told(calls):
    now = [0.5]
    log = logs.VassalLog("a.ini", None, lambda: now[0])
    for _ in range(10):
        log.feed(b"\n" * 65536)
    now[0] = logs.WINDOW + 1
    log.feed(b"after\n")
    through = logs.ALLOWANCE // logs.LINE_COST
    assert calls[-2:] == [
        b"[emperor] %d lines of a.ini were dropped\n" % (655360 - through),
        b"after\n",
    ]


def test_a_name_that_is_no_utf8_is_told_too(calls):
    now = [0.5]
    log = logs.VassalLog("\udcff.ini", None, lambda: now[0])
    for _ in range(2):
        log.feed(b"\n" * 655360)
    now[0] = 2 * logs.WINDOW
    log.feed(b"after\n")
    assert b"lines of \\udcff.ini were dropped" in calls[-2]


@pytest.mark.root
def test_nothing_of_a_vassal_writes_lines_of_its_own_into_the_emperors_log(host):
    host.vassal("a\n[emperor] forged", "")
    host.vassal("b\x1b[31m", "")
    host.vassal("c", "chdir = /no\x1b[31m/such\n")
    act = "os.write(5, b'bad\\n[emperor] forged\\x1b[2J'); os._exit(1)"
    foreign(host, act)
    hosting.wait_for(lambda: births(host), "the death of the liar")
    hosting.wait_for(lambda: "no\\x1b[31m/such" in host.log(), "the error of c")
    assert "\x1b" not in host.log()
    assert "\n[emperor] forged" not in host.log()


def foreign(host, act):
    """Start an Emperor with an honest vassal and a program of its own that lies."""
    program = host.place / "liar"
    program.write_text(LIAR.format(python=hosting.sys.executable, act=act))
    program.chmod(0o755)
    host.vassal("honest", "")
    host.start("emperor-curse-tolerance = 1\n")
    host.answer("honest")
    host.vassal("liar", f"unprivileged-binary-patch = {program}\n")


def births(host):
    """How often the liar was started."""
    return host.log().count("removed uwsgi instance liar.ini")


def busy(pid, seconds):
    """Which share of a processor a process takes."""
    start = time.monotonic()

    def used():
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    first = used()
    hosting.pause(seconds)
    return (used() - first) / (time.monotonic() - start)


@pytest.mark.root
@pytest.mark.parametrize(
    "act",
    [
        "link.send(bytes([17])); link.send(bytes([22])); link.recv(1)",
        "link.send(bytes([1, 5, 17]))",
        "link.send(bytes([17])); os._exit(0)",
    ],
)
def test_a_vassal_that_leaves_again_and_again_is_no_fork_bomb(host, act):
    foreign(host, act)
    hosting.wait_for(lambda: births(host) >= 1, "first end")
    before = births(host)
    hosting.pause(2.5)
    assert births(host) - before <= 4
    assert host.answer("honest")


@pytest.mark.root
@pytest.mark.parametrize(
    "act",
    [
        "while True: link.send(bytes(range(256)) * 16)",
        "while True: link.send(bytes([1, 5, 17, 26, 2, 30]))",
        "link.shutdown(socket.SHUT_WR)\nwhile link.recv(1): pass",
        "link.send(b'\\xff' * 4096); link.shutdown(socket.SHUT_RD); import signal; signal.pause()",
    ],
)
def test_a_vassal_that_shouts_at_the_emperor_hurts_itself_only(host, act):
    foreign(host, act)
    hosting.wait_for(lambda: host.master("liar") > 0, "liar")
    assert busy(host.pid, 1.0) < 0.3
    assert host.answer("honest")
