"""The terminal of worker 1 and those who share it: PTY-01 to PTY-04, PTC-01 to PTC-04."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import hosting
import pexpect
import pytest
from hosting import alive, children, held, receive, wait_for
from pexpect.fdpexpect import fdspawn

pytestmark = pytest.mark.slow

DONJON = [sys.executable, "-m", "donjon"]
PLUGINS = "/usr/lib/uwsgi/plugins"
APP = """
import os, sys
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
    if path.startswith("/write/"):
        for _ in range(int(path[7:])):
            print("x" * 99)
        print("written")
    elif path == "/modules":
        wanted = ("fork_pty.shared", "fork_pty.screen", "server.ptyserver", "server.ptyworker",
                  "server.pyshell")
        found = [name for name in wanted if "donjon." + name in sys.modules]
        return [" ".join(found).encode()]
    else:
        print("asked", path, os.getpid())
    return [b"%d" % os.getpid()]
"""
SHELL = """
import code, os
from uwsgidecorators import *
# only worker 1 has the pty attached
@postfork(1)
@thread
def tshell():
    while True:
        code.interact(banner="", exitmsg="", local={"pid": os.getpid()})
"""


class Shared:
    """Instances with a terminal of worker 1, and the clients of it."""

    def __init__(self, place):
        self.place = place
        self.door, self.http = place.path / "pty", place.path / "http"
        self.app = place.path / "app.py"
        self.app.write_text(APP)

    def words(self, *more, door=None):
        return ["--master", "--processes", "2", "--pty-socket", door or str(self.door),
                "--http-socket", str(self.http), "--wsgi-file", str(self.app), *more]  # fmt: skip

    def start(self, *more, door=None):
        return self.place._start([*DONJON, *self.words(*more, door=door)], "pty server on")

    def ours(self, *more, door=None):
        pid = self.start(*more, door=door)
        self.serving()
        return pid

    def originals(self, *more):
        plugins = ["--plugins-dir", PLUGINS, "--plugin", "pty,python3"]
        pid = self.place._start(["uwsgi", *plugins, *self.words(*more)], "enabled on /dev/pts")
        self.serving()
        return pid

    def serving(self):
        wait_for(lambda: receive(self.http, b"GET / HTTP/1.0\r\n\r\n"), "answer")

    def ask(self, target="/"):
        answer = receive(self.http, f"GET {target} HTTP/1.0\r\n\r\n".encode())
        return answer.partition(b"\r\n\r\n")[2]

    def client(self, kind="flag"):
        """A client; what its own terminal echoes before it is raw is not to be seen."""
        flags = ("--pty-connect", str(self.door), "--pty-no-isig")
        if kind == "ours":
            client = self.place.connect("--raw", str(self.door))
        elif kind == "flag":
            client = self.place.donjon(*flags)
        else:
            client = self.place.connect_original(*flags)
        client.setecho(False)
        return client

    def raw(self):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(15)
        link.connect(str(self.door))
        return link


@pytest.fixture
def shared(place):
    return Shared(place)


def settled(client):
    """Wait until a client is let in and the shell answers it."""
    client.send(b"print(40 + 2)\r")
    client.expect_exact(b"42\r\n")
    client.expect_exact(b">>> ")


def prompted(shared, kind="flag"):
    """Return a client that a shell has answered; None if there was no terminal yet."""
    client = shared.client(kind)
    client.send(b"\r")
    return client if client.expect_exact([b">>> ", pexpect.EOF]) == 0 else None


BOTH = [("ours", "ours"), ("ours", "originals"), ("originals", "ours")]


@pytest.mark.uwsgi
@pytest.mark.parametrize(("server", "kind"), BOTH)
def test_clients_share_the_terminal_of_worker_1(shared, server, kind):
    """PTY-01, PTY-02, PTY-04, PTC-01, PTC-04."""
    getattr(shared, server)("--pyshell")
    first, second = shared.client(kind), shared.client(kind)
    settled(first)
    settled(second)
    first.send(b"import os, uwsgi; print('I', uwsgi.worker_id(), os.isatty(0), os.getsid(0))\r")
    for each in (first, second):
        each.expect(rb"I 1 True (\d+)\r\n")
    worker = int(first.match[1])
    assert held(worker)[0] == held(worker)[1] == held(worker)[2]
    assert held(worker)[0].startswith("/dev/pts/")
    other = int(shared.ask())
    assert other != worker
    assert "/dev/pts" not in held(other)[1]
    second.send(b"print('seen by' + ' both')\r")
    for each in (first, second):
        each.expect_exact(b"seen by both\r\n")
    first.send(b"\x04")  # ends worker 1, and another one comes
    for each in (first, second):
        each.expect(pexpect.EOF)
        each.close()
        assert each.exitstatus == 0
    settled(wait_for(lambda: prompted(shared, kind), "terminal of the next worker 1"))


def test_an_interpreter_in_a_thread_of_worker_1(shared):
    """PTY-03, with our uwsgidecorators; the worker serves meanwhile."""
    shared.app.write_text(APP + SHELL)
    shared.ours("--processes", "1", "--pty-log")
    first, second = shared.client("ours"), shared.client()
    settled(first)
    settled(second)
    second.send(b"print('pid', pid)\r")
    first.expect(rb"pid (\d+)\r\n")
    worker = first.match[1]
    assert shared.ask("/a") == worker
    for each in (first, second):
        each.expect_exact(b"asked /a " + worker)
    wait_for(lambda: "asked /a" in shared.place.text(), "line in the log, for pty-log")
    second.send(b"print('half\x03")  # Ctrl-C: not of the worker
    settled(second)
    assert shared.ask("/b") == worker


def test_ipython_is_embedded_in_worker_1(shared):
    """PTY-03, as the original's manual has it."""
    shared.app.write_text(APP + SHELL.replace("code, os", "IPython, os").replace(
        'code.interact(banner="", exitmsg="", local={"pid": os.getpid()})', "IPython.embed()"
    ))  # fmt: skip
    shared.ours("--env", f"IPYTHONDIR={shared.place.path}")
    first, second = shared.client(), shared.client()
    first.expect_exact(b"In [", timeout=60)
    first.send(b"print('sum', 40 + 2)\r")
    for each in (first, second):
        each.expect_exact(b"sum 42", timeout=30)
    assert shared.ask().isdigit()


@pytest.mark.uwsgi
@pytest.mark.parametrize("server", ["ours", "originals"])
def test_a_reload_and_a_death_of_worker_1_bring_a_new_terminal(shared, server):
    master = getattr(shared, server)("--pyshell=print('begun'); input()")
    before = shared.client()
    before.send(b"typed")
    before.expect_exact(b"typed")
    os.kill(master, signal.SIGHUP)
    before.expect(pexpect.EOF)
    after = wait_for(lambda: typing(shared), "terminal of the next generation")
    os.kill(shared_worker(master), signal.SIGKILL)
    after.expect(pexpect.EOF)
    wait_for(lambda: typing(shared), "terminal of the next worker 1")


def typing(shared):
    """Return a client whose keys are echoed; None if there was no terminal yet."""
    client = shared.client()
    client.send(b"typed")
    return client if client.expect_exact([b"typed", pexpect.EOF]) == 0 else None


def shared_worker(master):
    """Return the child of a master that is on a terminal."""
    return wait_for(
        lambda: next(pid for pid in children(master) if "/dev/pts" in held(pid).get(0, "")),
        "worker 1",
    )


def test_who_does_not_read_holds_up_nobody(shared):
    """A client that is a megabyte behind is cut off; the others see everything."""
    shared.ours("--processes", "1")
    with shared.raw() as slow, shared.raw() as quick:
        seen = bytearray()

        def read():
            while b"written" not in seen[-1000:]:
                data = quick.recv(65536)
                if not data:
                    return
                seen.extend(data)

        wait_for(lambda: shared.place.text().count("[terminal] share") == 2, "both")
        reader = threading.Thread(target=read)
        reader.start()
        receive(shared.http, b"GET /write/40000 HTTP/1.0\r\n\r\n", seconds=60.0)
        reader.join(60)
        assert bytes(seen).count(b"x" * 99 + b"\r\n") == 40000
        got = b"".join(iter(lambda: slow.recv(65536), b""))
        assert len(got) < 101 * 40000
    assert typing(shared)


def test_keys_that_nobody_reads_are_bounded(shared):
    shared.ours("--processes", "1")
    with shared.raw() as typist:
        typist.setblocking(False)
        sent = 0

        def is_full():
            nonlocal sent
            try:
                sent += typist.send(b"k" * 1023 + b"\n")
            except BlockingIOError:
                return True
            return False

        for _ in range(4096):
            if is_full():
                break
        assert wait_for(is_full, "an end of what is taken")
        assert sent < 8 << 20
        assert shared.ask().isdigit()


def test_a_command_runs_on_the_terminal_and_ends_with_the_worker(shared):
    master = shared.ours("--pty-exec", "stty rows 33; echo on $(tty); exec cat")
    client = shared.client()
    client.send(b"echoed\r")
    client.expect_exact(b"echoed\r\nechoed\r\n")
    worker = shared_worker(master)
    (command,) = children(worker)
    assert held(command)[0] == held(worker)[0]
    os.kill(worker, signal.SIGKILL)
    client.expect(pexpect.EOF)
    wait_for(lambda: not alive(command), "end of the command")
    again = shared.client()
    again.send(b"once more\r")
    again.expect_exact(b"once more\r\nonce more\r\n")


def test_the_input_of_the_instance_is_typed_too(shared):
    near, far = os.openpty()
    words = [*DONJON, *shared.words("--pty-input", "--pty-log", "--pyshell")]
    with subprocess.Popen(words, stdin=far, stdout=far, stderr=far) as instance:
        try:
            screen = fdspawn(near, timeout=15)
            screen.expect_exact(b"pty server on")
            client = wait_for(lambda: typing(shared), "terminal")
            screen.send(b"\rprint('from' + ' here')\r")
            client.expect_exact(b"from here\r\n")
            screen.expect_exact(b"from here")
        finally:
            instance.send_signal(signal.SIGINT)
            instance.wait(20)
            os.close(near)
            os.close(far)


def test_a_oneshot_shell_is_followed_by_a_worker(shared):
    shared.start("--processes", "1", "--pyshell-oneshot=print('code' + ' ran'); input()")
    client = shared.client()
    client.send(b"\r")
    client.expect(pexpect.EOF)
    shared.serving()
    assert "...restoring worker 1" in shared.place.text()


def test_a_shell_is_interrupted_by_a_key(shared):
    shared.ours("--pyshell")
    client = shared.client()
    settled(client)
    client.send(b"while True: pass\r\r")
    client.expect_exact(b"... ")
    client.send(b"\x03")
    client.expect_exact(b"KeyboardInterrupt")
    settled(client)


def test_a_brutal_reload_ends_a_worker_on_a_terminal(shared):
    master = shared.ours("--pyshell")
    client = shared.client()
    settled(client)
    before = shared_worker(master)
    os.kill(master, signal.SIGTERM)
    client.expect(pexpect.EOF)
    wait_for(lambda: not alive(before), "end of the worker")


def test_a_door_that_dies_costs_one_worker(shared):
    master = shared.ours("--auto-procname")
    client = typing(shared)
    (door,) = wait_for(lambda: named(master, b"uWSGI pty"), "process at the door")
    before = shared_worker(master)
    os.kill(door, signal.SIGKILL)
    client.expect(pexpect.EOF)
    wait_for(lambda: not alive(before), "end of the worker whose terminal is gone")
    assert wait_for(lambda: typing(shared), "door")
    assert shared.ask().isdigit()


def named(master, name):
    """Return the children of a master that are called so."""
    return [pid for pid in children(master) if name in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.root
def test_strangers_are_refused_and_who_is_named_is_not(shared):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        door = Path(folder) / "pty"
        door.parent.chmod(0o755)
        shared.ours("--chmod-socket=666", "--forkpty-uid", "33", door=str(door))
        assert typed_by(34, door) == b""
        assert "why='uid and gid are not of those that may'" in shared.place.text()
        assert typed_by(33, door) == b"typed"


def typed_by(user, door):
    """What a user sees of what he types."""
    program = (
        "import os, socket, sys; user = int(sys.argv[2])\n"
        "os.setgroups([]); os.setgid(user); os.setuid(user)\n"
        "link = socket.socket(socket.AF_UNIX); link.settimeout(15); link.connect(sys.argv[1])\n"
        "text = b''\n"
        "try:\n"
        "    link.sendall(b'typed')\n"
        "    while len(text) < 5 and (data := link.recv(99)): text += data\n"
        "except (BrokenPipeError, ConnectionResetError): pass\n"
        "print(text.decode())\n"
    )
    words = [sys.executable, "-c", program, str(door), str(user)]
    return subprocess.run(words, capture_output=True, check=True, timeout=60).stdout.strip()


def test_a_network_gets_no_terminal_without_the_operators_word(shared, tmp_path):
    file = tmp_path / "shop.ini"
    file.write_text(f"[uwsgi]\nhttp-socket = {shared.http}\npty-socket = 127.0.0.1:5000\n")
    done = subprocess.run([*DONJON, str(file)], capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"donjon: {file}:3: pty-socket: a terminal on 127.0.0.1:5000 would be the network's: TCP"
        " has neither a login of the kernel's nor encryption (use a unix socket, or"
        " forkpty-insecure = true as the original)"
    )
    port = free_port()
    shared.ours("--forkpty-insecure", "--pyshell", door=f"127.0.0.1:{port}")
    client = shared.place.donjon("--pty-connect", f"127.0.0.1:{port}", "--pty-no-isig")
    settled(client)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_door_that_cannot_be_opened_is_no_start_and_no_reload(shared, tmp_path):
    file = tmp_path / "shop.ini"

    def ask_for(door):
        file.write_text(f"[uwsgi]\nmaster = true\nhttp-socket = {shared.http}\nwsgi-file ="
                        f" {shared.app}\npty-socket = {door}\n")  # fmt: skip

    ask_for(tmp_path / "nowhere" / "pty")
    done = subprocess.run([*DONJON, str(file)], capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"donjon: {file}:5: pty-socket: cannot bind {tmp_path}/nowhere/pty: No such file or"
        f" directory (does the directory {tmp_path}/nowhere exist here?)"
    )
    ask_for(shared.door)
    master = shared.place._start([*DONJON, str(file)], "pty server on")
    client = typing(shared)
    ask_for(tmp_path / "nowhere" / "pty")
    os.kill(master, signal.SIGHUP)
    wait_for(lambda: "reload failed, generation 1 goes on" in shared.place.text(), "word")
    ask_for(f"{shared.door}-2")
    os.kill(master, signal.SIGHUP)
    client.expect(pexpect.EOF)
    shared.door = Path(f"{shared.door}-2")
    assert typing(shared)
    assert not (tmp_path / "pty").exists()


def test_nothing_of_it_is_imported_where_nobody_asks(shared):
    words = ["--master", "--http-socket", str(shared.http), "--wsgi-file", str(shared.app)]
    shared.place._start([*DONJON, *words], "spawned uWSGI worker 1")
    shared.serving()
    assert shared.ask("/modules") == b""


@pytest.mark.root
def test_worker_1_of_a_jail_has_a_terminal_of_the_jail(shared):
    host = hosting.Host(Path("/var/tmp") / f"donjon-shared-{os.getpid()}")
    try:
        host.vassal("shop", f"rootfs = host\nbind = {host.place}/sockets\nuid = 33\ngid = 33\n"
                    f"pty-socket = {host.place}/sockets/pty\npyshell = true\nprocesses = 2\n"
                    )  # fmt: skip
        host.start("emperor-use-clone = fs,ipc,pid,uts,net\n")
        host.answer("shop")
        shared.door = host.place / "sockets" / "pty"
        wait_for(shared.door.exists, "door")
        client = shared.client()
        settled(client)
        client.send(b"import os; print('at', os.ttyname(0), os.getuid(), os.getppid())\r")
        client.expect_exact(b"at /dev/pts/0 33 1\r\n")
        os.kill(host.master("shop"), signal.SIGHUP)
        client.expect(pexpect.EOF)
        settled(wait_for(lambda: prompted(shared), "terminal after the reload"))
    finally:
        host.close()
