"""The pages on namespaces, behaviour by behaviour; ids are those of the specification's inventory."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import hosting
import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]

KINDS = {"fs": "mnt", "ipc": "ipc", "pid": "pid", "uts": "uts", "net": "net", "user": "user"}
ALL = ("mnt", "ipc", "pid", "uts", "net", "user", "cgroup", "time")


def kinds(pid: int | str = "self") -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ALL}


def differing(pid: int) -> set[str]:
    here, there = kinds(), kinds(pid)
    return {kind for kind in ALL if here[kind] != there[kind]}


def output(host, lines: str) -> list[str]:
    """Run an instance whose hooks write to ``out`` and end it; return what they wrote."""
    out = host.place / "sockets" / "out"
    config = host.place / "one.ini"
    config.write_text(f"[uwsgi]\nmaster = true\n{lines.replace('OUT', str(out))}")
    done = subprocess.run(
        [*hosting.DONJON, str(config)], capture_output=True, text=True, timeout=60, check=False
    )
    assert out.exists(), done.stderr
    return out.read_text().split()


@pytest.mark.parametrize(
    "word", ["fs", "ipc", "uts", "net", "user", "cgroup", "time", "mnt", "ns"]
)
def test_nsp_01_each_word_leaves_one_namespace(host, word):
    places = " ".join(f"/proc/self/ns/{kind}" for kind in ALL)
    seen = output(host, f"unshare = {word}\nexec-as-root = readlink {places} > OUT; exit 1\n")
    here = kinds()
    changed = {kind for kind, link in zip(ALL, seen, strict=True) if here[kind] != link}
    assert changed == {KINDS.get(word, "mnt" if word in ("mnt", "ns") else word)}


def test_nsp_02_unshare_pid_needs_a_refork(host):
    more = {"refork": "refork = true\n", "late": "refork-as-root = true\n", "none": ""}
    for name, line in more.items():
        host.vassal(name, f"unshare = pid\n{line}")
    host.start()
    for name in more:
        host.answer(name)
        outer = host.master(name)
        assert hosting.status(outer)["NSpid"].split() == [str(outer)]
        (inner,) = hosting.children(outer)
        assert hosting.status(inner)["NSpid"].split() == [str(inner), "1"]
    said = "none.ini:7: unshare = pid begins with the next process; refork-post-jail is added"
    assert said in host.log()
    assert host.log().count("refork-post-jail is added") == host.log().count(said)


def test_nsp_03_a_unix_socket_with_a_path_crosses_network_namespaces(host):
    name = f"donjon-nsp03-{os.getpid()}"
    host.vassal("shop", f"unshare = net\nhttp-socket = @{name}\n")
    host.start()
    host.answer("shop")
    assert differing(host.master("shop")) == {"net"}
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(f"\0{name}\0")


def test_nsp_04_a_host_name_of_the_jails_own(host):
    here = os.uname().nodename
    lines = "unshare = uts\nexec-as-root = hostname iaminajail\nexec-as-user = hostname > OUT; exit 1\n"
    assert output(host, lines) == ["iaminajail"]
    assert os.uname().nodename == here


def test_nsp_05_a_fresh_set_of_sysv_ipc(host):
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.msgget(0x5EED, 0o1600)
    try:
        count = "exec-as-root = wc -l < /proc/sysvipc/msg > OUT; exit 1\n"
        assert int(output(host, count)[0]) >= 2, "a heading, and ours"
        assert output(host, f"unshare = ipc\n{count}") == ["1"]
    finally:
        libc.msgctl(number, 0, None)


def test_nsp_06_mounts_do_not_come_back_though_the_host_shares_them(host):
    shared = host.place / "shared"
    (shared / "inner").mkdir(parents=True)
    subprocess.run(["mount", "--bind", shared, shared], check=True)
    try:
        subprocess.run(["mount", "--make-shared", shared], check=True)
        lines = (
            f"unshare = fs\nexec-post-jail = mount -t tmpfs none {shared}/inner\n"
            f"exec-as-root = grep -c {shared}/inner /proc/self/mountinfo > OUT; exit 1\n"
        )
        assert output(host, lines) == ["1"]
        assert f"{shared}/inner" not in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", shared], check=True)


@pytest.mark.userns
def test_nsp_07_a_user_namespace_entered_by_unshare(host):
    lines = "unshare = user\nuid = 20001\nexec-as-user = id -u > OUT; cat /proc/self/uid_map >> OUT; exit 1\n"
    assert output(host, lines) == ["0", "0", "20001", "1"]


def test_ens_01_the_named_namespaces_are_new_and_the_others_shared(host):
    for name in ("a", "b"):
        host.vassal(name, "")
    host.start("emperor-use-clone = pid,uts\n")
    for name in ("a", "b"):
        host.answer(name)
        assert differing(host.master(name)) == {"pid", "uts"}
    assert kinds(host.master("a"))["uts"] != kinds(host.master("b"))["uts"]


def test_ens_02_the_vassal_is_pid_1_and_everything_dies_with_it(host):
    host.vassal("shop", "exec-as-user = sleep 600 &\nattach-daemon = sleep 601\n")
    host.start("emperor-use-clone = pid,fs\n")
    host.answer("shop")
    master = host.master("shop")
    assert hosting.status(master)["NSpid"].split() == [str(master), "1"]
    inside = hosting.wait_for(
        lambda: (found := hosting.descendants(master)) and len(found) >= 3 and found, "the sleeper"
    )
    os.kill(master, signal.SIGKILL)
    hosting.wait_for(lambda: not any(map(hosting.alive, inside)), "the end of everybody")


def test_ens_03_and_04_what_a_vassal_mounts_and_names_is_its_own(host):
    inner = host.place / "inner"
    inner.mkdir()
    out = host.place / "sockets" / "out"
    host.vassal(
        "shop",
        f"exec-as-root = mount -t tmpfs none {inner} && touch {inner}/seen && ls {inner} > {out}\n"
        "exec-as-root = hostname foobar\nexec-as-root = ip link set lo up\n",
    )
    before, name = Path("/proc/self/mountinfo").read_text(), os.uname().nodename
    host.start("emperor-use-clone = fs,uts,net\n")
    assert host.answer("shop")["hostname"] == "foobar"
    assert out.read_text() == "seen\n"
    assert Path("/proc/self/mountinfo").read_text() == before
    assert os.listdir(inner) == []
    assert os.uname().nodename == name


def test_ens_06_and_08_hooks_on_both_sides_of_the_wall(host):
    there, here = (host.place / "sockets" / name for name in ("there", "here"))
    host.vassal("shop", "")
    host.start(
        "emperor-use-clone = uts,net\n"
        f"exec-as-emperor = env | grep UWSGI_VASSAL_ | sort > {here}\n"
        f"exec-as-vassal = readlink /proc/self/ns/uts > {there}\n"
    )
    host.answer("shop")
    master = host.master("shop")
    assert there.read_text().strip() == kinds(master)["uts"] != kinds()["uts"]
    lines = hosting.wait_for(lambda: here.read_text().splitlines(), "the hook")
    assert dict(line.split("=", 1) for line in lines) == {
        "UWSGI_VASSAL_CONFIG": "shop.ini",
        "UWSGI_VASSAL_GID": "0",
        "UWSGI_VASSAL_PID": str(master),
        "UWSGI_VASSAL_UID": "0",
    }


CALLED = r"""
#include <stdio.h>
#include <stdlib.h>
static void note(const char *line) {
    FILE *out = fopen(getenv("NOTES"), "a");
    fputs(line, out);
    fclose(out);
}
int e2(char *name, int pid) {
    char line[200]; snprintf(line, sizeof line, "e2 %s %d\n", name, pid); note(line); return 0; }
int e4(char *name, int pid, int uid, int gid) {
    char line[200]; snprintf(line, sizeof line, "e4 %s %d %d %d\n", name, pid, uid, gid); note(line);
    return 0; }
int v1(char *name) { char line[200]; snprintf(line, sizeof line, "v1 %s\n", name); note(line); return 0; }
int v3(char *name, int uid, int gid) {
    char line[200]; snprintf(line, sizeof line, "v3 %s %d %d\n", name, uid, gid); note(line); return 0; }
"""


def test_ens_09_functions_are_called_with_name_pid_uid_and_gid(host, monkeypatch):
    source, library, notes = (host.place / name for name in ("called.c", "called.so", "notes"))
    source.write_text(CALLED)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("NOTES", str(notes))
    host.vassal("shop", "")
    host.start(
        "emperor-use-clone = uts\ncall-as-emperor2 = e2\ncall-as-emperor4 = e4\n"
        "call-as-vassal1 = v1\ncall-as-vassal3 = v3\n"
    )
    host.answer("shop")
    pid = host.master("shop")
    wanted = {f"e2 shop.ini {pid}", f"e4 shop.ini {pid} 0 0", "v1 shop.ini", "v3 shop.ini 0 0"}
    hosting.wait_for(lambda: set(notes.read_text().splitlines()) >= wanted, "all four calls")
    assert set(notes.read_text().splitlines()) == wanted


def test_eca_01_a_vassal_has_what_emperor_cap_names(host):
    host.vassal("shop", "")
    host.start("emperor-cap = setuid,net_bind_service\n")
    host.answer("shop")
    allowed = 1 << 7 | 1 << 10 | 1 << 8  # and setpcap, which the original keeps too
    for pid in (host.master("shop"), *hosting.children(host.master("shop"))):
        for name in ("CapEff", "CapBnd"):
            assert int(hosting.status(pid)[name], 16) & ~allowed == 0


@pytest.mark.userns
def test_eca_02_with_a_user_namespace_the_vassal_is_a_new_root(host):
    out = host.place / "sockets" / "out"
    host.vassal("shop", f"exec-as-root = id -u > {out}; grep CapBnd /proc/self/status >> {out}\n")
    host.start("emperor-use-clone = user\nemperor-cap = setuid,net_bind_service\n")
    host.answer("shop")
    uid, _, bounding = out.read_text().split()
    assert uid == "0"
    assert int(bounding, 16) == 1 << 7 | 1 << 10 | 1 << 8


@pytest.fixture
def old_root(host):
    """A directory with enough of a root for the suite's interpreter, and mounts below it."""
    root = host.place / "ns"
    for name in ("nfs", "other", "proc", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    mounts = {root / "nfs": "tmpfs", root / "other": "tmpfs"}
    for place in mounts:
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
        (place / "mark").write_text("")
    (host.place / "data").mkdir()
    (host.place / "data" / "file").write_text("")
    (root / "data").mkdir()
    yield root
    for place in mounts:
        subprocess.run(["umount", place], check=True)


def kept(host) -> str:
    """Lines that show the interpreter and the application in the old jail."""
    paths = {"/usr", "/lib", "/lib64", "/bin", "/etc", sys.prefix, str(host.place)}
    source = str(Path(hosting.__file__).parents[2])
    paths.add(source)
    return "".join(f"namespace-keep-mount = {path}:{path}\n" for path in sorted(paths))


def test_ons_01_05_06_and_07_the_old_jail_and_its_mounts(host, old_root):
    outside = os.uname().nodename
    host.vassal(
        "shop",
        f"namespace = {old_root}:mybeautifulhostname\n{kept(host)}"
        f"namespace-keep-mount = {old_root}/nfs\nnamespace-keep-mount = {host.place}/data:/data\n"
        f"exec-in-jail = ls /nfs /data /other > {host.place}/sockets/out\n",
    )
    host.start()
    facts = host.answer("shop")
    assert facts["hostname"] == "mybeautifulhostname"
    assert {"nfs", "data", "other"} <= set(facts["root"])
    assert max(facts["processes"]) < 20
    listed = (host.place / "sockets" / "out").read_text().split()
    assert listed == ["/data:", "file", "/nfs:", "mark", "/other:"]
    assert os.uname().nodename == outside, "ONS-03"
    (inner,) = hosting.children(host.master("shop"))
    assert hosting.status(inner)["NSpid"].split()[-1] == "1"
    assert differing(inner) == {"mnt", "pid", "uts", "ipc"}


def test_ons_02_and_04_a_jail_that_dies_is_made_anew_by_who_stayed_outside(host):
    host.vassal("shop", "namespace = /:again\n")
    host.start()
    host.answer("shop")
    outer = host.master("shop")
    (inner,) = hosting.children(outer)
    everybody = [inner, *hosting.descendants(inner)]
    os.kill(inner, signal.SIGKILL)
    hosting.wait_for(lambda: not any(map(hosting.alive, everybody)), "the end of the first jail")
    (second,) = hosting.wait_for(lambda: hosting.children(outer), "another jail")
    assert second != inner
    assert host.answer("shop")["hostname"] == "again"
    assert host.master("shop") == outer


def test_namespace_net_adds_a_network_namespace(host):
    host.vassal("shop", "namespace = /:again\nns-net = true\n")
    host.start()
    host.answer("shop")
    (inner,) = hosting.children(host.master("shop"))
    assert differing(inner) == {"mnt", "pid", "uts", "ipc", "net"}


def test_namespace_net_enters_a_namespace_that_the_operator_named(host):
    name, before = f"donjon-{os.getpid()}", os.path.ismount("/run/netns")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        named = os.stat(f"/run/netns/{name}").st_ino
        host.vassal("shop", f"namespace = /:again\nnamespace-net = {name}\n")
        host.start()
        host.answer("shop")
        (inner,) = hosting.children(host.master("shop"))
        assert kinds(inner)["net"] == f"net:[{named}]"
        host.close_emperor()
        assert os.stat(f"/run/netns/{name}").st_ino == named, "it stays the operator's"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
        if not before:
            subprocess.run(["umount", "/run/netns"], check=True)


@pytest.mark.parametrize("rootfs", ["", "rootfs = host\nbind = {place}/sockets\n"])
def test_wfr_01_hooks_wait_until_the_interface_is_there(host, rootfs):
    one, two = f"dw{os.getpid() % 9999}a", f"dw{os.getpid() % 9999}b"
    out = host.place / "sockets" / "out"
    (host.place / "sockets" / "out").touch()
    host.vassal(
        "shop",
        f"{rootfs.format(place=host.place)}wait-for-interface = {two}\n"
        f"exec-as-root = grep -c {two} /proc/net/dev > {out}\nuid = 33\ngid = 33\n",
    )
    host.start("emperor-use-clone = pid,net,fs,ipc,uts\n")
    try:
        pid = hosting.wait_for(lambda: max(host.master("shop"), 0), "the vassal")
        hosting.wait_for(lambda: str(pid) in _listeners(), "its ear for links")
        assert out.read_text() == ""
        subprocess.run(["ip", "link", "add", one, "type", "veth", "peer", "name", two], check=True)
        subprocess.run(["ip", "link", "set", two, "netns", str(pid)], check=True)
        host.answer("shop")
        assert out.read_text().strip() == "1"
    finally:
        subprocess.run(["ip", "link", "del", one], capture_output=True, check=False)


def _listeners() -> list[str]:
    """Pids of processes that hear of links, in any network namespace."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            rows = Path(f"/proc/{name}/net/netlink").read_text().splitlines()[1:]
        except OSError:
            continue
        if any(row.split()[1] == "0" and int(row.split()[3], 16) & 1 for row in rows):
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("wait-for-interface = nosuch0\nwait-for-interface-timeout = 0", "interface nosuch0"),
        ("wait-for-file = /tmp\nwait-for-fs-timeout = 0", "file /tmp"),
        ("wait-for-dir = /etc/passwd\nwait-for-fs-timeout = 0", "directory /etc/passwd"),
        ("wait-for-mountpoint = /etc\nwait-for-mountpoint-timeout = 0", "mount point /etc"),
        ("wait-for-fs = /no/such\nwait-for-fs-timeout = 0", "file or directory /no/such"),
        ("wait-for-socket = /no/such\nwait-for-socket-timeout = 0", "socket /no/such"),
    ],
)
def test_wfr_02_each_gate_takes_only_what_it_names_and_gives_up(host, line, what):
    config = host.place / "one.ini"
    config.write_text(f"[uwsgi]\nmaster = true\nhttp-socket = {host.sock('x')}\n{line}\n")
    done = subprocess.run(
        [*hosting.DONJON, str(config)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    said = f"waited for the {what}: it is not there after 0 seconds"
    assert [text for text in done.stderr.splitlines() if said in text], done.stderr
