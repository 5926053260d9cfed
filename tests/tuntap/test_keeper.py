"""The process that keeps a router, when the router does not do as it should."""

import errno
import json
import os
import select
import signal
import socket

import pytest

from donjon import syscalls
from donjon.fd import Fd
from donjon.origin import DEFAULT
from donjon.tuntap import client, device, endpoint, keeper, launch
from donjon.tuntap.protocol import RouterError
from donjon.tuntap.settings import RouterSetting

pytestmark = pytest.mark.root


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A keeper, and its statistics as who connects is given them; None where there are none."""
    monkeypatch.setattr(keeper, "QUICK", 0.01)
    path = str(tmp_path / "stats")
    with endpoint.listen(path, DEFAULT) as stats, Fd(syscalls.pidfd_open(os.getpid())) as parent:
        one = keeper.Keeper(parent.fileno(), stats)

        def ask():
            with socket.socket(socket.AF_UNIX) as stream, stream.makefile() as answer:
                stream.connect(path)
                one._answer(stats)
                text = answer.read()
                return json.loads(text) if text else None

        yield one, ask
        one._client.close()
        os.waitpid(one._router.pid, 0)
        one._router.pidfd.close()
        one._selector.close()


def ended(one):
    return bool(select.select([one._router.pidfd], [], [], 5)[0])


def test_a_router_that_hangs_is_replaced(kept):
    one, ask = kept
    os.kill(one._router.pid, signal.SIGSTOP)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(client, "PATIENCE", 0.3)
        assert ask() is None
    assert ended(one)
    one._renew()
    assert ask()["pid"] == one._router.pid


def test_a_router_that_cannot_be_started_is_tried_again(kept, monkeypatch, capfd):
    one, ask = kept
    failures = [OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))] * 2
    start = launch.start

    def hindered():
        if failures:
            raise failures.pop()
        return start()

    monkeypatch.setattr(launch, "start", hindered)
    os.kill(one._router.pid, signal.SIGKILL)
    assert ended(one)
    one._renew()
    assert ask()["pid"] == one._router.pid
    said = "cannot start the tuntap router: Resource temporarily unavailable"
    assert capfd.readouterr().err.count(said) == 2


def test_credentials_over_tcp_are_refused_at_the_start(monkeypatch):
    near, far = socket.socketpair()
    monkeypatch.setattr(device, "open_tun", lambda _name: Fd(near.detach()))
    setting = RouterSetting("emperor0", "127.0.0.1:0")
    with far, pytest.raises(RouterError, match="they come over UNIX sockets alone"):
        keeper.begin(setting, b"", credentials=True)


def test_a_child_keeps_what_it_is_given_alone_in_a_jail_without_proc():
    near, far = socket.socketpair()
    with near, far:
        jail = os.fork()
        if jail == 0:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("none", "/proc", "tmpfs", 0)
            numbers = (near.fileno(), far.fileno())

            def main(parent):
                left = [number for number in (*numbers, parent) if is_open(number)]
                far.send(json.dumps(left == [far.fileno(), parent]).encode())

            child = keeper.fork(main, {far.fileno(), -1})
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert os.waitpid(jail, 0)[1] == 0
        assert near.recv(16) == b"true"


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
