"""What a vassal leaves running, and what it is doing when it is told to end: it always ends."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import hosting
import prison
import pytest
from patience import patient

from donjon.jail import cgroup_layout

pytestmark = pytest.mark.root
LAYOUT = cgroup_layout.look()


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


@pytest.mark.parametrize("namespaces", ["fs,ipc,pid,uts,net", "fs,ipc,uts,net"])
def test_what_clings_to_life_ends_with_its_vassal(host, namespaces):
    pids = group_of("pids")
    master = begin(host, namespaces, f"cgroup = {pids}\ncgroup-opt = pids.max=60\n")
    inode = os.readlink(f"/proc/{master}/ns/mnt")
    before = len(members("mnt", inode))
    hosting.ask(host.sock("cell"), "/c/cling")
    hosting.wait_for(lambda: len(members("mnt", inode)) > before + 10, "what clings")
    (host.place / "vassals" / "cell.ini").unlink()
    hosting.wait_for(lambda: not members("mnt", inode), "end of all that clung", 20)
    hosting.wait_for(lambda: not os.path.exists(pids), "end of the group")


def group_of(controller):
    """The directory for a group that has a controller, of version 1 where that has it."""
    top = LAYOUT.old.get(controller)
    if top is None and controller != "freezer" and controller not in LAYOUT.controllers:
        pytest.skip(f"no group with {controller} can be made here")
    return f"{top or LAYOUT.unified}/donjon-ending-{os.getpid()}"


def freeze(host, path):
    state, events = Path(path, "freezer.state"), Path(path, "cgroup.events")
    if state.exists():
        state.write_text("FROZEN")
        hosting.wait_for(lambda: state.read_text() == "FROZEN\n", "the frozen state")
    else:
        Path(path, "cgroup.freeze").write_text("1")
        hosting.wait_for(lambda: "frozen 1" in events.read_text(), "the frozen state")


def hog(host, path):
    thread = threading.Thread(target=swallow, args=(host,), daemon=True)
    thread.start()


def swallow(host):
    with contextlib.suppress(OSError, ValueError):
        hosting.ask(host.sock("cell"), "/c/hog?4096")


@pytest.mark.parametrize(
    ("controller", "option", "act"),
    [
        ("freezer", "freezer.state=THAWED", freeze),
        ("memory", "memory.limit_in_bytes=200M", hog),
    ],
)
@pytest.mark.parametrize("how", ["removed", "emperor-ends", "emperor-dies"])
def test_a_vassal_ends_whatever_it_is_doing(host, controller, option, act, how):
    path = group_of(controller)
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
        assert host.emperor.wait(patient(20)) == 0, host.log()


@pytest.mark.parametrize("hook", ["exec-as-root = sleep 1000", "wait-for-file = /no/such"])
def test_a_vassal_that_is_starting_ends_too(host, hook):
    host.vassal("cell", f"uid = {prison.OWNER}\n{hook}\n")
    host.start("emperor-use-clone = fs,ipc,pid,uts,net\nemperor-curse-tolerance = 2\n")
    master = hosting.wait_for(lambda: max(host.master("cell"), 0), "birth")
    inode = os.readlink(f"/proc/{master}/ns/mnt")
    (host.place / "vassals" / "cell.ini").unlink()
    hosting.wait_for(lambda: not members("mnt", inode), "end of the vassal", 40)
