"""What a master does besides its workers: FIFO, statistics, mules, gateways, daemons, pid files."""

import array
import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import pytest
import serving
from serving import Instance, alive, children, read_all, release, wait_for


@pytest.fixture
def instance(tmp_path: Path):
    made = Instance(tmp_path)
    yield made
    made.clean()


# -- FIFO


def test_the_fifo_is_for_its_owner_only_and_gone_at_the_end(instance, tmp_path):
    fifo = tmp_path / "fifo"
    instance.start(master_fifo=[str(fifo)])
    instance.answer()
    found = fifo.stat()
    assert stat.S_ISFIFO(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert instance.stop() == 0
    assert not fifo.exists()


def test_several_letters_in_one_write_and_unknown_ones(instance, tmp_path):
    fifo = tmp_path / "fifo"
    instance.start(master_fifo=[str(fifo)])
    before = instance.answer().split()[1]
    fifo.write_text("?zsr")
    wait_for(lambda: instance.get().split()[1] != before, "the reload")
    assert re.search(r"workers total requests: [1-9]", instance.text())
    fifo.write_text("Q")
    assert instance.wait() == 0


def test_w_renews_the_workers_and_keeps_the_generation(instance, tmp_path):
    fifo = tmp_path / "fifo"
    instance.start(master_fifo=[str(fifo)])
    before = instance.answer().split()[1]
    fifo.write_text("w")
    wait_for(lambda: instance.get().split()[1] != before, "a new worker")
    assert "serves" not in instance.text()


def test_a_digit_chooses_the_name_of_the_next_fifo(instance, tmp_path):
    first, second = tmp_path / "fifo0", tmp_path / "fifo1"
    instance.start(master_fifo=[str(first), str(second)])
    instance.answer()
    assert not second.exists()
    first.write_text("1")
    wait_for(lambda: second.exists() and not first.exists(), "the second fifo")
    second.write_text("q")
    assert instance.wait() == 0


# -- statistics


def test_statistics_have_the_keys_that_tools_read(instance, tmp_path):
    path = tmp_path / "stats"
    instance.start(stats=str(path), processes=2, threads=2)
    for _ in range(3):
        instance.answer()
    wait_for(lambda: sum(w["requests"] for w in json.loads(read_all(path))["workers"]) == 3, "3")
    found = json.loads(read_all(path))
    assert found["pid"] == instance.pid
    assert {"version", "listen_queue", "load", "uid", "gid", "cwd", "locks"} <= found.keys()
    (sock,) = found["sockets"]
    assert sock["name"] == f"127.0.0.1:{instance.port}"
    assert sock["max_queue"] == 100
    one, two = found["workers"]
    assert (one["id"], two["id"]) == (1, 2)
    assert one["status"] == "idle"
    assert one["respawn_count"] == 1
    assert one["rss"] > 0
    assert len(one["cores"]) == 2
    assert {w["pid"] for w in found["workers"]} == set(children(instance.pid))
    assert one["apps"][0]["modifier1"] == 0


def test_counters_survive_a_worker_that_is_replaced(instance, tmp_path):
    path = tmp_path / "stats"
    instance.start(stats=str(path))
    instance.answer()
    os.kill(children(instance.pid)[0], signal.SIGKILL)
    wait_for(lambda: json.loads(read_all(path))["workers"][0]["respawn_count"] == 2, "the respawn")
    instance.answer()
    worker = wait_for(
        lambda: [w for w in json.loads(read_all(path))["workers"] if w["requests"] == 2], "2"
    )[0]
    assert worker["delta_requests"] == 1


def test_statistics_over_http_and_in_one_line(instance, tmp_path):
    path = tmp_path / "stats"
    instance.start(stats=str(path), stats_http=True, stats_minified=True)
    instance.answer()
    head, _, body = read_all(path).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"\n" not in body
    json.loads(body)


def test_a_busy_worker_is_shown_as_such(instance, tmp_path):
    path, held = tmp_path / "stats", tmp_path / "held"
    instance.start(stats=str(path))
    instance.answer()
    with socket.create_connection(("127.0.0.1", instance.port), 5) as sock:
        sock.sendall(f"GET /hold/{held} HTTP/1.0\r\n\r\n".encode())
        wait_for(held.exists, "the request")
        worker = json.loads(read_all(path))["workers"][0]
        assert worker["status"] == "busy"
        assert worker["cores"][0]["in_request"] == 1
        release(held)
        sock.recv(4096)


def test_a_client_that_does_not_read_does_not_stop_the_master(instance, tmp_path):
    path = tmp_path / "stats"
    instance.start(stats=str(path), processes=2)
    instance.answer()
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(path))
        instance.send(signal.SIGHUP)
        wait_for(lambda: "serves" in instance.text(), "the reload")


# -- parts


def test_a_mule_runs_its_file_and_comes_back(instance, tmp_path):
    script, mark = tmp_path / "mule.py", tmp_path / "mark"
    script.write_text(
        f"import os, signal, uwsgi\nopen({str(mark)!r}, 'a').write(f'{{uwsgi.mule_id()}} {{os.getpid()}}\\n')\n"
        "signal.pause()\n"
    )
    instance.start(mules=[str(script)])
    instance.answer()
    wait_for(mark.exists, "the mule")
    number, pid = wait_for(mark.read_text, "its line").split()
    assert number == "1"
    assert int(pid) in children(instance.pid)
    assert "as-mule" in instance.phases()
    os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: len(mark.read_text().splitlines()) == 2, "the mule again")
    assert instance.stop() == 0


def test_a_plain_mule_and_a_gateway_are_children_of_the_master(instance):
    port = serving.free_port()
    instance.start(mules=[""], routers=[[f"127.0.0.1:{port}", "http"]])
    instance.answer()
    wait_for(lambda: {"as-mule", "as-gateway"} <= set(instance.phases()), "both hooks")
    rows = [line.split() for line in instance.journal.read_text().splitlines()]
    pids = {int(pid) for name, pid in rows if name in {"as-mule", "as-gateway"}}
    assert pids <= set(children(instance.pid))
    assert instance.get(port=port).startswith("one")


def test_an_attached_daemon_is_brought_back_and_ends_with_the_master(instance, tmp_path):
    mark = tmp_path / "mark"
    command = f"/bin/sh -c 'echo $$ >> {mark}; exec sleep 1000'"
    instance.start(daemons=[[command, "attach-daemon"]])
    instance.answer()
    first = int(wait_for(lambda: mark.exists() and mark.read_text().split(), "its line")[0])
    assert first in children(instance.pid)
    assert os.getsid(first) == first
    os.kill(first, signal.SIGKILL)
    second = int(wait_for(lambda: mark.read_text().split()[1:], "the daemon again")[0])
    instance.send(signal.SIGKILL)
    instance.wait()
    wait_for(lambda: not alive(second), "its end with the master")


def test_a_daemon_is_stopped_with_the_signal_it_asked_for(instance, tmp_path):
    mark = tmp_path / "mark"
    script = tmp_path / "daemon.sh"
    script.write_text(
        f"trap 'echo got-usr1 >> {mark}; exit' USR1\necho up >> {mark}\nwhile :; do sleep 0.05; done\n"
    )
    instance.start(daemons=[[f"cmd=sh {script},stopsignal=10", "attach-daemon2"]])
    instance.answer()
    wait_for(mark.exists, "the daemon")
    assert instance.stop() == 0
    assert mark.read_text() == "up\ngot-usr1\n"


def test_the_end_of_a_control_daemon_is_the_end_of_the_instance(instance):
    instance.start(daemons=[["sleep 0.3", "attach-control-daemon"]])
    assert instance.wait() == 0


def test_a_reload_restarts_parts(instance, tmp_path):
    mark = tmp_path / "mark"
    instance.start(daemons=[[f"/bin/sh -c 'echo up >> {mark}; exec sleep 1000'", "attach-daemon"]])
    instance.answer()
    wait_for(mark.exists, "the daemon")
    instance.send(signal.SIGHUP)
    wait_for(lambda: mark.read_text() == "up\nup\n", "the daemon again")
    wait_for(lambda: len(children(instance.pid)) == 2, "one worker and one daemon")


# -- files


def test_safe_pidfile_holds_the_pid_of_the_master(instance, tmp_path):
    path = tmp_path / "pid"
    instance.start(safe_pidfile=str(path))
    instance.answer()
    assert path.read_text() == f"{instance.pid}\n"


# -- the Emperor's proxy


def test_the_control_socket_is_given_away(instance, tmp_path):
    path = tmp_path / "proxy"
    emperor, vassal = socket.socketpair()
    with emperor:
        instance.start(emperor=vassal, emperor_proxy_socket=str(path), chmod_socket=0o666)
        vassal.close()
        instance.answer()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            data, rights, _, _ = client.recvmsg(64, socket.CMSG_SPACE(8))
        assert data == b"uwsgi-emperor" + (1).to_bytes(4, "little")
        fds = array.array("i", rights[0][2][:4])
        emperor.settimeout(5)
        assert emperor.recv(2) == b"\x01\x05"
        emperor.recv(1)
        with socket.socket(fileno=fds[0]) as taken:
            taken.send(b"\x1a")
            assert emperor.recv(1) == b"\x1a"
