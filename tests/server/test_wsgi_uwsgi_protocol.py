"""The uwsgi protocol, as nginx and uWSGI's own routers speak it."""

import json
import struct

import pytest
from wsgi_worker import body_of, hello, packet, serving

VARS = {
    "REQUEST_METHOD": "POST",
    "REQUEST_URI": "/a%20b?q=1",
    "PATH_INFO": "/a b",
    "QUERY_STRING": "q=1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SCRIPT_NAME": "",
    "SERVER_NAME": "example.org",
    "SERVER_PORT": "80",
    "REMOTE_ADDR": "192.0.2.1",
    "HTTP_HOST": "example.org",
    "HTTP_X_LATIN": "\xe9",
}


def echo(environ, start_response):
    seen = {k: v for k, v in environ.items() if isinstance(v, str)}
    seen["body"] = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("uwsgi")
    with serving(place, echo, "uwsgi", unix=place / "socket", socket_timeout=1) as served:
        yield served


def test_the_variables_become_the_environ(server):
    answer = server.ask(packet(VARS | {"CONTENT_LENGTH": "5", "UWSGI_SCHEME": "https"}) + b"hello")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    assert answer.startswith(head)
    seen = json.loads(body_of(answer))
    assert {key: seen[key] for key in VARS} == VARS
    assert seen["body"] == "hello"
    assert seen["wsgi.url_scheme"] == "https"


def test_the_status_line_has_the_protocol_of_the_request(server):
    assert server.ask(packet(VARS | {"SERVER_PROTOCOL": "HTTP/1.0"})).startswith(b"HTTP/1.0 200")
    assert server.ask(packet(VARS | {"SERVER_PROTOCOL": "evil\r\nX"})).startswith(b"HTTP/1.0 200")


def test_the_gateways_own_names_cannot_be_set(server):
    seen = json.loads(
        body_of(server.ask(packet(VARS | {"wsgi.input": "x", "uwsgi.version": "x"})))
    )
    assert "wsgi.input" not in seen
    assert "uwsgi.version" not in seen


def test_an_empty_packet_has_an_empty_method(server):
    seen = json.loads(body_of(server.ask(b"\0\0\0\0")))
    assert seen["REQUEST_METHOD"] == seen["PATH_INFO"] == seen["QUERY_STRING"] == ""


def test_ping_is_answered(server):
    assert server.ask(b"\x64\0\0\0") == b"\x64\0\0\x01"


def test_a_large_body(server):
    body = "x" * 1_000_000
    answer = server.ask(packet(VARS | {"CONTENT_LENGTH": str(len(body))}) + body.encode())
    assert json.loads(body_of(answer))["body"] == body


@pytest.mark.parametrize(
    "bad",
    [
        packet({"A": "x" * 4096}),
        packet({"": "x"}),
        struct.pack("<BHB", 0, 5, 0) + b"\x01\x00a\x01\x00",
        packet({f"V{i}": "" for i in range(300)}),
        packet(VARS, modifier1=173),
        packet(VARS | {"CONTENT_LENGTH": "-1"}),
        packet(VARS | {"CONTENT_LENGTH": "5"}) + b"abc",
        b"\x00\x10",
    ],
)
def test_what_is_no_request_is_closed_without_a_byte(server, bad):
    assert server.ask(bad) == b""


def named(name):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{name} {environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]

    return application


def test_script_name_chooses_the_application(tmp_path):
    mounted = [("/", named("root")), ("/blog", named("blog"))]
    with serving(tmp_path, hello, "uwsgi", applications=mounted) as served:
        asked = VARS | {"SCRIPT_NAME": "/blog", "PATH_INFO": "/x"}
        assert body_of(served.ask(packet(asked))) == b"blog /blog /x"
        assert body_of(served.ask(packet(VARS))) == b"root  /a b"


def test_modifier_30_takes_the_mountpoint_off_the_path(tmp_path):
    mounted = [("/", named("root")), ("/blog", named("blog"))]
    with serving(tmp_path, hello, "uwsgi", applications=mounted) as served:
        asked = VARS | {"PATH_INFO": "/blog/x"}
        assert body_of(served.ask(packet(asked, modifier1=30))) == b"blog /blog /x"
