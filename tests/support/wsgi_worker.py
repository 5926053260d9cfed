"""A C worker in a process of its own, an application for it, and a client that speaks bytes."""

import mmap
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from donjon.server._wsgi import CORE_SIZE, Worker

FIELDS = (
    "requests",
    "exceptions",
    "tx",
    "running_time",
    "avg_rt",
    "in_request",
    "accepting",
    "last_request",
    "read_errors",
    "write_errors",
    "connections",
)


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class Served:
    """A running worker: its address, its counters and its log."""

    def __init__(self, pid: int, pidfd: int, address, counters: mmap.mmap, log: Path):
        self.pid = pid
        self.pidfd = pidfd
        self.address = address
        self.counters = counters
        self.log = log
        self.status: int | None = None

    def connect(self, timeout: float = 10) -> socket.socket:
        """A connection; reads that take longer than ``timeout`` fail the test."""
        family = socket.AF_INET if isinstance(self.address, tuple) else socket.AF_UNIX
        sock = socket.socket(family)
        sock.settimeout(timeout)
        sock.connect(self.address)
        return sock

    def ask(self, request: bytes) -> bytes:
        """Send and read to the end of the connection."""
        with self.connect() as sock:
            sock.sendall(request)
            return everything(sock)

    def counter(self, name: str, core: int = 0) -> int:
        return struct.unpack_from("Q", self.counters, core * CORE_SIZE + 8 * FIELDS.index(name))[0]

    def wait_counter(self, name: str, wanted: int, core: int = 0) -> None:
        """Wait until a counter has a value; it is written just after an answer is sent."""
        end = time.monotonic() + 10
        while self.counter(name, core) != wanted:
            assert time.monotonic() < end, f"{name} is {self.counter(name, core)}, not {wanted}"
            os.sched_yield()

    def stop(self, sig: int = signal.SIGHUP, timeout: float = 15) -> int:
        """Signal it, and return what serve() returned."""
        signal.pidfd_send_signal(self.pidfd, sig)
        return self.wait(timeout)

    def wait(self, timeout: float = 15) -> int:
        if self.status is None:
            ready, _, _ = select.select([self.pidfd], [], [], timeout)
            if not ready:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            assert ready, "the worker did not end"
        return self.status

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def everything(sock: socket.socket) -> bytes:
    """All bytes until the other side closes."""
    found = []
    while data := sock.recv(1 << 16):
        found.append(data)
    return b"".join(found)


def one_answer(sock: socket.socket) -> bytes:
    """One answer with a Content-Length, head and body, and not a byte more."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(1)
        assert more, f"closed after {data!r}"
        data += more
    length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", data)[1])
    body = bytearray()
    while len(body) < length:
        more = sock.recv(length - len(body))
        assert more, f"closed after {len(body)} of {length} bytes"
        body += more
    return data + body


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def payload_of(answer: bytes) -> bytes:
    """The body without its chunks, if it has them; a body that does not end is an error."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"\r\nTransfer-Encoding: chunked" not in head:
        return body
    found = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        found += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        if length == 0:
            assert rest == b"\r\n"
            return found
        body = rest[length + 2 :]


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def packet(variables: dict[str, str], modifier1: int = 0) -> bytes:
    """A uwsgi packet."""
    data = b"".join(
        struct.pack("<H", len(k)) + k + struct.pack("<H", len(v)) + v
        for k, v in ((k.encode("latin-1"), v.encode("latin-1")) for k, v in variables.items())
    )
    return struct.pack("<BHB", modifier1, len(data), 0) + data


def _serve(listener: socket.socket, protocol: str, options: dict) -> int:
    """In the child: serve on all cores with the handlers that a master would install."""
    port = listener.getsockname()[1] if listener.family == socket.AF_INET else 0
    worker = Worker(listeners=[(listener.fileno(), protocol, "donjon.test", port)], **options)
    signal.set_wakeup_fd(worker.wake_fd)
    signal.signal(signal.SIGHUP, lambda *_: worker.stop())
    signal.signal(signal.SIGINT, lambda *_: worker.stop(quick=True))
    others = [
        threading.Thread(target=worker.serve, args=(core,))
        for core in range(1, options.get("threads", 1))
    ]
    for thread in others:
        thread.start()
    result = worker.serve()
    for thread in others:
        thread.join()
    signal.set_wakeup_fd(-1)
    return result


def _fork(listener: socket.socket, protocol: str, log: Path, options: dict) -> int:
    """Fork the worker. It ends with what serve() returned; 70 if it raised."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(fd, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        status = _serve(listener, protocol, options)
    except BaseException as error:  # the child must never return into pytest
        os.write(2, f"serve() raised {error!r}\n".encode())
    os._exit(status)


@contextmanager
def serving(
    place: Path,
    application: Callable = hello,
    protocol: str = "http11",
    unix: Path | None = None,
    **options,
):
    """Serve ``application`` in a child process until the block ends; its log is kept in ``place``."""
    listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    if unix:
        listener.bind(str(unix))
    else:
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    counters = mmap.mmap(-1, mmap.PAGESIZE)
    options.setdefault("applications", [("", application)])
    options.setdefault("stats", counters)
    options.setdefault("log", False)
    pid = _fork(listener, protocol, place / "worker.log", options)
    served = Served(
        pid, os.pidfd_open(pid), listener.getsockname(), counters, place / "worker.log"
    )
    listener.close()
    try:
        served.wait_counter("accepting", 1)
        yield served
    finally:
        if served.status is None:
            signal.pidfd_send_signal(served.pidfd, signal.SIGKILL)
            served.wait()
        os.close(served.pidfd)
        options.clear()
        counters.close()
