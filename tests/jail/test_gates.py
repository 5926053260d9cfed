"""Gates wait for what they name, and give up in time."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from jailer import Note

from donjon.errors import JailError
from donjon.jail import gates, mounts
from donjon.jail.phase import Phase
from donjon.jail.spec import JailSpec, WaitFor


def test_what_is_there_is_not_waited_for(tmp_path):
    start = time.monotonic()
    (tmp_path / "file").write_text("")
    for kind, target in (
        ("fs", tmp_path),
        ("dir", tmp_path),
        ("file", tmp_path / "file"),
        ("mountpoint", "/proc"),
        ("interface", "lo"),
    ):
        gates.wait_for(kind, str(target), 5)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("kind", ["file", "fs", "mountpoint", "socket", "interface", "dir"])
def test_a_gate_gives_up_and_says_for_what_it_waited(kind):
    name = "/no/such" if kind != "interface" else "nosuch0"
    with pytest.raises(JailError) as caught:
        gates.wait_for(kind, name, 0.02)
    assert f"{name}: it is not there after 0.02 seconds" in str(caught.value)


def test_a_directory_is_no_file_and_a_file_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    for kind, target in (("file", tmp_path), ("dir", tmp_path / "file"), ("mountpoint", tmp_path)):
        with pytest.raises(JailError):
            gates.wait_for(kind, str(target), 0.02)


def test_a_file_that_appears_opens_the_gate(tmp_path, monkeypatch):
    looks = tmp_path / "looks"
    looks.write_text("")

    def look(path):
        with looks.open("a") as file:
            file.write("x")
        if looks.read_text() == "xxx":
            (tmp_path / "late").write_text("")
        return os.path.exists(path)

    monkeypatch.setitem(gates.CONDITIONS, "file", look)
    gates.wait_for("file", str(tmp_path / "late"), 10)
    assert looks.read_text() == "xxx"


def test_a_socket_opens_the_gate_once_it_listens(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        with pytest.raises(JailError):
            gates.wait_for("socket", path, 0.02)
        server.listen()
        gates.wait_for("socket", path, 5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        gates.wait_for("socket", f"127.0.0.1:{server.getsockname()[1]}", 5)


@pytest.mark.root
def test_a_bind_of_the_same_file_system_is_a_mount_point(jail, tmp_path):
    (tmp_path / "a b").mkdir()

    def bind(context):
        with mounts.clone_path(str(tmp_path / "a b")) as tree:
            mounts.attach_path(tree, str(tmp_path / "a b"))

    spec = JailSpec(
        unshare=frozenset({"fs"}),
        wait_for=(WaitFor("mountpoint", str(tmp_path / "a b")),),
        wait_for_mountpoint_timeout=5,
    )
    jail(spec, hooks=[Note(Phase.POST_JAIL, bind)])


def listens_for_links():
    """Whether some socket of this network namespace is a member of the group of links."""
    rows = Path("/proc/net/netlink").read_text().splitlines()[1:]
    return any(row.split()[1] == "0" and int(row.split()[3], 16) & 1 for row in rows)


@pytest.mark.root
def test_an_interface_of_a_new_namespace_is_awaited_by_the_kernels_news(jail):
    """/sys still shows the host's interfaces inside; only netlink knows."""

    def add_later(context):
        pid = os.fork()
        if pid == 0:
            while not listens_for_links():
                os.sched_yield()
            subprocess.run(["ip", "link", "add", "veth1", "type", "veth"], check=True)
            os._exit(0)

    spec = JailSpec(
        unshare=frozenset({"net"}),
        wait_for=(WaitFor("interface", "veth1"),),
        wait_for_interface_timeout=20,
    )
    hooks = [Note(Phase.POST_JAIL, add_later)]
    names = jail(spec, lambda: (os.wait()[1], socket.if_nametoindex("veth1") > 0), hooks=hooks)
    assert names == (0, True)


@pytest.mark.root
def test_as_root_hooks_wait_behind_the_gates(jail):
    seen = []
    spec = JailSpec(wait_for=(WaitFor("file", "/no/such"),), wait_for_fs_timeout=0)
    hook = Note(Phase.AS_ROOT, lambda context: seen.append(1))
    told = jail.tell(spec, lambda: seen, hooks=[hook])
    assert "waited for the file /no/such" in told.error
