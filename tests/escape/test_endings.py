"""What a vassal leaves running, and what it is doing when it is told to end: it always ends."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import hosting
import prison
import pytest

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    return prison.build_probe(tmp_path_factory.mktemp("probe"))


@pytest.fixture
def host(probe):
    one = prison.WatchedHost(Path(f"/tmp/donjon-ending-{os.getpid()}"))
    prison.install(one, probe)
    yield one
    one.close()


def begin(host, namespaces="fs,ipc,pid,uts,net", lines=""):
    """Start an Emperor with one jailed vassal and return the pid of its first process."""
    host.vassal("cell", f"uid = {prison.OWNER}\ngid = {prison.OWNER}\n")
    sockets = host.place / "sockets"
    (host.place / "base.ini").write_text(
        f"[uwsgi]\nrootfs = host\nhostname = cell\nbind = {sockets}:{sockets}\n{lines}"
    )
    host.start(
        f"emperor-use-clone = {namespaces}\nvassals-include = {host.place}/base.ini\n"
        "emperor-curse-tolerance = 2\n"
    )
    hosting.wait_for(lambda: hosting.ask(host.sock("cell"), "/A4"), "answer")
    return host.master("cell")


def members(kind, inode):
    """Processes in a namespace."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/ns/{kind}") == inode and hosting.alive(int(name)):
                found.append(int(name))
        except OSError:
            continue  # it ended
    return found


@pytest.mark.cgroup1
@pytest.mark.parametrize("namespaces", ["fs,ipc,pid,uts,net", "fs,ipc,uts,net"])
def test_what_clings_to_life_ends_with_its_vassal(host, namespaces):
    pids = f"/sys/fs/cgroup/pids/donjon-ending-{os.getpid()}"
    master = begin(host, namespaces, f"cgroup = {pids}\ncgroup-opt = pids.max=60\n")
    inode = os.readlink(f"/proc/{master}/ns/mnt")
    before = len(members("mnt", inode))
    hosting.ask(host.sock("cell"), "/c/cling")
    hosting.wait_for(lambda: len(members("mnt", inode)) > before + 10, "what clings")
    (host.place / "vassals" / "cell.ini").unlink()
    hosting.wait_for(lambda: not members("mnt", inode), "end of all that clung", 20)
    hosting.wait_for(lambda: not os.path.exists(pids), "end of the group")


def freeze(host, path):
    Path(f"{path}/freezer.state").write_text("FROZEN")
    hosting.wait_for(
        lambda: Path(f"{path}/freezer.state").read_text() == "FROZEN\n", "the frozen state"
    )


def hog(host, path):
    thread = threading.Thread(target=swallow, args=(host,), daemon=True)
    thread.start()


def swallow(host):
    with contextlib.suppress(OSError, ValueError):
        hosting.ask(host.sock("cell"), "/c/hog?4096")


@pytest.mark.cgroup1
@pytest.mark.parametrize(
    ("controller", "option", "act"),
    [
        ("freezer", "freezer.state=THAWED", freeze),
        ("memory", "memory.limit_in_bytes=200M", hog),
    ],
)
@pytest.mark.parametrize("how", ["removed", "emperor-ends", "emperor-dies"])
def test_a_vassal_ends_whatever_it_is_doing(host, controller, option, act, how):
    path = f"/sys/fs/cgroup/{controller}/donjon-ending-{os.getpid()}"
    master = begin(host, lines=f"cgroup = {path}\ncgroup-opt = {option}\n")
    inode = os.readlink(f"/proc/{master}/ns/mnt")
    act(host, path)
    if how == "removed":
        (host.place / "vassals" / "cell.ini").unlink()
    else:
        host.emperor.send_signal(signal.SIGTERM if how == "emperor-ends" else signal.SIGKILL)
    hosting.wait_for(lambda: not members("mnt", inode), "end of the vassal", 20)
    hosting.wait_for(lambda: not os.path.exists(path), "end of the group")
    if how == "emperor-ends":
        assert host.emperor.wait(20) == 0, host.log()


@pytest.mark.parametrize("hook", ["exec-as-root = sleep 1000", "wait-for-file = /no/such"])
def test_a_vassal_that_is_starting_ends_too(host, hook):
    host.vassal("cell", f"uid = {prison.OWNER}\n{hook}\n")
    host.start("emperor-use-clone = fs,ipc,pid,uts,net\nemperor-curse-tolerance = 2\n")
    master = hosting.wait_for(lambda: max(host.master("cell"), 0), "birth")
    inode = os.readlink(f"/proc/{master}/ns/mnt")
    (host.place / "vassals" / "cell.ini").unlink()
    hosting.wait_for(lambda: not members("mnt", inode), "end of the vassal", 40)
