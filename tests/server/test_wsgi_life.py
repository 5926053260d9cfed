"""The life of a worker: stopping, limits, counters, the Emperor, log lines, and what it keeps."""

import contextlib
import gc
import os
import re
import select
import signal
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from wsgi_worker import body_of, everything, hello, one_answer, serving

from donjon.server import _wsgi

GET = b"GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


def test_a_worker_without_connections_ends_at_once(tmp_path):
    with serving(tmp_path) as served:
        assert served.stop() == _wsgi.STOPPED
        assert served.counter("accepting") == 0


def test_an_idle_connection_gets_its_next_request_answered_and_then_the_end(tmp_path):
    with serving(tmp_path) as served, served.connect() as sock:
        sock.sendall(GET)
        assert b"Connection: close" not in one_answer(sock)
        signal.pidfd_send_signal(served.pidfd, signal.SIGHUP)
        served.wait_counter("accepting", 0)
        sock.sendall(GET)
        answer = everything(sock)
        assert b"\r\nConnection: close\r\n" in answer
        assert body_of(answer) == b"hello"
        assert served.wait() == _wsgi.STOPPED


def test_a_request_that_was_begun_is_finished(tmp_path):
    with serving(tmp_path) as served, served.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")
        served.wait_counter("connections", 1)
        signal.pidfd_send_signal(served.pidfd, signal.SIGHUP)
        served.wait_counter("accepting", 0)
        sock.sendall(b"bc")
        assert body_of(everything(sock)) == b"hello"
        assert served.wait() == _wsgi.STOPPED


def test_idle_connections_do_not_outlive_their_own_time_limit(tmp_path):
    with serving(tmp_path, keepalive_timeout=0.3) as served, served.connect() as sock:
        sock.sendall(GET)
        one_answer(sock)
        assert served.stop() == _wsgi.STOPPED
        assert everything(sock) == b""


def test_mercy_runs_out(tmp_path):
    with (
        serving(tmp_path, reload_mercy=0.2, socket_timeout=60) as served,
        served.connect() as sock,
    ):
        sock.sendall(b"GET")
        served.wait_counter("connections", 1)
        assert served.stop() == _wsgi.MERCY


def test_a_quick_stop_waits_for_nobody(tmp_path):
    with serving(tmp_path, socket_timeout=60) as served, served.connect() as sock:
        sock.sendall(b"GET")
        served.wait_counter("connections", 1)
        assert served.stop(signal.SIGINT) == _wsgi.STOPPED


def test_connections_in_the_queue_of_a_stopping_worker_are_served(tmp_path):
    gate = os.pipe()

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/wait":
            os.read(gate[0], 1)
        return hello(environ, start_response)

    with serving(tmp_path, application, processes=2) as served:
        socks = [served.connect() for _ in range(5)]
        socks[0].sendall(GET.replace(b"/x", b"/wait"))
        while not served.counter("in_request"):
            pass
        for sock in socks[1:]:
            sock.sendall(GET)
        signal.pidfd_send_signal(served.pidfd, signal.SIGHUP)
        os.write(gate[1], b"x")
        for sock in socks:
            assert body_of(everything(sock)) == b"hello"
            sock.close()
        assert served.wait() == _wsgi.STOPPED
    for fd in gate:
        os.close(fd)


def test_max_requests_ends_the_worker_after_so_many(tmp_path):
    with serving(tmp_path, max_requests=3, protocol="http") as served:
        for _ in range(3):
            assert body_of(served.ask(OLD)) == b"hello"
        assert served.wait() == _wsgi.MAX_REQUESTS
        assert served.counter("requests") == 3


def test_max_requests_says_the_end_on_a_kept_connection(tmp_path):
    with serving(tmp_path, max_requests=3) as served, served.connect() as sock:
        for _ in range(4):
            sock.sendall(GET)
        answers = everything(sock)
        assert answers.count(b"hello") == 4
        assert answers.count(b"Connection: close") == 1
        assert served.wait() == _wsgi.MAX_REQUESTS


def test_max_requests_waits_for_the_shortest_life(tmp_path):
    with serving(tmp_path, max_requests=1, min_lifetime=60) as served:
        for _ in range(3):
            assert body_of(served.ask(OLD)) == b"hello"
        assert served.stop() == _wsgi.STOPPED


def test_the_emperor_hears_of_the_first_answer_once(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, serving(tmp_path, emperor_fd=theirs.fileno()) as served:
        assert not select.select([ours], [], [], 0)[0]
        for _ in range(3):
            served.ask(OLD)
        served.stop()
        theirs.close()
        assert everything(ours) == b"\x11"


def test_the_emperor_hears_the_heart_beat(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, serving(tmp_path, emperor_fd=theirs.fileno(), heartbeat=0.05):
        ours.settimeout(10)
        assert [ours.recv(1) for _ in range(3)] == [b"\x1a"] * 3


def test_the_counters_are_true(tmp_path):
    with serving(tmp_path) as served:
        answers = b"".join(served.ask(OLD) for _ in range(5))
        served.wait_counter("requests", 5)
        served.wait_counter("connections", 0)
        assert served.counter("tx") == len(answers)
        assert served.counter("in_request") == 0
        assert served.counter("exceptions") == 0
        assert served.counter("running_time") > 0
        assert served.counter("last_request") > 1_700_000_000_000_000


def test_a_request_shows_since_when_it_runs(tmp_path):
    gate = os.pipe()

    def application(environ, start_response):
        os.read(gate[0], 1)
        return hello(environ, start_response)

    with serving(tmp_path, application) as served, served.connect() as sock:
        sock.sendall(GET)
        while not (since := served.counter("in_request")):
            pass
        os.write(gate[1], b"x")
        one_answer(sock)
        served.wait_counter("in_request", 0)
        assert since > 0
    for fd in gate:
        os.close(fd)


LINE = re.compile(
    r"^\[pid: (?P<pid>\d+)\|app: 0\|req: 2/2\] 127\.0\.0\.1 \(\) \{(?P<vars>\d+) vars in (?P<bytes>\d+)"
    r" bytes\} \[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] GET /x\?y => generated 5 bytes in \d+ msecs"
    r" \(HTTP/1\.1 200\) 1 headers in 64 bytes \(1 switches on core 0\)$",
    re.M,
)


def test_the_log_line_is_that_of_the_original(tmp_path):
    with serving(tmp_path, log=True) as served, served.connect() as sock:
        for _ in range(2):
            sock.sendall(GET)
            one_answer(sock)
        served.stop(signal.SIGINT)
        found = LINE.search(served.text())
        assert found, served.text()
        assert int(found["pid"]) == served.pid
        assert int(found["vars"]) == 22  # keys and values of 11 variables


def test_log_format(tmp_path):
    text = (
        "%(method) %(uri) %(proto) %(status) %(rsize) %(addr) %(host) %(uagent) %(nothing) %(user)"
        " %(var.HTTP_X_Y) %(var.NONE) wid=%(wid) 100% %(("
    )
    with (
        serving(tmp_path, log=True, log_format=text, worker_id=7) as served,
        served.connect() as sock,
    ):
        sock.sendall(GET[:-2] + b"User-Agent: me\r\nX-Y: \xe9\x80z\r\n\r\n")
        one_answer(sock)
        served.stop(signal.SIGINT)
        assert served.log.read_bytes() == (
            b"GET /x?y HTTP/1.1 200 5 127.0.0.1 a me - - \xe9\x80z - wid=7 100% %((\n"
        )


def test_the_forwarded_address_is_logged_when_asked(tmp_path):
    options = {"log": True, "log_format": "%(addr)", "log_x_forwarded_for": True}
    with serving(tmp_path, **options) as served, served.connect() as sock:
        sock.sendall(GET[:-2] + b"X-Forwarded-For: 192.0.2.7\r\n\r\n")
        one_answer(sock)
        served.stop(signal.SIGINT)
        assert served.text() == "192.0.2.7\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"listeners": [(0, "spdy", "", 0)]}, ValueError),
        ({"listeners": [5]}, TypeError),
        ({"listeners": [(-1, "http", "", 0)]}, OSError),
        ({"listeners": [("x", "http", "", 0)]}, TypeError),
        ({"applications": ["x"]}, TypeError),
        ({"threads": 0}, ValueError),
        ({"processes": 0}, ValueError),
        ({"buffer_size": 10}, ValueError),
        ({"socket_timeout": 0}, ValueError),
        ({"stats": bytearray(64)}, ValueError),
        ({"stats": bytes(128)}, BufferError),
        ({"totals": bytearray(1)}, ValueError),
        ({"unknown": 1}, TypeError),
        ({"version": "text"}, TypeError),
    ],
)
def test_bad_arguments_are_exceptions(arguments, error):
    with pytest.raises(error):
        _wsgi.Worker(**arguments)


def test_a_socket_that_does_not_listen_is_refused():
    with socket.socket() as sock, pytest.raises(ValueError, match="does not listen"):
        _wsgi.Worker(listeners=[(sock.fileno(), "http", "", 0)])


def test_a_core_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no core 1"):
        _wsgi.Worker().serve(1)


def test_workers_that_are_made_and_dropped_leave_nothing():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        worker = _wsgi.Worker(threads=3, applications=[("/a", hello)])
        worker.stop()
        assert worker.serve() == _wsgi.STOPPED
        del worker
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _every_way(environ, start_response):
    """An application that takes each path of the server, chosen by the request's path."""
    path = environ["PATH_INFO"]
    environ["wsgi.input"].read()
    if path == "/error":
        raise ValueError(path)
    write = start_response("200 OK", [("X-Header", path)])
    if path == "/write":
        write(b"x" * 100)
        return []
    if path == "/generator":
        return (b"x" * 100 for _ in range(3))
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return [b"x" * 30_000]


PATHS = ("/", "/error", "/write", "/generator", "/file", "/%c3%a9", "/bad%")


def _round(served, number: int) -> None:
    """One connection that takes each path, as keep-alive and with bodies of both kinds."""
    for path in PATHS:
        head = f"POST {path}?{number} HTTP/1.1\r\nHost: a\r\nX-New-{number % 300}: {number}\r\n"
        with served.connect() as sock:
            sock.sendall(f"{head}Content-Length: 5\r\n\r\nhello".encode())
            sock.sendall(
                f"{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".encode()
            )
            with contextlib.suppress(ConnectionResetError):  # closed with our second one unread
                everything(sock)


def test_no_leak_of_memory_or_descriptors_in_any_path(tmp_path):
    with serving(tmp_path, _every_way) as served:
        for number in range(100):
            _round(served, number)
        served.wait_counter("connections", 0)
        descriptors = len(os.listdir(f"/proc/{served.pid}/fd"))
        before = _resident(served.pid)
        for number in range(400):
            _round(served, number)
        served.wait_counter("connections", 0)
        assert len(os.listdir(f"/proc/{served.pid}/fd")) == descriptors
        assert _resident(served.pid) - before < 1 << 20


@pytest.mark.wrk
def test_no_leak_of_memory_in_twenty_thousand_requests(tmp_path):
    with serving(tmp_path) as served:
        url = f"http://127.0.0.1:{served.address[1]}/"
        load = ["wrk", "-t1", "-c16", "-d1", url]
        subprocess.run(load, check=True, capture_output=True)
        before = _resident(served.pid)
        out = subprocess.run(load, check=True, capture_output=True, text=True).stdout
        assert "errors" not in out
        assert served.counter("requests") > 20_000
        assert _resident(served.pid) - before < 1 << 19


def test_a_storm_of_bad_requests_leaves_a_worker_that_serves(tmp_path):
    with serving(tmp_path, socket_timeout=1) as served:
        for number in range(300):
            with served.connect() as sock:
                junk = struct.pack("I", number * 2654435761 % 2**32) * (number % 50 + 1)
                sock.sendall([b"GET / HTTP/1.1\r\n", b"POST /", b""][number % 3] + junk)
                if number % 2:
                    sock.shutdown(socket.SHUT_WR)
        assert body_of(served.ask(OLD)) == b"hello"
        served.wait_counter("connections", 0)
