"""Request bodies: lengths, chunks, files, and wsgi.input; files as answers."""

import hashlib
import io
import os
from pathlib import Path

import pytest
from wsgi_worker import body_of, everything, one_answer, serving, status_of

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def digest(environ, start_response):
    data = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [
        f"{len(data)} {environ.get('CONTENT_LENGTH')} {hashlib.sha256(data).hexdigest()}".encode()
    ]


def digested(data: bytes) -> bytes:
    return f"{len(data)} {len(data)} {hashlib.sha256(data).hexdigest()}".encode()


def in_chunks(data: bytes, size: int) -> bytes:
    parts = (data[i : i + size] for i in range(0, len(data), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("bodies"), digest) as served:
        yield served


@pytest.mark.parametrize("size", [1, 100, 65535, 65536, 65537, 70000, 200_000, 5_000_000])
def test_a_body_arrives_whole(server, size):
    data = os.urandom(size)
    with server.connect() as sock:
        for _ in range(2):
            sock.sendall(POST + b"Content-Length: %d\r\n\r\n" % size + data)
            assert body_of(one_answer(sock)) == digested(data)


@pytest.mark.parametrize(("size", "chunk"), [(1, 1), (1000, 7), (70000, 65536), (1_000_000, 5000)])
def test_a_chunked_body_arrives_whole_and_has_a_length(server, size, chunk):
    data = os.urandom(size)
    with server.connect() as sock:
        for _ in range(2):
            sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(data, chunk))
            assert body_of(one_answer(sock)) == digested(data)


def test_an_empty_chunked_body_is_an_empty_body(server):
    with server.connect() as sock:
        sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert body_of(one_answer(sock)) == digested(b"")


def test_a_large_body_is_kept_in_a_file_without_a_name(tmp_path, monkeypatch):
    held = tmp_path / "held"
    held.mkdir()
    monkeypatch.setenv("TMPDIR", str(held))

    def application(environ, start_response):
        mapped = [m for m in Path("/proc/self/maps").read_text().splitlines() if str(held) in m]
        start_response("200 OK", [])
        return [b"%d %d" % (len(mapped), len(os.listdir(held)))]

    with serving(tmp_path, application) as served:
        data = bytes(300_000)
        request = POST + b"Connection: close\r\nContent-Length: 300000\r\n\r\n"
        assert body_of(served.ask(request + data)) == b"1 0"


def test_continue_is_said_when_the_client_waits_for_it(server):
    with server.connect() as sock:
        sock.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert body_of(one_answer(sock)) == digested(b"abc")


def test_continue_is_not_said_when_the_body_is_there(server):
    with server.connect() as sock:
        sock.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc")
        assert one_answer(sock).startswith(b"HTTP/1.1 200")


def test_limit_post_refuses_a_length_before_the_body_comes(tmp_path):
    with serving(tmp_path, digest, limit_post=1000) as served:
        assert status_of(served.ask(POST + b"Content-Length: 1001\r\n\r\n")) == 413
        with served.connect() as sock:
            sock.sendall(POST + b"Content-Length: 1000\r\n\r\n" + bytes(1000))
            assert body_of(one_answer(sock)) == digested(bytes(1000))


def test_limit_post_counts_chunks(tmp_path):
    with serving(tmp_path, digest, limit_post=1000) as served, served.connect() as sock:
        sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(bytes(5000), 300))
        assert status_of(everything(sock)) == 413


def test_an_answer_to_a_body_that_is_refused_is_not_lost_to_a_reset(tmp_path):
    with serving(tmp_path, digest, limit_post=1000) as served:
        for _ in range(20):
            answer = served.ask(POST + b"Content-Length: 500000\r\n\r\n" + bytes(500_000))
            assert status_of(answer) == 413


READERS = {
    "read": lambda f: f.read(),
    "read(None)": lambda f: f.read(None),
    "read(-1)": lambda f: f.read(-1),
    "read(3)": lambda f: [f.read(3), f.read(0), f.read(100), f.read(1)],
    "readline": lambda f: [f.readline() for _ in range(5)],
    "readline(2)": lambda f: [f.readline(2) for _ in range(6)],
    "readlines": lambda f: f.readlines(),
    "readlines(1)": lambda f: [f.readlines(1), f.readlines(4), f.readlines()],
    "iter": list,
    "seek": lambda f: [
        f.seek(2),
        f.read(3),
        f.tell(),
        f.seek(-2, 2),
        f.read(),
        f.seek(0),
        f.read(1),
    ],
    "seek(1)": lambda f: [f.read(1), f.seek(1, 1), f.read(1)],
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("data", [b"", b"one\ntwo\n\nlast", b"\n", bytes(100_000) + b"\nx"])
def test_wsgi_input_reads_as_a_file_does(tmp_path, name, data):
    def application(environ, start_response):
        start_response("200 OK", [])
        try:
            return [repr(READERS[name](environ["wsgi.input"])).encode()]
        except ValueError:
            return [b"ValueError"]

    try:
        wanted = repr(READERS[name](io.BytesIO(data))).encode()
    except ValueError:
        wanted = b"ValueError"
    if name.startswith("seek") and len(data) < 2:
        return  # BytesIO may be positioned behind its end, a body may not
    with serving(tmp_path, application) as served:
        request = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data)
        assert body_of(served.ask(request + data)) == wanted


def test_bad_arguments_of_wsgi_input_are_exceptions(tmp_path):
    def application(environ, start_response):
        stream = environ["wsgi.input"]
        calls = [
            lambda: stream.read("x"),
            lambda: stream.read(1, 2),
            lambda: stream.seek(-1),
            lambda: stream.seek(0, 9),
        ]
        raised = []
        for call in calls:
            try:
                call()
            except (TypeError, ValueError) as error:
                raised.append(type(error).__name__)
        start_response("200 OK", [])
        return [" ".join(raised).encode()]

    with serving(tmp_path, application, protocol="http") as served:
        answer = served.ask(POST + b"Content-Length: 1\r\n\r\nx")
        assert body_of(answer) == b"TypeError TypeError ValueError ValueError"


def test_the_body_may_be_kept_longer_than_the_request(tmp_path):
    kept = []

    def application(environ, start_response):
        kept.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return [kept[0].read(2)]

    with serving(tmp_path, application) as served, served.connect() as sock:
        for said in (b"ab", b"cd"):
            sock.sendall(POST + b"Content-Length: 4\r\n\r\nabcd")
            assert body_of(one_answer(sock)) == said


def from_file(path, **kind):
    def application(environ, start_response):
        start_response("200 OK", [])
        file = path.open("rb") if kind.get("real", True) else io.BytesIO(path.read_bytes())
        file.seek(kind.get("offset", 0))
        return environ["wsgi.file_wrapper"](file, 1000)

    return application


@pytest.mark.parametrize("protocol", ["http", "http11"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("offset", [0, 5000])
def test_file_wrapper_sends_a_file_from_its_position(tmp_path, protocol, real, offset):
    path = tmp_path / "file"
    data = os.urandom(3_000_000)
    path.write_bytes(data)
    with serving(
        tmp_path, from_file(path, real=real, offset=offset), protocol, log=True
    ) as served:
        request = (
            b"GET / HTTP/1.0\r\n\r\n"
            if protocol == "http"
            else b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answer = served.ask(request)
        if protocol == "http11" and real:
            assert b"\r\nContent-Length: %d\r\n" % (len(data) - offset) in answer
            assert body_of(answer) == data[offset:]
        elif protocol == "http":
            assert body_of(answer) == data[offset:]
        assert ("via sendfile()" in served.text()) == real


def test_an_empty_file_is_an_empty_answer(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    with serving(tmp_path, from_file(path)) as served, served.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        assert (
            one_answer(sock) == one_answer(sock) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        )


def test_a_file_is_closed_when_its_answer_is_on_the_way(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))

    def application(environ, start_response):
        open_files = [
            f
            for f in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{f}")
            and os.path.samefile(f"/proc/self/fd/{f}", path)
        ]
        start_response("200 OK", [("X-Open", str(len(open_files)))])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    with serving(tmp_path, application) as served, served.connect() as sock:
        for _ in range(3):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"X-Open: 0\r\n" in one_answer(sock)
