"""Where configurations come from, and what is refused there: schemes, bad files, loops, limits."""

import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from donjon.config import schemes
from donjon.config.limits import MAX_BYTES
from donjon.config.reader import split_target
from donjon.config.world import ClosedWorld, Facts, FileWorld, Opened, OpenWorld, OutsideAccess
from donjon.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "name", "section"),
    [
        ("a.ini", "a.ini", ""),
        ("a.ini:s", "a.ini", "s"),
        ("/x:y/a.ini", "/x:y/a.ini", ""),
        (":s", "", "s"),
        ("a.ini:", "a.ini", ""),
        ("http://h:80/a.ini", "http://h:80/a.ini", ""),
        ("http://h:80/a.ini:s", "http://h:80/a.ini", "s"),
        ("exec://cat /etc/x:s", "exec://cat /etc/x", "s"),
        ("fd://3", "fd://3", ""),
        ("-", "-", ""),
        ("ftp://x", "ftp://x", ""),
    ],
)
def test_names_have_a_section_behind_their_last_colon(given, name, section):
    target = split_target(given)
    assert (target.name, target.section) == (name, section)


# -- schemes


def test_commands_give_configurations_and_values(place):
    place.write("c.ini", "[uwsgi]\nenv = @(exec://echo $HOME)\n")
    got = place.evaluate(
        "--ini", "exec://cat c.ini", environ={"HOME": "/h", "PATH": "/usr/bin:/bin"}
    )
    assert got.values("env") == ("/h",)


def test_a_failing_command_gives_what_it_printed(place):
    assert place.env("env = <@(exec://echo x; exit 3)>\n") == ["<x>"]


def test_a_command_that_prints_without_end_is_ended(place):
    with pytest.raises(ConfigError, match="more than 8 MiB"):
        place.env("env = @(exec://yes)\n")


def test_a_command_that_does_not_end_is_ended(place, monkeypatch):
    monkeypatch.setattr(schemes, "RUN_SECONDS", 0.2)
    with pytest.raises(ConfigError, match="did not end"):
        place.env("env = @(exec://exec tail -f /dev/null)\n")


def test_descriptors_give_configurations(place):
    reading, writing = os.pipe()
    os.write(writing, b"[uwsgi]\nenv = A\n")
    os.close(writing)
    try:
        assert place.evaluate("--ini", f"fd://{reading}").values("env") == ("A",)
    finally:
        os.close(reading)


@pytest.mark.parametrize("number", ["x", "", "-1", "99999999999", "999999"])
def test_a_wrong_descriptor_is_an_error(place, number):
    with pytest.raises(ConfigError, match="cannot read fd://"):
        place.evaluate("--ini", f"fd://{number}")


@pytest.mark.parametrize("scheme", ["data://0", "sym://x", "section://x"])
def test_parts_of_the_original_binary_are_named_as_such(place, scheme):
    with pytest.raises(ConfigError, match="names a part of the uwsgi binary"):
        place.evaluate("--ini", scheme)


def test_functions_give_values(place):
    text = "env = @(callint://getpid)\nenv = @(call://gnu_get_libc_version)\n"
    assert place.env(text) == [str(os.getpid()), os.confstr("CS_GNU_LIBC_VERSION").split()[1]]
    assert place.env("env = @(call://os:getpid)\nenv = @(callint://os:sep)\n") == [
        str(os.getpid()),
        "/",
    ]
    for wrong in ("no_such_symbol_at_all", "os:no_such_thing", "no_such_module:x"):
        with pytest.raises(ConfigError, match=r"^c\.ini:2: env: "):
            place.env(f"env = @(call://{wrong})\n")


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = self.server.answers[self.path]
        self.server.seen.append((self.path, dict(self.headers)))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(answers):
    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    server.answers, server.seen = answers, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_configurations_come_over_http(place):
    text = b"[uwsgi]\nenv = web\n[s]\nenv = section\n"
    with serving({"/x.ini": (200, text), "/none": (404, b""), "/p?a=b": (200, b"value\n")}) as (
        url,
        seen,
    ):
        assert place.evaluate("--ini", f"{url}/x.ini").values("env") == ("web",)
        assert place.evaluate(f"{url}/x.ini:s").values("env") == ("section",)
        assert place.env(f"env = @({url}/p?a=b)\n") == ["value"]
        with pytest.raises(ConfigError, match="404 Not Found"):
            place.evaluate("--ini", f"{url}/none")
    assert seen[0][1]["User-Agent"].endswith(f" on {os.uname().nodename}")


def test_a_web_server_that_is_not_there_is_an_error(place):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match="Connection refused"):
        place.evaluate("--ini", f"http://127.0.0.1:{port}/x.ini")


def test_too_much_over_http_is_an_error(place):
    answers = {"/big.ini": (200, b"x" * (MAX_BYTES + 1))}
    with serving(answers) as (url, _), pytest.raises(ConfigError, match="more than 8 MiB"):
        place.evaluate("--ini", f"{url}/big.ini")


@contextmanager
def pushed(data):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        yield {"UWSGI_EMPEROR_FD_CONFIG": str(theirs.fileno())}


def test_the_emperor_pushes_configurations(place):
    text = b"[uwsgi]\nenv = n=%n\n"
    with pushed(struct.pack("<BHB", 115, len(text), 0) + text) as environ:
        got = place.evaluate("--ini", "emperor://customer.ini", environ=environ)
    assert got.values("env") == ("n=",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "closed the configuration socket early"),
        (struct.pack("<BHB", 115, 10, 0) + b"short", "closed the configuration socket early"),
        (struct.pack("<BHB", 115, 0, 0), "sent no configuration"),
        (struct.pack("<BHB", 0, 3, 0) + b"abc", "sent no configuration"),
    ],
)
def test_a_broken_push_is_an_error(place, data, message):
    with pushed(data) as environ, pytest.raises(ConfigError, match=message):
        place.evaluate("--ini", "emperor://x", environ=environ)


def test_a_push_that_does_not_come_is_an_error(place, monkeypatch):
    monkeypatch.setattr(schemes, "PUSH_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    environ = {"UWSGI_EMPEROR_FD_CONFIG": str(theirs.fileno())}
    with ours, theirs, pytest.raises(ConfigError, match="waited for"):
        place.evaluate("--ini", "emperor://x", environ=environ)
    with pytest.raises(ConfigError, match="UWSGI_EMPEROR_FD_CONFIG is not set"):
        place.evaluate("--ini", "emperor://x")


# -- files that are none


def test_a_missing_file_is_an_error_where_it_is_asked_for(place):
    with pytest.raises(
        ConfigError, match=r"^c\.ini:3: include: cannot read no\.ini: No such file or directory$"
    ):
        place.ini("[uwsgi]\n\ninclude = no.ini\n")
    with pytest.raises(
        ConfigError, match=r"^command line: --ini: cannot read no\.ini: No such file"
    ):
        place.evaluate("--ini", "no.ini")


def test_what_is_no_file_is_refused_at_once(place):
    os.mkfifo(place.path / "fifo.ini")
    (place.path / "dir.ini").mkdir()
    (place.path / "device.ini").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place.path / "socket.ini"))
        started = time.monotonic()
        for name, kind in (
            ("fifo", "a fifo"),
            ("dir", "a directory"),
            ("device", "a device"),
            ("socket", "No such device or address"),
        ):
            with pytest.raises(ConfigError, match=kind):
                place.evaluate("--ini", f"{name}.ini")
        assert time.monotonic() - started < 2


def test_a_big_file_is_refused(place):
    with (place.path / "big.ini").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="more than 8 MiB"):
        place.evaluate("--ini", "big.ini")


def test_what_is_not_utf_8_is_an_error_with_its_line(place):
    place.write("latin.ini", "[uwsgi]\n\nenv = caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"^latin\.ini:3: this is not UTF-8: byte 0xe9 \(save"):
        place.evaluate("--ini", "latin.ini")
    place.write("nul.ini", b"[uwsgi]\nenv = a\0b\n")
    with pytest.raises(ConfigError, match=r"^nul\.ini:2: there is a NUL byte"):
        place.evaluate("--ini", "nul.ini")


def test_a_byte_order_mark_is_no_text(place):
    place.write("bom.ini", b"\xef\xbb\xbf[uwsgi]\nenv = A\n")
    assert place.evaluate("--ini", "bom.ini").values("env") == ("A",)


# -- loops and bombs


@pytest.mark.parametrize("option", ["include", "ini", "inherit"])
def test_a_file_that_includes_itself_is_an_error(place, option):
    with pytest.raises(
        ConfigError, match=r"^c\.ini:2: .*c\.ini includes itself: c\.ini -> c\.ini"
    ):
        place.ini(f"[uwsgi]\n{option} = c.ini\n")


@pytest.mark.parametrize(
    "options", [("include", "include"), ("inherit", "inherit"), ("inherit", "ini")]
)
def test_a_circle_of_files_is_an_error(place, options):
    place.write("b.ini", f"[uwsgi]\n{options[1]} = c.ini\n")
    with pytest.raises(ConfigError, match=r"c\.ini includes itself: c\.ini -> b\.ini -> c\.ini"):
        place.ini(f"[uwsgi]\n{options[0]} = b.ini\n")


def test_a_section_that_includes_itself_is_an_error(place):
    with pytest.raises(ConfigError, match="includes itself"):
        place.ini("[uwsgi]\nini = :a\n[a]\nini = :b\n[b]\nini = :a\n")


def test_a_circle_through_another_spelling_ends(place):
    with pytest.raises(ConfigError, match=r"includes itself|more than 32 deep"):
        place.ini("[uwsgi]\ninclude = ./c.ini\n")


def test_a_circle_of_commands_ends(place):
    with pytest.raises(ConfigError, match="includes itself"):
        place.ini("[uwsgi]\nini = exec://cat c.ini\n")


def test_a_long_chain_of_files_is_an_error(place):
    for n in range(40):
        place.write(f"{n}.ini", f"[uwsgi]\ninclude = {n + 1}.ini\n")
    with pytest.raises(ConfigError, match="more than 32 deep"):
        place.evaluate("--ini", "0.ini")


def test_a_tree_of_files_ends(place):
    for n in range(30):
        place.write(f"{n}.ini", f"[uwsgi]\ninclude = {n + 1}.ini\ninclude = {n + 1}.ini\n")
    place.write("30.ini", "[uwsgi]\n")
    with pytest.raises(ConfigError, match="more than 1000 files"):
        place.evaluate("--ini", "0.ini")


def test_many_lines_are_an_error(place):
    with pytest.raises(ConfigError, match="more than 100000 options"):
        place.ini("[uwsgi]\n" + "a=1\n" * 100_001)


# -- closed worlds


OUTSIDE = [
    ("include = other.ini", "file other.ini"),
    ("env = @(/etc/passwd)", "file /etc/passwd"),
    ("env = @(exec://id)", "exec://id"),
    ("ini = exec://id", "exec://id"),
    ("env = @(http://h/)", "http://h/"),
    ("env = @(fd://0)", "fd://0"),
    ("ini = -", "standard input"),
    ("env = @(call://os:getpid)", "call://os:getpid"),
    ("ini = emperor://x", "emperor://"),
    ("resolve = a=localhost", "the address of localhost"),
    ("if-exists = /etc", "whether /etc exists"),
    ("if-not-file = /etc", "whether there is a file /etc"),
    ("if-dir = /etc", "whether there is a directory /etc"),
    ("for-glob = /*", "paths like /*"),
    ("for-readline = /etc/passwd", "file /etc/passwd"),
    ("if-hostname-match = (.|.)*x", "a match of (.|.)*x"),
    ("early-envdir = /etc", "names in /etc"),
    ("inject-before = /etc/passwd", "file /etc/passwd"),
]


@pytest.mark.parametrize(("line", "wanted"), OUTSIDE)
def test_a_closed_world_says_what_was_wanted(place, line, wanted):
    world = ClosedWorld.over({"v.ini": f"[uwsgi]\n{line}\n".encode()}, Facts(cwd="/vassals"))
    with pytest.raises(OutsideAccess) as caught:
        place.evaluate("--ini", "v.ini", world=world)
    assert caught.value.wanted == wanted
    assert caught.value.origin.source == "v.ini"
    assert caught.value.origin.line == 2


def test_a_closed_world_has_the_files_it_was_given(place):
    files = {
        "v.ini": Opened(b"[uwsgi]\nenv = n=%n i=%i d=%d\ninclude = /etc/common.ini\n", 42),
        "/etc/common.ini": b"[uwsgi]\nenv = common\n",
    }
    world = ClosedWorld.over(files, Facts(cwd="/vassals"))
    got = place.evaluate("--ini", "v.ini", world=world)
    assert got.values("env") == ("n=v i=42 d=/vassals/", "common")
    assert place.evaluate("/vassals/v.ini", world=world).values("env")[0] == "n=v i=42 d=/vassals/"


def test_a_world_of_files_runs_nothing(place):
    world = FileWorld(facts=Facts(cwd=str(place.path)), environ={})
    place.write("c.ini", "[uwsgi]\nif-exists = c.ini\nenv = A\nendif\n")
    assert place.evaluate("c.ini", world=world).values("env") == ("A",)
    for line in ("ini = exec://id", "env = @(http://h/)", "resolve = a=b", "ini = -"):
        place.write("d.ini", f"[uwsgi]\n{line}\n")
        with pytest.raises(OutsideAccess):
            place.evaluate("d.ini", world=world)


def test_the_open_world_is_based_on_its_directory(tmp_path):
    (tmp_path / "x").write_text("text")
    world = OpenWorld(facts=Facts(cwd=str(tmp_path)), environ={})
    assert world.read("x") == b"text"
    assert world.run("pwd").decode().strip() == str(tmp_path)
    assert world.glob("*") == ["x"]


BOMBS = {
    "lines": "[uwsgi]\n" + "a\n" * 5000,
    "bytes": "[uwsgi]\n;" + "x" * 40_000,
    "turns": "[uwsgi]\nfor-times = 100000\nenv = x\nendfor\n",
    "turns of several": "[uwsgi]\n" + "for-times = 3000\nenv = x\nendfor\n" * 2,
    "lengths": "[uwsgi]\na = " + "x" * 20_000 + "\n" + "env = %(a)%(a)\n" * 100,
    "doubling": "[uwsgi]\n"
    + "".join(f"a{n} = %(a{n + 1})%(a{n + 1})\n" for n in range(40))
    + "a40 = x\n",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_closed_world_has_no_time_for_bombs(place, text):
    world = ClosedWorld.over({"v.ini": text.encode()}, Facts(cwd="/"))
    started = time.monotonic()
    with pytest.raises(OutsideAccess):
        place.evaluate("--ini", "v.ini", world=world)
    assert time.monotonic() - started < 1


def test_eight_mebibytes_of_lines_are_refused_soon(place):
    place.write("c.ini", b"[uwsgi]\n" + b"a\n" * 4_000_000)
    started = time.monotonic()
    with pytest.raises(ConfigError, match="more than 100000 options"):
        place.evaluate("--ini", "c.ini")
    assert time.monotonic() - started < 5


def test_options_inside_options_end(place):
    with pytest.raises(
        ConfigError, match=r"^c\.ini:2: set: options inside options more than 64 deep"
    ):
        place.ini("[uwsgi]\nset = " + "set=" * 100_000 + "x\n")


def test_errors_are_one_line_whatever_a_file_says(place):
    for key, value in (
        ("strict\\nuid", "0"),
        ("include", "no\\nsuch.ini"),
        ("a", "@(x\\n\\u001b[2Jy)"),
    ):
        place.write("v.json", f'{{"uwsgi": {{"{key}": "{value}", "strict": true, "zz": 1}}}}')
        with pytest.raises(ConfigError) as caught:
            place.evaluate("v.json")
        assert str(caught.value).isprintable()
    with pytest.raises(ConfigError) as caught:
        place.evaluate("--ini", "x" * 100_000)
    assert len(str(caught.value)) < 1500


def test_nothing_is_imported_after_preload(place):
    place.write("a.ini", "[uwsgi]\ninclude = b.xml\nenv = @(exec://true)\nenv = %(a + 1)\n")
    place.write("b.xml", "<uwsgi><include>c.yaml</include></uwsgi>")
    place.write("c.yaml", "uwsgi:\n  include: [d.json, e.toml]\n")
    place.write("d.json", '{"uwsgi": {"env": 1}}')
    place.write("e.toml", "env = '@(http://127.0.0.1:1/x)'\n")
    program = (
        "import sys; from donjon import config; from donjon.config.evaluate import evaluate\n"
        "from donjon.errors import ConfigError\n"
        "config.preload(); before = set(sys.modules)\n"
        "try: evaluate(['a.ini'])\n"
        "except ConfigError as error: print(error.what)\n"
        "print(sorted(set(sys.modules) - before), 'threading' in before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place.path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "cannot read http://127.0.0.1:1/x\n[] False\n"


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800"])
def test_characters_that_no_system_call_takes_are_refused(place, escape):
    place.write("v.json", f'{{"uwsgi": {{\n"env": "@(exec://echo {escape})"}}}}')
    with pytest.raises(ConfigError, match=r"^v\.json:2: a character that no path"):
        place.evaluate("v.json")


@pytest.mark.parametrize("pattern", ["a{99999999999}", "(" * 5000, "[", "*"])
def test_expressions_that_are_none_are_errors(place, pattern):
    with pytest.raises(ConfigError, match=r"^c\.ini:2: if-hostname-match: not a regular"):
        place.ini(f"[uwsgi]\nif-hostname-match = {pattern}\n")


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".y"])
def test_names_that_no_host_has_are_errors(place, host):
    with pytest.raises(ConfigError, match=r"^c\.ini:2: resolve: cannot resolve"):
        place.ini(f"[uwsgi]\nresolve = h={host}\n")


def test_standard_input_is_ini_unless_said_otherwise(place):
    program = "from donjon.config.evaluate import evaluate; print(evaluate(['-']).values('env'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="[uwsgi]\nenv = A\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "('A',)\n"
