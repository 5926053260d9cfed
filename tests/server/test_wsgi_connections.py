"""Connections: keep-alive, pipelining, framing, and clients that are slow or gone."""

import os
import socket
import struct
import time

import pytest
from wsgi_worker import body_of, everything, one_answer, payload_of, serving, status_of

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


def test_http_ends_the_connection_and_adds_no_header(tmp_path):
    with serving(tmp_path, protocol="http") as served:
        for version in (b"1.0", b"1.1"):
            answer = served.ask(GET.replace(b"1.1", version))
            assert (
                answer == b"HTTP/" + version + b" 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"
            )


def test_http11_keeps_the_connection(tmp_path):
    with serving(tmp_path) as served, served.connect() as sock:
        for _ in range(5):
            sock.sendall(GET)
            answer = one_answer(sock)
            assert answer == (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
            )
        assert served.counter("connections") == 1


@pytest.mark.parametrize(
    "request_",
    [OLD, GET[:-2] + b"Connection: close\r\n\r\n", GET[:-2] + b"Connection: x, CLOSE\r\n\r\n"],
)
def test_http11_ends_the_connection_when_asked(tmp_path, request_):
    with serving(tmp_path) as served:
        answer = served.ask(request_)
        assert b"\r\nConnection: close\r\n" in answer
        assert body_of(answer) == b"hello"


def test_pipelined_requests_are_answered_in_order(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]

    with serving(tmp_path, application) as served, served.connect() as sock:
        requests = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(500)]
        requests[3] = b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n GET "
        requests[7] = (
            b"POST /7 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        sock.sendall(b"".join(requests))
        for i in range(500):
            body = {3: b"/3 GET ", 7: b"/7abc"}.get(i, b"/%d" % i)
            assert body_of(one_answer(sock)) == body


def test_a_request_may_come_byte_by_byte(tmp_path):
    with serving(tmp_path) as served, served.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GET + GET:
            sock.sendall(bytes([byte]))
        assert body_of(one_answer(sock)) == b"hello"
        assert body_of(one_answer(sock)) == b"hello"


def test_pipelined_bytes_after_the_last_request_do_not_cost_the_answer(tmp_path):
    with serving(tmp_path, protocol="http") as served, served.connect() as sock:
        sock.sendall(GET * 100)
        assert body_of(everything(sock)) == b"hello"


def chunks(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    yield b""
    yield b"two"


def test_a_body_of_unknown_length_is_chunked_and_the_connection_kept(tmp_path):
    with serving(tmp_path, chunks) as served, served.connect() as sock:
        sock.sendall(GET + GET[:-2] + b"Connection: close\r\n\r\n")
        first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        answers = everything(sock)
        assert answers.startswith(first)
        assert payload_of(answers[len(first) :]) == b"onetwo"


def test_http_10_gets_no_chunks_but_the_end_of_the_connection(tmp_path):
    with serving(tmp_path, chunks) as served:
        assert body_of(served.ask(OLD)) == b"onetwo"


def test_several_chunks_in_a_list_have_a_known_length(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [])
        return (b"one", b"", b"two")

    with serving(tmp_path, application) as served, served.connect() as sock:
        sock.sendall(GET)
        assert one_answer(sock) == b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nonetwo"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_body_has_none(tmp_path, status):
    def application(environ, start_response):
        start_response(status, [])
        return [b"ignored"]

    with serving(tmp_path, application) as served, served.connect() as sock:
        sock.sendall(GET + GET[:-2] + b"Connection: close\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\n".encode()
        assert everything(sock) == head + b"\r\n" + head + b"Connection: close\r\n\r\n"


def test_head_on_http11_has_the_length_and_no_body(tmp_path):
    with serving(tmp_path) as served, served.connect() as sock:
        sock.sendall(GET.replace(b"GET", b"HEAD") + GET)
        answers = b""
        while not answers.endswith(b"hello"):
            answers += sock.recv(4096)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
        assert answers == head + head + b"hello"


def test_head_on_http_sends_what_the_application_gives(tmp_path):
    with serving(tmp_path, protocol="http") as served:
        assert body_of(served.ask(GET.replace(b"GET", b"HEAD"))) == b"hello"


def declares(length, *body):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", str(length))])
        return list(body)

    return application


def test_more_bytes_than_announced_are_not_sent(tmp_path):
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with serving(tmp_path, declares(2, b"o", b"k" + evil)) as served, served.connect() as sock:
        sock.sendall(GET + GET)
        assert body_of(one_answer(sock)) == b"ok"
        assert body_of(one_answer(sock)) == b"ok"


def test_fewer_bytes_than_announced_end_the_connection(tmp_path):
    with serving(tmp_path, declares(10, b"short")) as served, served.connect() as sock:
        sock.sendall(GET)
        assert body_of(everything(sock)) == b"short"


def test_an_applications_own_coding_is_passed_on_and_ends_the_connection(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [("Transfer-Encoding", "chunked")])
        return [b"1\r\nx\r\n0\r\n\r\n"]

    with serving(tmp_path, application) as served:
        answer = served.ask(GET)
        assert answer.count(b"Transfer-Encoding") == 1
        assert b"\r\nConnection: close\r\n" in answer
        assert payload_of(answer) == b"x"


def test_an_application_can_end_the_connection(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [("Connection", "close")])
        return [b"bye"]

    with serving(tmp_path, application) as served:
        answer = served.ask(GET)
        assert answer.count(b"Connection: close") == 1
        assert body_of(answer) == b"bye"


BIG = 20 << 20


def big(environ, start_response):
    """20 MiB in the form that the path asks for."""
    block = bytes(range(256)) * 4096
    start_response("200 OK", [("Content-Length", str(BIG))])
    if environ["PATH_INFO"] == "/one":
        return [block * 20]
    if environ["PATH_INFO"] == "/list":
        return [block] * 20
    return (block for _ in range(20))


@pytest.mark.parametrize("form", ["one", "list", "generator"])
@pytest.mark.parametrize("protocol", ["http", "http11"])
def test_a_big_answer_arrives_whole(tmp_path, form, protocol):
    with serving(tmp_path, big, protocol) as served:
        answer = served.ask(
            f"GET /{form} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        )
        body = body_of(answer)
        assert len(body) == BIG
        assert body[-4096:] == (bytes(range(256)) * 16)


@pytest.mark.parametrize("form", ["one", "list"])
def test_a_reader_that_does_not_read_does_not_stop_the_others(tmp_path, form):
    with serving(tmp_path, big, socket_timeout=30) as served, served.connect() as slow:
        slow.sendall(f"GET /{form} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        served.wait_counter("requests", 1)
        started = time.monotonic()
        with served.connect() as quick:
            quick.sendall(b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert len(body_of(everything(quick))) == BIG
        assert time.monotonic() - started < 5
        assert len(body_of(one_answer(slow))) == BIG


def test_a_generator_waits_for_a_slow_reader_and_gives_it_up_in_time(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [])
        try:
            while True:
                yield bytes(1 << 16)
        finally:
            os.write(2, b"generator closed\n")

    with serving(tmp_path, application, socket_timeout=0.3) as served:
        with served.connect() as slow:
            slow.sendall(GET)
            served.wait_counter("requests", 1)
        assert "generator closed" in served.text()
        assert served.counter("write_errors") == 1


def test_a_client_that_resets_costs_nothing(tmp_path):
    with serving(tmp_path, big) as served:
        for _ in range(20):
            sock = served.connect()
            sock.sendall(b"GET /generator HTTP/1.1\r\nHost: a\r\n\r\n")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        with served.connect() as sock:
            sock.sendall(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
            assert len(body_of(one_answer(sock))) == BIG
        served.wait_counter("connections", 0)


def test_a_slow_head_ends_with_408(tmp_path):
    with serving(tmp_path, socket_timeout=0.2) as served, served.connect() as sock:
        sock.sendall(b"GET / HT")
        assert status_of(everything(sock)) == 408
        assert served.counter("read_errors") == 1


def test_a_head_that_trickles_ends_with_408_too(tmp_path):
    with serving(tmp_path, socket_timeout=0.1) as served, served.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        started = time.monotonic()
        sock.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() - started < 10:
            try:
                sock.sendall(b"X: y\r\n")
                answer = sock.recv(100)
            except TimeoutError:
                continue
        assert status_of(answer) == 408
        assert time.monotonic() - started < 3


def test_a_slow_body_ends_with_408(tmp_path):
    with serving(tmp_path, socket_timeout=0.2) as served, served.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        assert status_of(everything(sock)) == 408


@pytest.mark.parametrize("served_first", [False, True])
def test_an_idle_connection_is_closed_without_a_byte(tmp_path, served_first):
    limits = {"socket_timeout": 0.2, "keepalive_timeout": 0.3}
    with serving(tmp_path, **limits) as served, served.connect() as sock:
        if served_first:
            sock.sendall(GET)
            one_answer(sock)
        assert everything(sock) == b""


def test_a_slow_sender_does_not_stop_the_others(tmp_path):
    with serving(tmp_path) as served:
        slow = [served.connect() for _ in range(50)]
        for sock in slow:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        assert body_of(served.ask(OLD)) == b"hello"
        for sock in slow:
            sock.sendall(b"x")
            assert body_of(one_answer(sock)) == b"hello"
            sock.close()


def test_a_client_that_closed_its_side_still_gets_its_answer(tmp_path):
    with serving(tmp_path) as served, served.connect() as sock:
        sock.sendall(GET)
        sock.shutdown(socket.SHUT_WR)
        assert body_of(everything(sock)) == b"hello"


def test_a_unix_socket_has_no_remote_address(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [repr((environ["REMOTE_ADDR"], environ["SERVER_PORT"])).encode()]

    with serving(tmp_path, application, "http", unix=tmp_path / "s") as served:
        assert body_of(served.ask(OLD)) == b"('', '')"


def test_requests_run_at_the_same_time_in_threads(tmp_path):
    gate = os.pipe()

    def application(environ, start_response):
        start_response("200 OK", [])
        assert environ["wsgi.multithread"] is True
        if environ["PATH_INFO"] == "/wait":
            os.read(gate[0], 1)
        return [str(environ["uwsgi.core"]).encode()]

    with serving(tmp_path, application, threads=3) as served:
        served.wait_counter("accepting", 1, core=2)
        waiting, busy = [], set()
        while len(waiting) < 2:
            waiting.append(served.connect())
            waiting[-1].sendall(GET.replace(b" / ", b" /wait "))
            while len(busy) < len(waiting):
                busy = {core for core in range(3) if served.counter("in_request", core)}
        (free,) = {0, 1, 2} - busy
        assert body_of(served.ask(OLD)) == str(free).encode()
        os.write(gate[1], b"xx")
        assert {int(body_of(one_answer(sock))) for sock in waiting} == busy
        for sock in waiting:
            sock.close()
        assert served.stop() == 1
    for fd in gate:
        os.close(fd)
