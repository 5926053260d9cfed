"""PEP 3333, judged by wsgiref.validate and case by case."""

import os
import re
import sys
import wsgiref.validate

import pytest
from wsgi_worker import body_of, hello, one_answer, payload_of, serving, status_of

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def ask(tmp_path, application, request=GET, **options):
    """One request to an application of its own; the answer and the log."""
    with serving(tmp_path, application, **options) as served:
        return served.ask(request), served.text()


@wsgiref.validate.validator
def validated(environ, start_response):
    data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.errors"].write("seen\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"got %d" % len(data)]


@pytest.mark.parametrize("protocol", ["http", "http11"])
@pytest.mark.parametrize(
    "request_",
    [
        GET,
        b"POST /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    ],
)
def test_the_validator_is_content(tmp_path, protocol, request_):
    answer, log = ask(tmp_path, validated, request_, protocol=protocol)
    assert status_of(answer) == 200, log
    assert payload_of(answer) == (b"got 0" if request_ is GET else b"got 4")
    assert "seen" in log
    assert "Assertion" not in log


def test_the_constants_of_the_environ(tmp_path):
    def application(environ, start_response):
        assert type(environ) is dict
        assert environ["wsgi.version"] == (1, 0)
        assert environ["wsgi.run_once"] is False
        assert environ["wsgi.multithread"] is False
        assert environ["wsgi.multiprocess"] is True
        assert environ["uwsgi.version"] == b"9.9"
        assert environ["uwsgi.node"] == b"here"
        assert environ["wsgi.errors"] is sys.stderr
        return hello(environ, start_response)

    answer, log = ask(tmp_path, application, processes=2, version=b"9.9", node=b"here")
    assert status_of(answer) == 200, log


def test_each_request_has_an_environ_of_its_own(tmp_path):
    def application(environ, start_response):
        assert "mine" not in environ
        environ["mine"] = 1
        environ.pop("wsgi.version")
        return hello(environ, start_response)

    with serving(tmp_path, application) as served:
        for _ in range(3):
            assert status_of(served.ask(GET)) == 200, served.text()


def test_write_sends_before_the_body_that_is_returned(tmp_path):
    def application(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "6")])
        write(b"one")
        write(b"")
        return [b"two"]

    answer, _ = ask(tmp_path, application)
    assert body_of(answer) == b"onetwo"


def test_the_headers_come_in_the_applications_order_and_spelling(tmp_path):
    def application(environ, start_response):
        start_response(
            "299 Very Odd", [("x-B", "2"), ("X-a", "\xe9"), ("x-B", ""), ("Content-Length", "0")]
        )
        return []

    answer, _ = ask(tmp_path, application, protocol="http")
    assert (
        answer
        == b"HTTP/1.1 299 Very Odd\r\nx-B: 2\r\nX-a: \xe9\r\nx-B: \r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("X", "a\r\nSet-Cookie: evil")]),
        ("200 OK", [("X", "a\nb")]),
        ("200 OK", [("X", "a\0b")]),
        ("200 OK", [("X\r\nY", "a")]),
        ("200 OK", [("X Y", "a")]),
        ("200 OK", [("", "a")]),
        ("200 OK", [("X", "\u20ac")]),
        ("200 OK", [("X", b"a")]),
        ("200 OK", [["X", "a"]]),
        ("200 OK", [("X",)]),
        ("200 OK", (("X", "a"),)),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "1")]),
        ("200 OK\r\nX: y", []),
        ("OK", []),
        ("100 Continue", []),
        ("2000 OK", []),
        (b"200 OK", []),
        (200, []),
    ],
)
def test_a_start_that_would_break_the_answer_is_an_exception(tmp_path, status, headers):
    def application(environ, start_response):
        try:
            start_response(status, headers)
        except (TypeError, ValueError) as error:
            start_response("200 OK", [])
            return [type(error).__name__.encode()]
        return [b"accepted"]

    answer, _ = ask(tmp_path, application)
    assert body_of(answer) in {b"TypeError", b"ValueError"}
    assert b"evil" not in answer


def test_start_response_twice_is_an_error_without_exc_info(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [])
        try:
            start_response("201 Created", [])
        except AssertionError:
            return [b"refused"]
        return [b"accepted"]

    answer, _ = ask(tmp_path, application)
    assert body_of(answer) == b"refused"


@pytest.mark.parametrize("keyword", [True, False])
def test_exc_info_replaces_headers_that_were_not_sent(tmp_path, keyword):
    def application(environ, start_response):
        start_response("200 OK", [("X-Old", "1"), ("Content-Length", "100")])
        try:
            {}["x"]
        except KeyError:
            if keyword:
                start_response("500 Oops", [("X-New", "1")], exc_info=sys.exc_info())
            else:
                start_response("500 Oops", [("X-New", "1")], sys.exc_info())
        return [b"sorry"]

    answer, _ = ask(tmp_path, application)
    assert answer.startswith(b"HTTP/1.1 500 Oops\r\nX-New: 1\r\nContent-Length: 5\r\n")
    assert b"X-Old" not in answer


def test_exc_info_is_raised_once_bytes_were_sent(tmp_path):
    def application(environ, start_response):
        write = start_response("200 OK", [])
        write(b"begun")
        try:
            {}["the cause"]
        except KeyError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"never"]

    answer, log = ask(tmp_path, application)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"never" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert "KeyError: 'the cause'" in log


@pytest.mark.parametrize("protocol", ["http", "http11"])
def test_an_exception_is_logged_and_answered_with_500(tmp_path, protocol):
    def application(environ, start_response):
        raise RuntimeError("what went wrong")

    answer, log = ask(tmp_path, application, protocol=protocol)
    assert answer == (
        b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n"
        b"Content-Type: text/plain\r\n\r\nInternal Server Error"
    )
    assert re.search(r"Traceback.*RuntimeError: what went wrong", log, re.S)


def test_exceptions_are_counted(tmp_path):
    def application(environ, start_response):
        return 1 / 0

    with serving(tmp_path, application) as served:
        served.ask(GET)
        served.wait_counter("requests", 1)
        assert served.counter("exceptions") == 1


def test_an_exception_after_start_response_gives_the_page_and_not_the_head(tmp_path):
    def application(environ, start_response):
        start_response("200 OK", [("X-Secret", "1")])
        raise RuntimeError

    answer, _ = ask(tmp_path, application)
    assert status_of(answer) == 500
    assert b"X-Secret" not in answer


def test_catch_exceptions_shows_the_traceback(tmp_path):
    def application(environ, start_response):
        raise RuntimeError("for the developer")

    answer, _ = ask(tmp_path, application, catch_exceptions=True)
    assert b"RuntimeError: for the developer" in body_of(answer)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_exception_of_an_application_ends_the_worker(tmp_path, error):
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/bad":
            raise error
        return hello(environ, start_response)

    with serving(tmp_path, application) as served:
        assert status_of(served.ask(GET.replace(b" / ", b" /bad "))) == 500
        assert status_of(served.ask(GET)) == 200


@pytest.mark.parametrize("result", [None, 5, ["text"], [b"a", "text"], "text"])
def test_a_body_that_is_not_bytes_is_an_exception(tmp_path, result):
    def application(environ, start_response):
        start_response("200 OK", [])
        return result

    _, log = ask(tmp_path, application)
    assert "TypeError" in log


def test_a_body_without_start_response_is_an_exception(tmp_path):
    answer, log = ask(tmp_path, lambda environ, start_response: [b"x"])
    assert status_of(answer) == 500
    assert "AssertionError" in log


class Closing:
    """An iterable that says in the log that it was closed."""

    def __init__(self, chunks):
        self.chunks = iter(chunks)

    def __iter__(self):
        return self

    def __next__(self):
        chunk = next(self.chunks)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self):
        os.write(2, b"closed\n")


@pytest.mark.parametrize(
    "chunks", [[b"a", b"b"], [], [RuntimeError("x")], [b"a", RuntimeError("x")], ["text"]]
)
def test_the_iterable_is_closed_whatever_happens(tmp_path, chunks):
    def application(environ, start_response):
        start_response("200 OK", [])
        return Closing(chunks)

    _, log = ask(tmp_path, application)
    assert log.count("closed\n") == 1


def test_start_may_come_with_the_first_chunk(tmp_path):
    def application(environ, start_response):
        start_response("201 Created", [])
        yield b""
        yield b"late"

    answer, _ = ask(tmp_path, application, protocol="http")
    assert answer == b"HTTP/1.1 201 Created\r\n\r\nlate"


def test_a_start_response_that_was_kept_does_not_reach_into_another_request(tmp_path):
    kept = []

    def application(environ, start_response):
        if kept:
            try:
                kept[0]("200 OK", [])
            except RuntimeError:
                return hello(environ, start_response)
        kept.append(start_response)
        kept.append(start_response("200 OK", []))
        return [b"first"]

    with serving(tmp_path, application) as served, served.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert body_of(one_answer(sock)) == b"first"
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert body_of(one_answer(sock)) == b"hello"


def test_no_application_is_the_page_of_the_original(tmp_path):
    answer, log = ask(tmp_path, hello, applications=[])
    assert answer == (
        b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n"
        b"Content-Type: text/plain\r\n\r\nInternal Server Error"
    )
    assert "no python application found" in log


def named(name):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{name} {environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]

    return application


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (b"/", b"root  /"),
        (b"/blog", b"blog /blog "),
        (b"/blog/x", b"blog /blog /x"),
        (b"/blog/admin/x", b"admin /blog/admin /x"),
        (b"/blogs", b"root  /blogs"),
    ],
)
def test_the_longest_mountpoint_answers(tmp_path, path, said):
    mounted = [("/", named("root")), ("/blog", named("blog")), ("/blog/admin/", named("admin"))]
    request = GET.replace(b" / ", b" " + path + b" ")
    answer, _ = ask(tmp_path, hello, request, applications=mounted, manage_script_name=True)
    assert body_of(answer) == said


def test_without_manage_script_name_the_first_application_answers(tmp_path):
    mounted = [("/a", named("a")), ("/b", named("b"))]
    request = GET.replace(b" / ", b" /b/x ")
    answer, _ = ask(tmp_path, hello, request, applications=mounted)
    assert body_of(answer) == b"a  /b/x"
