"""Threads of one worker share what is ready: a slow request delays no other while one is idle."""

import os
import signal
import socket
import threading
import time

import pytest
from wsgi_worker import body_of, everything, one_answer, serving

from donjon.server import _wsgi

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW = GET.replace(b" / ", b" /slow ")
THREADS = 4
NAP = 0.1


class Gate:
    """An application whose slow requests say that they run, and wait to be let go."""

    def __init__(self) -> None:
        self.entered = os.pipe()
        self.leave = os.pipe()

    def __call__(self, environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        if environ["PATH_INFO"] == "/slow":
            os.write(self.entered[1], b"x")
            os.read(self.leave[0], 1)
        return [b"ok"]

    def wait_entered(self, count: int) -> None:
        while count:
            count -= len(os.read(self.entered[0], count))

    def let_go(self, count: int) -> None:
        os.write(self.leave[1], b"x" * count)


@pytest.fixture
def gate():
    made = Gate()
    yield made
    for fd in (*made.entered, *made.leave):
        os.close(fd)


def nap(environ, start_response):
    threading.Event().wait(NAP)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def one_round(socks: list[socket.socket]) -> float:
    """Send a request on each at once; return the seconds until all were answered."""
    started = time.monotonic()
    for sock in socks:
        sock.sendall(GET)
    for sock in socks:
        assert body_of(one_answer(sock)) == b"ok"
    return time.monotonic() - started


@pytest.mark.parametrize("kept", [True, False])
def test_slow_requests_on_as_many_threads_take_one_requests_time(tmp_path, kept):
    with serving(tmp_path, nap, threads=THREADS) as served:
        socks = [served.connect() for _ in range(THREADS)]
        for _ in range(20):
            assert one_round(socks) < 1.6 * NAP
            if not kept:
                for sock in socks:
                    sock.close()
                socks = [served.connect() for _ in range(THREADS)]
        for sock in socks:
            sock.close()


def test_a_kept_connection_does_not_wait_for_its_slow_neighbours(tmp_path, gate):
    with serving(tmp_path, gate, threads=THREADS) as served:
        slow = [served.connect() for _ in range(THREADS - 1)]
        quick = [served.connect() for _ in range(16)]
        for sock in slow + quick:
            sock.sendall(GET)
            one_answer(sock)
        for sock in slow:
            sock.sendall(SLOW)
        gate.wait_entered(len(slow))
        for sock in quick * 5:
            sock.sendall(GET)
            assert body_of(one_answer(sock)) == b"ok"
        with served.connect() as fresh:
            fresh.sendall(GET)
            assert body_of(one_answer(fresh)) == b"ok"
        gate.let_go(len(slow))
        for sock in slow:
            assert body_of(one_answer(sock)) == b"ok"
        for sock in slow + quick:
            sock.close()
        served.wait_counter("connections", 0)


@pytest.mark.parametrize("busy", [THREADS - 1, THREADS])
def test_a_graceful_stop_with_busy_threads_loses_nothing(tmp_path, gate, busy):
    with serving(tmp_path, gate, threads=THREADS) as served:
        slow = [served.connect() for _ in range(busy)]
        for sock in slow:
            sock.sendall(SLOW)
        gate.wait_entered(busy)
        queued = [served.connect() for _ in range(20)]
        for sock in queued:
            sock.sendall(GET)
        signal.pidfd_send_signal(served.pidfd, signal.SIGHUP)
        gate.let_go(busy)
        for sock in slow + queued:
            assert body_of(one_answer(sock)) == b"ok"
            sock.close()
        assert served.wait() == _wsgi.STOPPED


def test_a_quick_stop_wakes_all_threads(tmp_path):
    with serving(tmp_path, threads=THREADS, socket_timeout=60) as served, served.connect() as sock:
        sock.sendall(GET)
        one_answer(sock)
        assert served.stop(signal.SIGINT) == _wsgi.STOPPED


def test_mercy_runs_out_for_all_threads(tmp_path):
    limits = {"threads": THREADS, "socket_timeout": 60, "reload_mercy": 0.2}
    with serving(tmp_path, **limits) as served, served.connect() as sock:
        sock.sendall(b"GET")
        served.wait_counter("connections", 1)
        assert served.stop() == _wsgi.MERCY


def test_max_requests_counts_those_of_all_threads(tmp_path):
    with serving(tmp_path, threads=THREADS, max_requests=30) as served:
        for _ in range(30):
            with served.connect() as sock:
                sock.sendall(GET)
                one_answer(sock)
        assert served.wait() == _wsgi.MAX_REQUESTS
        assert sum(served.counter("requests", core) for core in range(THREADS)) == 30


def test_time_limits_hold_with_one_thread_free(tmp_path, gate):
    limits = {"threads": 2, "socket_timeout": 0.2, "keepalive_timeout": 0.3}
    with serving(tmp_path, gate, **limits) as served:
        slow, idle, late = (served.connect() for _ in range(3))
        slow.sendall(SLOW)
        gate.wait_entered(1)
        idle.sendall(GET)
        assert body_of(one_answer(idle)) == b"ok"
        late.sendall(b"GET / HT")
        assert everything(late).startswith(b"HTTP/1.1 408 ")
        assert everything(idle) == b""
        gate.let_go(1)
        assert body_of(one_answer(slow)) == b"ok"
        for sock in (slow, idle, late):
            sock.close()


def test_a_request_that_waited_for_a_thread_is_not_out_of_time(tmp_path, gate):
    limits = {"threads": 2, "socket_timeout": 0.2, "keepalive_timeout": 0.2}
    with serving(tmp_path, gate, **limits) as served:
        waiting = [served.connect() for _ in range(10)]
        for sock in waiting:
            sock.sendall(GET)
            one_answer(sock)
        slow = [served.connect() for _ in range(2)]
        for sock in slow:
            sock.sendall(SLOW)
        gate.wait_entered(2)
        for sock in waiting:
            sock.sendall(GET)
        threading.Event().wait(0.5)
        gate.let_go(2)
        for sock in slow + waiting:
            assert body_of(one_answer(sock)) == b"ok"
            sock.close()


def test_the_heart_beats_though_the_first_thread_is_busy(tmp_path, gate):
    ours, theirs = socket.socketpair()
    limits = {"threads": 2, "emperor_fd": theirs.fileno(), "heartbeat": 0.05}
    with ours, theirs, serving(tmp_path, gate, **limits) as served, served.connect() as slow:
        ours.settimeout(10)
        slow.sendall(SLOW)
        gate.wait_entered(1)
        assert [ours.recv(1) for _ in range(3)] == [b"\x1a"] * 3
        gate.let_go(1)
        one_answer(slow)


def test_ten_thousand_kept_requests_over_eight_connections(tmp_path):
    def client() -> None:
        with served.connect() as sock:
            for _ in range(125):
                sock.sendall(GET * 10)
                for _ in range(10):
                    answers.append(body_of(one_answer(sock)))

    answers: list[bytes] = []
    with serving(tmp_path, threads=THREADS) as served:
        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert answers == [b"hello"] * 10_000
        served.wait_counter("connections", 0)
        assert served.stop() == _wsgi.STOPPED
