"""Statistics and the control socket."""

import contextlib
import json
import os
import signal
import socket
import subprocess

import pytest
from empire import alive, wait_for

from donjon.emperor import client
from donjon.errors import DonjonError

pytestmark = pytest.mark.root

TOP = ["version", "pid", "uid", "gid", "cwd", "emperor", "emperor_tyrant", "throttle_level"]
VASSAL = [
    "id",
    "pid",
    "born",
    "last_mod",
    "last_heartbeat",
    "loyal",
    "ready",
    "accepting",
    "last_loyal",
    "last_ready",
    "last_accepting",
    "first_run",
    "last_run",
    "cursed",
    "zerg",
    "on_demand",
    "uid",
    "gid",
    "monitor",
    "respawns",
]
BLACKLIST = ["id", "throttle_level", "attempt", "first_attempt", "last_attempt"]


def control(emperor):
    return str(emperor.place / "control")


def test_statistics_have_the_keys_of_the_original_first(emperor):
    emperor.start()
    emperor.vassal("a.ini", say="1,5,17,26")
    emperor.vassal("bad.ini", then="exit 1", say="")
    emperor.said("vassal a.ini is now loyal")
    wait_for(lambda: emperor.stats()["blacklist"], "the blacklist")
    document = emperor.stats()
    assert list(document) == [*TOP, "vassals", "blacklist", "ksm"]
    row = emperor.row("a.ini")
    assert list(row)[: len(VASSAL)] == VASSAL
    assert list(document["blacklist"][0]) == BLACKLIST
    assert document["emperor"] == [str(emperor.vassals)]
    assert (row["loyal"], row["ready"], row["accepting"]) == (1, 1, 1)
    assert row["last_heartbeat"] > 0
    assert row["last_mod"] == int((emperor.vassals / "a.ini").stat().st_mtime)


def test_statistics_over_http(emperor):
    emperor.start(stats_http=True)
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(emperor.place / "stats"))
        link.sendall(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = b"".join(iter(lambda: link.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\nConnection: close\r\n")
    assert json.loads(body)["pid"] == emperor.process.pid


def test_a_client_that_reads_nothing_holds_nobody_up(emperor):
    emperor.start()
    emperor.vassal("a.ini")
    with contextlib.ExitStack() as idle:
        for _ in range(80):
            link = idle.enter_context(socket.socket(socket.AF_UNIX))
            link.connect(str(emperor.place / "control"))
        emperor.started("a.ini")
        assert emperor.stats()["pid"] == emperor.process.pid


def test_the_operator_sees_stops_and_starts_a_vassal(emperor):
    emperor.start()
    emperor.vassal("a.ini", marker="m")
    pid = emperor.started("a.ini")["pid"]
    emperor.said("is ready to accept")
    row = client.ask("ls", socket=control(emperor))["vassals"][0]
    assert (row["name"], row["pid"], row["state"]) == ("a.ini", pid, "running")
    shown = client.ask("show", name="a", socket=control(emperor))["vassal"]
    assert shown["argv"] == ["donjon", "--ini", "a.ini"]
    assert {"key": "marker", "value": "m"}.items() <= next(
        entry for entry in shown["entries"] if entry["key"] == "marker"
    ).items()
    client.ask("stop", name="a.ini", socket=control(emperor))
    wait_for(lambda: not alive(pid), "end of the vassal")
    emperor.vassal("a.ini", marker="changed")
    wait_for(lambda: emperor.row("a.ini")["state"] == "stopped", "stopped")
    client.ask("start", name="a.ini", socket=control(emperor))
    assert emperor.started("a.ini", 2)["marker"] == "changed"
    emperor.said("is ready to accept")
    wait_for(lambda: emperor.row("a.ini")["ready"], "ready")
    client.ask("reload", name="a.ini", socket=control(emperor))
    wait_for(lambda: emperor.record("a.ini", "launch"), "reload")


def test_logs_are_kept_followed_and_cleaned_of_escapes(emperor):
    emperor.start(log_directory=str(emperor.place / "logs"))
    emperor.vassal("a.ini", speak="one\x1b[31m")
    emperor.started("a.ini")
    wait_for(lambda: client.ask("logs", name="a.ini", socket=control(emperor))["lines"], "a line")
    stream = client.follow("a.ini", socket=control(emperor))
    assert next(stream) == r"one\x1b[31m"
    emperor.vassal("a.ini", fail="a second one", marker="x")
    emperor.send(signal.SIGHUP)
    stream.close()
    text = (emperor.place / "logs" / "a.ini.log").read_text()
    assert text.endswith("one\\x1b[31m\n")


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b"[]\n", b'{"verb": 1}\n', b'{"verb": "eat"}\n', b"[" * 3000 + b"\n"],
)
def test_what_is_no_request_is_answered_so(emperor, line):
    emperor.start()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(control(emperor))
        link.sendall(line)
        answer = json.loads(link.makefile("rb").readline())
    assert answer["ok"] is False


def test_a_status_that_is_no_number_does_not_end_the_emperor(emperor):
    emperor.start()
    emperor.vassal("a.ini")
    emperor.started("a.ini")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(control(emperor))
        link.sendall(b'{"verb": "left", "name": "a.ini", "seconds": 1, "status": Infinity}\n')
        with link.makefile("rb") as answers:
            assert json.loads(answers.readline())["error"] == "not a request"


def test_an_unknown_vassal_is_named_with_those_there_are(emperor):
    emperor.start()
    emperor.vassal("a.ini")
    emperor.started("a.ini")
    with pytest.raises(DonjonError, match=r"no vassal b.*known are: a\.ini"):
        client.ask("show", name="b", socket=control(emperor))


def test_a_line_without_end_is_cut_off(emperor):
    emperor.start()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(control(emperor))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            link.sendall(b"x" * 4_000_000)


def test_nobody_but_root_may_ask(emperor):
    path = f"/tmp/donjon-test-{os.getpid()}.sock"
    emperor.start(wait=False, control=path)
    wait_for(lambda: os.path.exists(path), "the socket")
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.chmod(path, 0o666)  # even then
    program = (
        "import os, socket, sys; os.setgid(33); os.setuid(33); s = socket.socket(socket.AF_UNIX);"
        's.connect(sys.argv[1]); s.sendall(b\'{"verb": "ls"}\\n\'); print(s.recv(10))'
    )
    result = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", program, path], capture_output=True, check=False
    )
    assert b"vassals" not in result.stdout
    emperor.said("refused a control connection of uid 33")
    assert emperor.end() == 0
    assert not os.path.exists(path)


def test_no_emperor_is_a_clear_error(tmp_path):
    with pytest.raises(DonjonError, match="is an Emperor running"):
        client.ask("ls", socket=str(tmp_path / "none"))


def test_descriptors_sent_to_the_control_socket_are_closed(emperor):
    emperor.start()
    before = len(os.listdir(f"/proc/{emperor.process.pid}/fd"))
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(control(emperor))
        socket.send_fds(link, [b'{"verb": "ls"}\n'], [0] * 200)
        link.makefile("rb").readline()
    wait_for(
        lambda: len(os.listdir(f"/proc/{emperor.process.pid}/fd")) == before, "closed descriptors"
    )
