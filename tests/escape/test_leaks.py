"""Two hundred lives of jailed vassals: what the host, the Emperor and its spawner hold stays the same."""

import collections
import importlib
import json
import os
import socket
from pathlib import Path

import cases
import hosting
import prison
import pytest
from patience import patient

from donjon.jail import cgroup_layout

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(170)]

VASSALS, ROUNDS = 10, 20
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@pytest.fixture
def host():
    one = prison.WatchedHost(Path(f"/tmp/donjon-leaks-{os.getpid()}"))
    (one.place / "app").mkdir()
    (one.place / "app" / "app.py").write_text(hosting.APP)
    yield one
    one.close()


def order(host, verb):
    """Have every vassal started or stopped, in one connection."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(patient(20))
        link.connect(str(host.place / "control"))
        lines = link.makefile("rb")
        for number in range(VASSALS):
            request = {"verb": verb, "name": f"v{number}.ini"}
            link.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(lines.readline())
            assert "error" not in answer, answer


def enter_all(host):
    """Have a command in each vassal, all at once, where the verb exists."""
    if cases.lacks("verb=enter"):
        return
    verb = importlib.import_module("donjon.verbs.enter")
    inside = []
    for number in range(VASSALS):
        pid = os.fork()  # a new interpreter for each would take most of the time
        if pid == 0:
            words = ["--control", str(host.place / "control"), f"v{number}.ini", "/bin/true"]
            status = 70
            try:
                status = verb.main("enter", words)
            finally:
                os._exit(status)
        inside.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in inside]
    assert statuses == [0] * VASSALS


def running(host):
    return sum(row["pid"] > 0 and row["accepting"] for row in host.stats()["vassals"])


def held(host):
    """Everything that a life could leave behind."""
    own = [host.pid, *hosting.descendants(host.pid)]
    namespaces = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in own for kind in KINDS}
    groups = [
        str(path)
        for depth in ("", "*/")
        for path in Path("/sys/fs/cgroup").glob(f"{depth}donjon-leaks-{os.getpid()}/*")
        if path.is_dir()
    ]
    return {
        "processes": len(own),
        "descriptors": [len(os.listdir(f"/proc/{pid}/fd")) for pid in own],
        "namespaces": len(namespaces),
        "mounts": Path(f"/proc/{host.pid}/mountinfo").read_text(),
        "spawner's mounts": [Path(f"/proc/{pid}/mountinfo").read_text() for pid in own],
        "groups": groups,
        "files": sorted(path.name for path in (host.place / "sockets").iterdir()),
    }


def settled(host):
    """What is held when nothing changes any more: groups go after the processes in them."""
    looks = collections.deque(maxlen=10)

    def still():
        looks.append(held(host))
        return len(looks) == 10 and all(look == looks[0] for look in looks)

    hosting.wait_for(still, "rest", 20)
    return looks[-1]


def test_two_hundred_lives_of_a_vassal_leave_nothing(host):
    top = "/sys/fs/cgroup" if "pids" in cgroup_layout.look().controllers else "/sys/fs/cgroup/pids"
    cgroup = f"cgroup = {top}/donjon-leaks-{os.getpid()}/%N\n" if os.access(top, os.W_OK) else ""
    sockets = host.place / "sockets"
    (host.place / "base.ini").write_text(
        f"[uwsgi]\nrootfs = host\nhostname = cell\nbind = {sockets}:{sockets}\n{cgroup}"
    )
    for number in range(VASSALS):
        host.vassal(f"v{number}", f"uid = {20000 + number}\n")
    host.start(
        f"emperor-use-clone = fs,ipc,pid,uts,net\nvassals-include = {host.place}/base.ini\n"
    )
    hosting.wait_for(lambda: running(host) == VASSALS, "the first lives", 60)
    before = after = None
    for life in range(ROUNDS):
        enter_all(host)
        order(host, "stop")
        hosting.wait_for(lambda: len(hosting.children(host.pid)) == 1, "the ends", 60)
        if life == 0:  # what the first life made once for all is there now
            before = settled(host)
        if life == ROUNDS - 1:
            after = settled(host)
        order(host, "start")
        hosting.wait_for(lambda: running(host) == VASSALS, f"life {life + 2}", 60)
    assert after == before
