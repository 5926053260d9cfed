"""Doors on TCP: TLS and a login, with our client and with OpenSSL's."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hosting
import pexpect
import pytest
from hosting import DONJON, wait_for
from pty_client import Client

from donjon.errors import OptionError, reason_of
from donjon.fork_pty import check, protocol
from donjon.fork_pty.protocol import Word
from donjon.fork_pty.router import WAITING_EACH
from donjon.fork_pty.spec import PAM, TICKET, Auth, Door, RouterSpec
from donjon.origin import Origin

pytestmark = pytest.mark.slow

PROMPT = b"# " if os.geteuid() == 0 else b"$ "
HASTY = [sys.executable, "-c", "import runpy; from donjon.fork_pty import tls; tls.PATIENCE = 1.0;"
         "runpy.run_module('donjon', run_name='__main__')"]  # fmt: skip
"""donjon whose router waits a second for a handshake."""


def openssl(*words, **more):
    return subprocess.run(["openssl", *words], capture_output=True, check=True, timeout=60, **more)


@pytest.fixture
def certs(tmp_path):
    """An authority, and what it has signed for the router and for a client."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ca = ["-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key"]
    for name, more in {
        "ca": [],
        "here": [
            *ca,
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=CA:FALSE",
        ],
        "panel": [*ca, "-addext", "basicConstraints=CA:FALSE"],
    }.items():
        out = ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"]
        openssl("req", "-x509", "-subj", f"/CN={name}", "-days", "2", *key, *out, *more)
    both = (tmp_path / "panel.pem").read_text() + (tmp_path / "panel.key").read_text()
    (tmp_path / "panel.both").write_text(both)
    return tmp_path


class Doors:
    """A router on TCP and on a unix socket, whose tickets are signed with one key."""

    def __init__(self, place, certs):
        self.place = place
        self.certs = certs
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.key = place.path / "key"
        self.key.write_text("k" * 40)
        self.key.chmod(0o600)

    def start(self, *words, program=DONJON):
        options = ["--master", "--forkpty-urouter", self.place.framed, "--forkpty-urouter",
                   self.address, "--forkpty-auth", "ticket", "--forkpty-ticket-key", str(self.key),
                   "--forkpty-tls-cert", str(self.certs / "here.pem"), "--forkpty-tls-key",
                   str(self.certs / "here.key"), *words]  # fmt: skip
        self.place._start([*program, *options], f"router on {self.address}")

    def ticket(self, name=""):
        command = [*DONJON, "ticket", "--key", str(self.key), name or socket.gethostname()]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def connect(self, *words, **size):
        path = self.place.path / "ticket"
        path.write_text(self.ticket())
        words = ("--tls", *words, "--ticket", str(path), self.address)
        return self.place.connect(*words, **size)

    def refusals(self):
        return [line for line in self.place.text().splitlines() if "[terminal] refuse" in line]


@pytest.fixture
def doors(place, certs):
    return Doors(place, certs)


def refused(client):
    """What a client says before it ends."""
    client.expect(pexpect.EOF)
    client.close()
    assert client.exitstatus == 1
    return client.before.decode().strip()


def test_a_session_by_tls_is_one_like_any_other_with_whom_it_should_be(doors):
    doors.start()
    client = doors.connect("--ca", str(doors.certs / "ca.pem"), rows=31, cols=97)
    client.expect_exact(PROMPT)
    client.sendline(b"stty size; echo d$((1+1))")
    client.expect_exact(b"31 97\r\nd2\r\n")
    client.setwinsize(40, 120)
    client.sendline(b"stty size; head -c 2000000 /dev/zero | tr '\\0' x | wc -c")
    client.expect_exact(b"40 120\r\n2000000\r\n")
    client.sendline(b"head -c 1000000 /dev/zero | tr '\\0' x; echo; echo a$((1+1))ll")
    client.expect_exact(b"\r\na2ll\r\n")
    assert client.before.count(b"x") >= 1_000_000
    client.sendline(b"sh -c 'echo u$((1+1))p; exec sleep 600'")
    client.expect_exact(b"u2p\r\n")
    client.sendcontrol("c")
    client.expect_exact(PROMPT)
    client.sendline(b"exit 7")
    client.expect(pexpect.EOF)
    client.close()
    assert client.exitstatus == 7
    assert "who=127.0.0.1:" in doors.place.text()
    assert refused(doors.connect()) == (
        "uwsgi-pty-connect: the certificate of 127.0.0.1 is not to be trusted: unable to get local"
        " issuer certificate (--ca FILE names whom to trust)"
    )
    doors.address = f"localhost:{doors.port}"
    said = refused(doors.connect("--ca", str(doors.certs / "ca.pem")))
    assert said.startswith("uwsgi-pty-connect: the certificate of localhost is not to be trusted:")
    assert "Hostname mismatch" in said


def test_openssl_has_a_session_too_and_none_without_tls_or_with_an_old_one(doors):
    doors.start()
    with socket.create_connection(("127.0.0.1", doors.port), 15) as link:
        link.sendall(protocol.said(Word.HELLO, ticket=doors.ticket()))
        with contextlib.suppress(ConnectionResetError):
            assert b"welcome" not in b"".join(iter(lambda: link.recv(4096), b""))
    line = wait_for(doors.refusals, "its line")[0]
    assert "who=127.0.0.1:" in line
    assert "no TLS: wrong version number" in line
    hello = protocol.said(Word.HELLO, ticket=doors.ticket())
    keys = protocol.stdin(b"echo o$((1+1))k; exit 3\n")
    command = ["openssl", "s_client", "-connect", doors.address, "-CAfile",
               str(doors.certs / "ca.pem"), "-verify_return_error", "-verify_ip", "127.0.0.1"]  # fmt: skip
    with subprocess.Popen([*command, "-quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as client:  # fmt: skip
        client.stdin.write(hello + keys)
        client.stdin.flush()
        said = client.stdout.read()
    assert b"welcome" in said
    assert b"o2k" in said
    assert b'"status": 3' in said
    done = subprocess.run([*command, "-brief"], input=b"", capture_output=True, check=False)
    assert b"Verification: OK" in done.stderr
    assert b"TLSv1.3" in done.stderr
    old = [*command, "-tls1_1", "-cipher", "ALL@SECLEVEL=0"]
    assert subprocess.run(old, input=b"", capture_output=True, check=False).returncode != 0
    wait_for(lambda: "no TLS: unsupported protocol" in doors.place.text(), "its line")


def test_with_an_authority_only_its_clients_are_let_in(doors):
    doors.start("--forkpty-tls-ca", str(doors.certs / "ca.pem"))
    trust = ("--ca", str(doors.certs / "ca.pem"))
    assert refused(doors.connect(*trust)).startswith("uwsgi-pty-connect: the router has hung up")
    wait_for(lambda: "peer did not return a certificate" in doors.place.text(), "its line")
    client = doors.connect(*trust, "--cert", str(doors.certs / "panel.both"))
    client.expect_exact(PROMPT)
    client.sendline(b"exit")
    client.expect(pexpect.EOF)


def test_who_says_nothing_is_bounded_in_time_and_number(doors):
    """A slow loris: nobody else notices."""
    doors.start(program=HASTY)
    with contextlib.ExitStack() as held:
        silent = [
            held.enter_context(socket.create_connection(("127.0.0.1", doors.port), 15))
            for _ in range(12)
        ]
        wait_for(lambda: "too many handshakes" in doors.place.text(), "a refusal")
        with Client(doors.place.framed, ticket=doors.ticket()) as client:
            assert client.told("welcome")["role"] == "drive"
        assert [link.recv(100) for link in silent] == [b""] * 12
    wait_for(lambda: doors.place.text().count("no TLS: it took too long") == 8, "their lines")
    with contextlib.ExitStack() as held:
        trusting = ssl.create_default_context(cafile=str(doors.certs / "ca.pem"))
        trusting.check_hostname = False
        for number in range(WAITING_EACH + 1):  # hands are shaken, and nobody logs in
            link = socket.create_connection(("127.0.0.1", doors.port), 15)
            tls = held.enter_context(trusting.wrap_socket(link, do_handshake_on_connect=False))
            tls.do_handshake()
            last = number == WAITING_EACH
            assert not last or tls.recv(1) == b""
        with Client(doors.place.framed, ticket=doors.ticket()) as client:
            assert client.told("welcome")["role"] == "drive"
    assert "too many wait of this address" in doors.place.text()
    client = doors.connect("--ca", str(doors.certs / "ca.pem"))
    client.expect_exact(PROMPT)


@pytest.mark.parametrize(("spec", "message"), [
    ({}, "a terminal on [::]:5000 would be the network's: TCP has neither a login of the kernel's"
     " nor encryption (forkpty-tls-cert = FILE and forkpty-auth = ticket or pam:SERVICE, a unix"
     " socket, or forkpty-insecure = true as the original)"),
    ({"tls_cert": "/x"}, "a terminal on [::]:5000 would be anybody's: the kernel does not know who"
     " connects by TCP (forkpty-auth = ticket or pam:SERVICE)"),
    ({"auth": Auth(TICKET), "ticket_key": "/k"}, "a terminal on [::]:5000 would be the network's"),
    ({"insecure": True, "tls_ca": "/x"},
     "forkpty-tls-ca without a certificate of its own (forkpty-tls-cert = FILE)"),
])  # fmt: skip
def test_what_would_be_open_to_the_network_is_refused_in_a_line(spec, message):
    door = Door("[::]:5000", framed=True, origin=Origin("shop.ini", 3))
    with pytest.raises(OptionError) as caught:
        check.check(RouterSpec(doors=(door,), **spec))
    assert message in str(caught.value)
    check.check(RouterSpec(doors=(door,), tls_cert="/x", auth=Auth(PAM, "shells")))
    check.check(RouterSpec(doors=(door,), insecure=True))


@pytest.mark.parametrize(("cert", "why"), [
    ("panel.both", "key values mismatch"),
    ("ca.key", "not a certificate and key in PEM"),
])  # fmt: skip
def test_a_certificate_that_is_none_is_a_line(doors, cert, why):
    doors.start("--forkpty-tls-cert", str(doors.certs / cert))
    wanted = f"cannot use forkpty-tls-cert = {doors.certs / cert} with the key "
    wait_for(lambda: wanted in doors.place.text(), "its line")
    line = next(one for one in doors.place.text().splitlines() if wanted in one)
    assert why in line


@pytest.mark.root
def test_a_jail_without_python_gets_tls_that_its_file_asks_for_later(certs):
    """What TLS needs comes in before the walls: the jail is made anew."""
    host = hosting.Host(Path("/var/tmp") / f"donjon-tls-{os.getpid()}")
    try:
        one = Doors(SimpleNamespace(path=host.place), certs)
        root = host.place / "root"
        root.mkdir()
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        secrets = host.place / "secrets"
        shutil.copytree(certs, secrets)
        shutil.copy(one.key, secrets / "key")
        for path in (secrets, *secrets.iterdir()):
            os.chown(path, 33, 33)
        shown = ("/usr", str(host.place / "sockets"), str(host.place / "app.py"), str(secrets))
        binds = "".join(f"bind = {path}\n" for path in shown)
        jail = f"rootfs = {root}\nruntime-mount = false\n{binds}uid = 33\ngid = 33\n"
        plain = f"forkpty-router = {host.place}/sockets/plain\n"
        host.vassal("shop", jail + plain)
        host.start("emperor-use-clone = fs,ipc,pid,uts\n")
        host.answer("shop")
        host.vassal("shop", f"{jail}{plain}forkpty-urouter = {one.address}\nforkpty-auth = ticket\n"
                    f"forkpty-ticket-key = {secrets}/key\nforkpty-tls-cert = {secrets}/here.pem\n"
                    f"forkpty-tls-key = {secrets}/here.key\n")  # fmt: skip
        wait_for(lambda: f"router on {one.address}" in host.log(), "its router")
        hello = protocol.said(Word.HELLO, ticket=one.ticket("shop"))
        context = ssl.create_default_context(cafile=certs / "ca.pem")

        def welcomed():
            with (
                socket.create_connection(("127.0.0.1", one.port), 15) as link,
                context.wrap_socket(link, server_hostname="127.0.0.1") as tls,
            ):
                tls.sendall(hello)
                return b"welcome" in tls.recv(4096)

        assert wait_for(welcomed, "its welcome"), host.log()[-2000:]
        assert "needs Python's ssl" not in host.log()
    finally:
        host.close()


def test_a_host_that_is_not_known_is_told_in_the_resolver_s_words():
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert reason_of(unknown) == "Name or service not known"
