"""The process that makes network namespaces, asked from a namespace of the test's own."""

import errno
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from empire import alive, wait_for

from donjon import syscalls
from donjon.errors import DonjonError
from donjon.netns import helper as helpers
from donjon.netns import making
from donjon.netns.helper import Helper, Request
from donjon.netns.wanted import HostDevice, Interface, Namespace

pytestmark = pytest.mark.root

TUN = Interface(
    name="tun0",
    addresses=("192.0.2.2/24", "2001:db8::2/64"),
    routers=("192.0.2.1", "2001:db8::1"),
    mtu=1400,
)


@pytest.fixture
def helper():
    found = Helper()
    yield found
    found.close()


def ask(helper, wanted, number=1):
    helper.ask(Request(number, wanted))
    answer, fds = helper.answer()
    assert answer.number == number
    return answer.error, fds


def inside(namespace, *words):
    number = namespace.fileno()
    prefix = ["nsenter", f"--net=/proc/self/fd/{number}"]
    done = subprocess.run(
        [*prefix, *words], check=True, capture_output=True, text=True, pass_fds=[number]
    )
    return done.stdout


def test_a_namespace_has_what_was_wanted(helper):
    error, (namespace, device) = ask(helper, Namespace(tun=TUN))
    assert error == ""
    with namespace, device:
        assert "mtu 1400" in inside(namespace, "ip", "link", "show", "tun0")
        assert "default via 192.0.2.1 dev tun0" in inside(namespace, "ip", "route")
        assert "default via 2001:db8::1 dev tun0" in inside(namespace, "ip", "-6", "route")
        assert "fe80" not in inside(
            namespace, "ip", "address", "show", "tun0"
        )  # nobody asked for it
        details = inside(namespace, "ip", "-d", "link", "show", "tun0")
        assert "vnet_hdr on" in details
        assert "pi off" in details
        assert "UP" in inside(namespace, "ip", "link", "show", "lo")
        assert inside(namespace, "cat", making.LOW_PORTS) == "0\n"
    assert Path(making.LOW_PORTS).read_text() != "0\n"


def test_the_one_who_asks_stays_where_it_is(helper):
    before = os.readlink("/proc/self/ns/net")
    _error, (namespace,) = ask(helper, Namespace())
    with namespace:
        assert os.readlink("/proc/self/ns/net") == before
        assert os.readlink(f"/proc/{helper.pid}/ns/net") == before  # and so does the helper
        assert os.fstat(namespace.fileno()).st_ino != os.stat("/proc/self/ns/net").st_ino


def test_nothing_of_it_has_a_name(helper):
    mounts = Path("/proc/self/mountinfo").read_text()
    _error, (namespace, device) = ask(helper, Namespace(tun=TUN))
    with namespace, device:
        assert Path("/proc/self/mountinfo").read_text() == mounts
        assert Path(f"/proc/{helper.pid}/mountinfo").read_text() == mounts


def test_descriptors_are_closed_by_the_next_program(helper):
    _error, fds = ask(helper, Namespace(tun=TUN))
    assert [os.get_inheritable(one.fileno()) for one in fds] == [False, False]
    for one in fds:
        one.close()


def test_it_keeps_nothing_open(helper):
    held = lambda: sorted(os.listdir(f"/proc/{helper.pid}/fd"))  # noqa: E731
    assert ask(helper, HostDevice(interface=Interface(name="x" * 16)))[0]
    before = held()
    for _ in range(3):
        for one in ask(helper, Namespace(tun=TUN))[1]:
            one.close()
    wait_for(lambda: held() == before, "the helper's ends to be closed")


def test_what_cannot_be_made_is_one_line_and_the_helper_goes_on(helper):
    wanted = Namespace(veth=Interface(name="eth0"), outer="djtest0", bridge="nobridge0")
    error, fds = ask(helper, wanted)
    assert (error, fds) == ("cannot join the bridge nobridge0: No such device", [])
    bad = Interface(name="tun0", addresses=("192.0.2.2/24", "192.0.2.2/24"))
    assert ask(helper, Namespace(tun=bad))[0] == "cannot configure tun0: File exists"
    error, (namespace,) = ask(helper, Namespace())
    namespace.close()
    assert error == ""


def test_a_dead_helper_is_an_end_and_no_answer(helper):
    os.kill(helper.pid, signal.SIGKILL)
    wait_for(lambda: not alive(helper.pid), "its end")
    assert helper.answer() is None


def test_a_process_without_a_free_descriptor_is_told_so(helper):
    helper.ask(Request(1, Namespace(tun=TUN)))
    select.select([helper.link], [], [])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    before = sorted(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # none is free
    try:
        answer, fds = helper.answer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (answer.error, fds) == (
        "cannot take what the helper made: Too many open files",
        [],
    )
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.close(free)


def test_a_helper_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(helpers, "PATIENCE", 0.1)
    one = Helper()
    os.kill(one.pid, signal.SIGSTOP)
    one.close()
    assert not alive(one.pid)


def test_it_cleans_up_also_when_an_answer_was_not_read(tmp_path):
    program = (
        "import fcntl, os, pathlib, select, subprocess, sys\n"
        "from donjon.netns.helper import Helper, Request\n"
        "from donjon.netns.wanted import Nat\n"
        "one = Helper()\n"
        "for name in 'ab':\n"
        "    lock = open(f'{sys.argv[1]}{name}.lock', 'w')\n"
        "    if name == 'b': fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "    table = f'donjon_{name}'\n"
        "    script = f'table inet {table} {{ }}\\n'\n"
        "    one.ask(Request(1, Nat(table=table, script=script, record=sys.argv[1] + name)))\n"
        "    select.select([one.link], [], [])\n"
        "fds = pathlib.Path(f'/proc/{one.pid}/fd')\n"
        "while not any(os.path.realpath(each).endswith('b.lock') for each in fds.iterdir()): pass\n"
        "assert subprocess.check_output(['nft', 'list', 'ruleset'])\n"
        "one.link.close()\n"
        "fcntl.flock(lock, fcntl.LOCK_UN)\n"
        "one.close()\n"
        "print(subprocess.check_output(['nft', 'list', 'ruleset']))\n"
    )
    words = ["unshare", "-n", sys.executable, "-c", program, str(tmp_path / "record")]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("b''\n", "")


def test_it_ends_when_who_asked_is_killed():
    program = (
        "from donjon.netns.helper import Helper\n"
        "import signal\n"
        "print(Helper().pid, flush=True)\n"
        "signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with process.stdout:
        pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    wait_for(lambda: not alive(pid), "end of the helper")


def test_a_refused_call_leaves_us_at_home():
    before = os.readlink("/proc/self/ns/net")
    syscalls.inject("unshare", errno.EPERM)
    with pytest.raises(DonjonError) as caught:
        making.make(Namespace())
    assert str(caught.value) == "cannot make a network namespace: Operation not permitted"
    assert os.readlink("/proc/self/ns/net") == before
