"""The process that makes network namespaces, and who speaks to it.

One thread, started by execution, so that entering namespaces never changes the one who asks. One
request is one packet of a private pair, a descriptor of memory: the table of a thousand vassals is
longer than a packet can be. The answer carries the descriptors that were made (SCM_RIGHTS). It
ends at the end of file of the pair, and only after it removed the tables it made: also when who
asked was killed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import signal
import socket
import subprocess
import sys

from donjon.errors import DonjonError
from donjon.fd import Fd
from donjon.netns.wanted import Nat, Wanted
from donjon.records import dataclass, replace

MOST = 4
"""Descriptors of one packet at most."""

PATIENCE = 30.0
"""Seconds that a helper has for its end: nft(8) may have to wait for others."""

_PACKET = 16 << 10
_QUIET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PROGRAM = "from donjon.netns.helper import main; main()"


@dataclass(frozen=True, slots=True)
class Request:
    """``number`` comes back with the answer."""

    number: int
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Answer:
    """``error`` is one line, "" where it was made."""

    number: int
    error: str = ""


class Helper:
    """The side that asks. ``link`` is readable when an answer is there, or the helper ended."""

    def __init__(self) -> None:
        """Start the process. Raises OSError."""
        self.link, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), str(far.fileno())]
        with far:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, pass_fds=(far.fileno(),), start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def ask(self, request: Request, *last: int) -> None:
        """Send a request, and descriptors that are to be closed. Raises OSError."""
        with Fd(os.memfd_create("request", os.MFD_CLOEXEC)) as memory:
            with open(memory.fileno(), "wb", closefd=False) as file:
                pickle.dump(request, file, protocol=pickle.HIGHEST_PROTOCOL)
            socket.send_fds(self.link, [b"?"], [memory.fileno(), *last])

    def answer(self) -> tuple[Answer, list[Fd]] | None:
        """Return the next answer, or None when the helper is gone."""
        try:
            data, numbers, flags, _address = socket.recv_fds(self.link, _PACKET, MOST)
        except OSError:
            return None
        fds = [Fd(number) for number in numbers]
        for one in fds:
            fcntl.fcntl(one.fileno(), fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        if not data:
            return None
        found = pickle.loads(data)
        assert isinstance(found, Answer)
        if flags & socket.MSG_CTRUNC:  # recvmsg(2): what did not fit is closed already
            for one in fds:
                one.close()
            reason = os.strerror(errno.EMFILE)
            return Answer(found.number, f"cannot take what the helper made: {reason}"), []
        return found, fds

    def close(self) -> None:
        """Let it remove what it made, and wait until it ended; not for ever."""
        self.link.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Be the helper: ``sys.argv`` has the module path and the number of the link."""
    sys.path[:] = json.loads(sys.argv[1])
    for number in _QUIET:
        signal.signal(number, signal.SIG_IGN)  # it ends when its Emperor does
    link = socket.socket(fileno=int(sys.argv[2]))
    from donjon import syscalls  # noqa: PLC0415  (the path is known only now)
    from donjon.netns import making  # noqa: PLC0415  (slow, and nobody else's)

    syscalls.set_name("donjon netns")
    made: dict[str, Nat] = {}
    while request := _received(link):
        fds: list[Fd] = []
        answer = Answer(request.number)
        try:
            fds = making.make(request.wanted)
        except Exception as error:
            answer = Answer(request.number, _words(error))
        if isinstance(request.wanted, Nat):
            made[request.wanted.table] = request.wanted
        _send(link, answer, fds)
        for one in fds:
            one.close()
    for nat in made.values():
        if nat.script:
            try:
                making.make(replace(nat, script=""))
            except DonjonError as error:
                print(f"[emperor] the host's table stays: {error}", file=sys.stderr, flush=True)


def _received(link: socket.socket) -> Request | None:
    """Return a request, None when who asked is gone, be it with an answer unread."""
    try:
        _data, numbers, _flags, _address = socket.recv_fds(link, _PACKET, MOST)
    except ConnectionResetError:
        return None
    if not numbers:
        return None
    with open(numbers[0], "rb") as file:
        file.seek(0)
        request = pickle.load(file)
    for one in numbers[1:]:
        os.close(one)
    assert isinstance(request, Request)
    return request


def _words(error: Exception) -> str:
    if isinstance(error, DonjonError):
        return str(error)
    return f"internal error: {type(error).__name__}: {error}"


def _send(link: socket.socket, answer: Answer, fds: list[Fd]) -> None:
    data = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    try:
        socket.send_fds(link, [data], [one.fileno() for one in fds])
    except (BrokenPipeError, ConnectionResetError):
        return  # who asked is gone, perhaps with an answer unread; the end of file comes next
