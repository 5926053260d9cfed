"""Requests: what the application sees of them, and which are refused before it sees anything."""

import json

import pytest
from wsgi_worker import body_of, one_answer, serving, status_of


def echo(environ, start_response):
    """Answer with the environ's strings and the body as JSON."""
    seen = {k: v for k, v in environ.items() if isinstance(v, str)}
    seen["body"] = environ["wsgi.input"].read().decode("latin-1")
    text = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [text]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("echo"), echo, "http11", socket_timeout=2) as served:
        yield served


def seen_by_app(served, request: bytes) -> dict:
    with served.connect() as sock:
        sock.sendall(request)
        return json.loads(body_of(one_answer(sock)))


def test_the_parts_of_a_request_become_variables(server):
    env = seen_by_app(
        server,
        b"PATCH /a%20b/%C3%A9?x=1&y=%20 HTTP/1.1\r\nHost: example.org:81\r\nContent-Type: text/x\r\n"
        b"Content-Length: 3\r\nX-One: 1\r\nx-ONE:  2 \r\nCookie: a=1\r\nCookie: b=2\r\n\r\nabc",
    )
    assert env["REQUEST_METHOD"] == "PATCH"
    assert env["PATH_INFO"] == "/a b/\xc3\xa9"
    assert env["QUERY_STRING"] == "x=1&y=%20"
    assert env["REQUEST_URI"] == "/a%20b/%C3%A9?x=1&y=%20"
    assert env["SCRIPT_NAME"] == ""
    assert env["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert env["SERVER_NAME"] == "donjon.test"
    assert env["SERVER_PORT"] == str(server.address[1])
    assert env["REMOTE_ADDR"] == "127.0.0.1"
    assert env["REMOTE_PORT"].isdigit()
    assert env["HTTP_HOST"] == "example.org:81"
    assert env["CONTENT_TYPE"] == "text/x"
    assert env["CONTENT_LENGTH"] == "3"
    assert env["HTTP_X_ONE"] == "1, 2"
    assert env["HTTP_COOKIE"] == "a=1; b=2"
    assert env["wsgi.url_scheme"] == "http"
    assert env["body"] == "abc"


def test_dot_segments_are_resolved_and_nothing_climbs_above_the_root(server):
    env = seen_by_app(server, b"GET /a/../../%2e%2e/etc/./x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert env["PATH_INFO"] == "/etc/x"
    assert env["REQUEST_URI"] == "/a/../../%2e%2e/etc/./x"


def test_an_absolute_target_replaces_the_host(server):
    env = seen_by_app(server, b"GET http://real:8/p?q HTTP/1.1\r\nHost: other\r\n\r\n")
    assert env["HTTP_HOST"] == "real:8"
    assert env["PATH_INFO"] == "/p"
    assert env["QUERY_STRING"] == "q"


def test_options_asterisk_has_no_path(server):
    env = seen_by_app(server, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert env["PATH_INFO"] == ""
    assert env["REQUEST_URI"] == "*"


def test_a_name_with_an_underscore_does_not_pass_for_one_with_a_dash(server):
    env = seen_by_app(server, b"GET / HTTP/1.1\r\nHost: a\r\nX_Real: evil\r\nX-Real: good\r\n\r\n")
    assert env["HTTP_X_REAL"] == "good"


def test_the_header_proxy_does_not_become_http_proxy(server):
    env = seen_by_app(server, b"GET / HTTP/1.1\r\nHost: a\r\nProxy: http://evil\r\n\r\n")
    assert "HTTP_PROXY" not in env


def test_a_proxy_in_front_can_say_https(server):
    env = seen_by_app(server, b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n")
    assert env["wsgi.url_scheme"] == "https"


def test_many_different_headers_are_all_seen(server):
    names = [f"X-{'N' * (i % 60)}{i}" for i in range(100)]
    env = {}
    for group in range(3):  # more names than the worker remembers
        wanted = {f"{name}-{group}": f"v{i}" for i, name in enumerate(names[:60])}
        head = "".join(f"{name}: {value}\r\n" for name, value in wanted.items())
        env = seen_by_app(server, f"GET / HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode())
        for name, value in wanted.items():
            assert env["HTTP_" + name.upper().replace("-", "_")] == value


def test_a_header_value_that_changed_is_not_remembered(server):
    for value in ("one", "two", "twO", "one"):
        env = seen_by_app(server, f"GET / HTTP/1.1\r\nHost: a\r\nX-V: {value}\r\n\r\n".encode())
        assert env["HTTP_X_V"] == value


POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
SMUGGLING = {
    "length beside chunked": POST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked beside length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a list of lengths": POST + b"Content-Length: 1, 1\r\n\r\nx",
    "a sign": POST + b"Content-Length: +1\r\n\r\nx",
    "a negative length": POST + b"Content-Length: -1\r\n\r\nx",
    "a hexadecimal length": POST + b"Content-Length: 0x1\r\n\r\nx",
    "an underscore": POST + b"Content-Length: 1_0\r\n\r\n0123456789",
    "an overflow": POST + b"Content-Length: 18446744073709551617\r\n\r\nx",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "a superscript digit": POST + b"Content-Length: \xb2\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 1\r\n\r\nx",
    "obs-fold": POST + b"Content-Length:\r\n 1\r\n\r\nx",
    "obs-fold with tab": POST + b"X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
    "a leading space": b"POST / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a bare LF": b"POST / HTTP/1.1\nHost: a\n\n",
    "a bare LF between headers": POST + b"X: y\nContent-Length: 1\r\n\r\nx",
    "a bare CR": POST + b"X: y\rContent-Length: 1\r\n\r\nx",
    "a NUL": POST + b"X: y\0z\r\n\r\n",
    "a NUL in a name": POST + b"X\0: y\r\n\r\n",
    "a vertical tab in a coding": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "chunked in two headers": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a signed chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
    "a chunk size with 0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "a chunk size with a space": POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
    "a chunk size that overflows": POST
    + b"Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\nx",
    "a chunk size with LF": POST + b"Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    "a chunk longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    "LF in a chunk extension": POST
    + b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n",
    "LF in a trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\nC: d\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "garbage": b"GARBAGE\r\n\r\n",
    "a method that is no token": b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a relative target": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "an asterisk for GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "an encoded NUL": b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a broken escape": b"GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("case", SMUGGLING)
def test_what_could_be_read_in_two_ways_is_refused(server, case):
    before = server.counter("requests")
    answer = server.ask(SMUGGLING[case] + b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status_of(answer) == 400
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nBad Request")
    assert server.counter("requests") == before


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"Expect: tea\r\n\r\n", 417),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 5000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 4080 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_what_cannot_be_served_has_its_status(server, request_, status):
    answer = server.ask(request_)
    assert status_of(answer) == status
    assert b"\r\nConnection: close\r\n" in answer


def test_a_head_of_exactly_the_buffer_size_is_served(server):
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    env = seen_by_app(server, head + b"a" * (4096 - len(head) - 4) + b"\r\n\r\n")
    assert len(env["HTTP_X"]) == 4096 - len(head) - 4


def test_too_long_a_head_is_said_in_the_log(server):
    server.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 5000)
    assert "invalid HTTP request size (max 4096)...skip" in server.text()


def test_a_refusal_does_not_forge_log_lines(server):
    server.ask(b"GET /\x1b[2J\nfake HTTP/1.1\r\n\r\n")
    assert "\x1b" not in server.text()
    assert "refused a request of 127.0.0.1: 400 Bad Request" in server.text()
