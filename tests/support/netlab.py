"""A host and the world outside of it: two network namespaces of the test's own, and a cable.

``HOST`` is where the Emperor under test lives, ``OUTSIDE`` another machine that it reaches.
Everything is done by small programs inside: nothing of the test's own namespace changes.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from netspaces import Space, enter

HOST, OUTSIDE = "198.51.100.1", "198.51.100.2"
HOST6, OUTSIDE6 = "2001:db8::1", "2001:db8::2"

_SERVE = """
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as server:
    print('listening', flush=True)
    while True:
        link, peer = server.accept()
        with link:
            link.sendall(peer[0].removeprefix('::ffff:').encode())
"""
_ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as link:
        print(link.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""


def ask(pid, address, port, patience=1.0):
    """What a server answers a connection out of the namespace of ``pid``: how it sees the asker; or an error."""
    words = [*enter(pid), sys.executable, "-c", _ASK, address, str(port), str(patience)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


_SINK = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print('listening', flush=True)
    link, _ = server.accept()
    total = 0
    while block := link.recv(65536):
        total += len(block)
    print(total, flush=True)
"""


@contextlib.contextmanager
def _listening(pid, code, address, port):
    """A program in the namespace of ``pid`` that serves an address, once it does."""
    words = [*enter(pid), sys.executable, "-c", code, address, str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"listening\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def server(pid, address, port):
    """A server in the namespace of ``pid`` that tells each client its address."""
    with _listening(pid, _SERVE, address, port):
        yield


@contextlib.contextmanager
def sink(pid, address, port):
    """A server that takes all of one connection; what is yielded returns how many bytes that were, at its end."""
    with _listening(pid, _SINK, address, port) as process:
        yield lambda: int(process.stdout.readline())


class Lab:
    """The host, the outside, and the cable between them."""

    def __init__(self):
        self.host, self.outside = Space(), Space()
        cable = ("type", "veth", "peer", "name", "out0", "netns", str(self.outside.pid))
        self.host.run("ip", "link", "add", "cable0", *cable)
        for space, device, four, six in (
            (self.host, "cable0", HOST, HOST6),
            (self.outside, "out0", OUTSIDE, OUTSIDE6),
        ):
            space.run("ip", "address", "add", f"{four}/24", "dev", device)
            space.run("ip", "address", "add", f"{six}/64", "dev", device, "nodad")
            space.run("ip", "link", "set", device, "up")
        self.host.run("ip", "route", "add", "default", "via", OUTSIDE)
        self.host.run("ip", "-6", "route", "add", "default", "via", OUTSIDE6)

    @property
    def world(self):
        """The pid by which the outside is entered."""
        return self.outside.pid

    @property
    def home(self):
        """The pid by which the host is entered."""
        return self.host.pid

    def addresses(self, pid):
        """The addresses of a namespace by interface."""
        words = [*enter(pid), "ip", "-json", "address"]
        found = json.loads(
            subprocess.run(words, check=True, capture_output=True, text=True).stdout
        )
        return {
            one["ifname"]: [f"{a['local']}/{a['prefixlen']}" for a in one["addr_info"]]
            for one in found
        }

    def namespace(self, pid):
        return Path(f"/proc/{pid}/ns/net").readlink().name

    def close(self):
        self.outside.close()
        self.host.close()
