"""Namespaces entered by a plan: unshare, reforks, host names, the old-style jail, user namespaces."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from jailer import FIVE, Note, status_of

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import idmap, mounts, setns, userns, users
from donjon.jail.phase import Phase
from donjon.jail.refork import Refork
from donjon.jail.seccomp_profile import Profile
from donjon.jail.spec import Bind, JailSpec, KeepMount
from donjon.jail.step import Context

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]
KINDS = ("mnt", "uts", "ipc", "pid", "net", "user", "cgroup")


def kinds():
    return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}


@pytest.mark.parametrize(
    ("word", "kind"),
    [("fs", "mnt"), ("uts", "uts"), ("ipc", "ipc"), ("net", "net"), ("cgroup", "cgroup")],
)
def test_unshare_changes_one_kind_only(jail, word, kind):
    here = kinds()
    there = jail(JailSpec(unshare=frozenset({word})), kinds)
    assert {name for name in KINDS if here[name] != there[name]} == {kind}


def test_a_refork_makes_the_child_pid_1_of_its_namespace(jail):
    spec = JailSpec(unshare=frozenset({"pid"}), refork=True)
    assert jail(spec, os.getpid) == 1
    assert jail(JailSpec(unshare=frozenset({"pid"})), os.getpid) != 1


@pytest.mark.parametrize("field", ["refork", "refork_as_root", "refork_post_jail"])
def test_the_parent_of_a_refork_ends_as_its_child_does(jail, field):
    def die():
        raise SystemExit(7)

    def leave(context):
        os._exit(23)

    spec = JailSpec(unshare=frozenset({"pid"}), **{field: True})
    told = jail.tell(spec, die, hooks=[Note(Phase.AS_USER, leave)])
    assert told.status == 23


def test_the_parent_of_a_refork_hands_signals_on_and_holds_no_descriptor(tmp_path):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(42))
        _refork_and_wait(writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        child = int(pipe.readline())
        assert sorted(os.listdir(f"/proc/{pid}/fd"))[:3] == ["0", "1", "2"]
        assert all(int(name) < 3 for name in os.listdir(f"/proc/{pid}/fd"))
        assert int(status_of("PPid", str(child))) == pid
        os.kill(pid, signal.SIGUSR1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def _refork_and_wait(writer):
    Refork(phase=Phase.DROP).execute(Context())
    while os.getppid() == 1:
        os._exit(9)
    # the parent closes its descriptors after the fork: wait until it did
    parent = os.getppid()
    while any(int(name) > 2 for name in os.listdir(f"/proc/{parent}/fd")):
        os.sched_yield()
    os.write(writer, f"{os.getpid()}\n".encode())
    while True:
        signal.pause()


def test_the_host_name_is_the_jails_only(jail):
    here = os.uname().nodename
    assert jail(JailSpec(hostname="bob"), lambda: os.uname().nodename) == "bob"
    assert os.uname().nodename == here


def test_post_jail_hooks_see_the_name_and_the_namespaces(jail):
    seen = []
    hook = Note(Phase.POST_JAIL, lambda context: seen.append(os.uname().nodename))
    jail_spec = JailSpec(hostname="bob")
    assert jail(jail_spec, lambda: seen, hooks=[hook]) == ["bob"]


def test_a_net_namespace_has_only_a_loopback(jail):
    names = jail(JailSpec(unshare=frozenset({"net"})), socket.if_nameindex)
    assert "lo" in [name for _, name in names]
    assert "eth0" not in [name for _, name in names]


def test_unshare2_happens_in_the_new_root(jail):
    spec = JailSpec(rootfs="host", unshare2=frozenset({"net"}))
    here = os.readlink("/proc/self/ns/net")
    born = FIVE - {"net"}
    assert jail(spec, lambda: os.readlink("/proc/self/ns/net"), born_in=born) != here


def test_root_of_a_user_namespace_is_the_vassals_uid_outside(jail):
    spec = JailSpec(uid="20001", gid="20002")
    seen = jail(
        spec,
        lambda: (os.getuid(), os.getgid(), Path("/proc/self/uid_map").read_text().split()),
        born_in=frozenset({"user", "uts"}),
    )
    assert seen == (0, 0, ["0", "20001", "1"])


def test_unshare_user_writes_its_maps_from_outside(jail):
    spec = JailSpec(unshare=frozenset({"user", "uts"}), uid="20001", hostname="inside")
    seen = jail(spec, lambda: (os.getuid(), status_of("CapEff"), os.uname().nodename))
    assert seen == (0, "0" * 16, "inside")


def test_without_a_uid_root_of_a_user_namespace_is_nobody():
    assert userns.host_ids(users.Identity()) == (userns.NOBODY, userns.NOBODY)


def test_hosts_root_is_never_mapped():
    for uid, gid in ((0, 1), (1, 0)):
        with pytest.raises(JailError, match="cannot be the host's root"):
            userns.write_id_map(os.getpid(), idmap.of_root(uid, gid))


def test_a_host_root_can_be_put_together_in_a_user_namespace(jail):
    spec = JailSpec(rootfs="host", uid="20001")
    seen = jail(
        spec,
        lambda: (os.getuid(), os.path.exists("/usr/bin"), Path("/dev/null").read_bytes()),
        born_in=FIVE | {"user"},
    )
    assert seen == (0, True, b"")


@pytest.fixture
def old_jail(tmp_path):
    root = tmp_path / "jail"
    for name in ("proc", "nfs", "data", "mounted"):
        (root / name).mkdir(parents=True)
    return root


def test_the_old_style_jail_is_pid_1_with_its_own_root_and_name(jail, old_jail):
    spec = JailSpec(namespace=f"{old_jail}:beautiful")
    seen = jail(
        spec,
        lambda: (
            os.getpid(),
            sorted(os.listdir("/")),
            os.uname().nodename,
            [name for name in os.listdir("/proc") if name.isdigit()],
            os.getcwd(),
        ),
    )
    assert seen == (1, ["data", "mounted", "nfs", "proc"], "beautiful", ["1"], "/")
    assert sorted(os.listdir(old_jail)) == ["data", "mounted", "nfs", "proc"]


def test_the_old_style_jail_keeps_only_the_mounts_it_is_told_to(jail, old_jail, tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "file").write_text("x")

    def mount(context):
        for name in ("nfs", "mounted"):
            with mounts.new_filesystem("tmpfs", {}, 0) as tree:
                mounts.attach_path(tree, str(old_jail / name))
            (old_jail / name / "mark").write_text("x")

    spec = JailSpec(
        namespace=str(old_jail),
        namespace_keep_mounts=(
            KeepMount(f"{old_jail}/nfs", ""),
            KeepMount(str(tmp_path / "share"), "/data"),
        ),
    )
    born = frozenset({"fs"})
    seen = jail(
        spec,
        lambda: [os.listdir(f"/{name}") for name in ("nfs", "data", "mounted")],
        born_in=born,
        hooks=[Note(Phase.AS_VASSAL, mount)],
    )
    assert seen == [["mark"], ["file"], []]


def test_post_jail_hooks_of_the_old_style_jail_run_outside(jail, old_jail):
    reader, writer = os.pipe()

    def tell(context):
        os.write(writer, f"{os.getpid() != 1} {os.environ['UWSGI_JAIL_PID']}".encode())

    spec = JailSpec(namespace=str(old_jail))
    assert jail(spec, os.getpid, hooks=[Note(Phase.POST_JAIL, tell)]) == 1
    outside, pid = os.read(reader, 100).split()
    assert outside == b"True"
    assert int(pid) > 1
    os.close(reader)
    os.close(writer)


def test_a_failing_hook_outside_is_the_end_of_the_old_style_jail(jail, old_jail):
    def fail(context):
        raise JailError("no")

    spec = JailSpec(namespace=str(old_jail))
    told = jail.tell(spec, signal.pause, hooks=[Note(Phase.POST_JAIL, fail)])
    assert told.status == 1


def test_an_old_style_jail_that_dies_is_made_again_until_it_ends_with_1(jail, old_jail):
    count = old_jail / "count"

    def live(context):
        past = len(Path("/count").read_text()) if os.path.exists("/count") else 0
        Path("/count").write_text("x" * (past + 1))
        os._exit(9 if past < 2 else 1)

    spec = JailSpec(namespace=str(old_jail))
    told = jail.tell(spec, hooks=[Note(Phase.AS_ROOT, live)])
    assert told.status == 1
    assert count.read_text() == "xxx"


def test_an_orderly_end_is_the_end_of_the_old_style_jail(jail, old_jail):
    spec = JailSpec(namespace=str(old_jail))
    told = jail.tell(spec, hooks=[Note(Phase.AS_ROOT, lambda context: os._exit(0))])
    assert told.status == 0


def test_the_root_itself_can_be_an_old_style_jail(jail):
    spec = JailSpec(namespace="/:again")
    seen = jail(
        spec, lambda: (os.getpid(), os.path.exists("/usr/bin"), os.path.exists("/dev/null"))
    )
    assert seen == (1, True, True)


def test_a_jail_dies_whole_with_its_first_process(jail):
    reader, writer = os.pipe()

    def live():
        if os.fork() == 0:
            signal.pause()
        return os.getpid()

    assert jail(JailSpec(), live, born_in=FIVE) == 1
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == ""  # nobody holds the other end any more


def test_a_bind_in_a_user_namespace_cannot_be_made_writable_again(jail):
    spec = JailSpec(
        rootfs="host", uid="20001", binds=(Bind("/usr/share", "/data", read_only=True),)
    )

    def attempt():
        for flags in (
            syscalls.MS_REMOUNT | syscalls.MS_BIND,
            syscalls.MS_REMOUNT,
        ):
            try:
                syscalls.mount(None, "/data", None, flags)
            except OSError as error:
                last = error.strerror
            else:
                return "remounted"
        return last

    assert jail(spec, attempt, born_in=FIVE | {"user"}) == "Operation not permitted"


def test_no_user_namespace_can_be_made_inside_a_user_namespace(jail):
    def attempt():
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
        except OSError as error:
            return error.strerror
        return "made"

    host = Path("/proc/sys/user/max_user_namespaces").read_text()
    spec = JailSpec(rootfs="host", uid="20001", seccomp=Profile("off"))
    assert jail(spec, attempt, born_in=FIVE | {"user"}) == "No space left on device"
    assert Path("/proc/sys/user/max_user_namespaces").read_text() == host


def test_a_vassal_without_sys_resource_starts_all_the_same(jail):
    spec = JailSpec(uid="20001", emperor_cap=frozenset({7, 10}))
    assert jail(spec, os.getuid, born_in=frozenset({"user"})) == 0


def test_the_hosts_own_user_namespace_is_never_limited():
    with pytest.raises(JailError, match="this is the host's own"):
        userns.ForbidNested(phase=Phase.ROOT).execute(Context())


@pytest.fixture
def giver(tmp_path):
    """A process in a uts namespace called shared, whose namespace a socket gives to one client."""
    path = str(tmp_path / "ns.socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUTS)
        if pid == 0:
            syscalls.sethostname("shared")
            peer, _ = server.accept()
            number = os.open("/proc/self/ns/uts", os.O_RDONLY)
            socket.send_fds(peer, [setns.MAGIC + (1).to_bytes(4, sys.byteorder)], [number])
            os._exit(0)
    yield path
    syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def test_namespaces_of_another_instance_are_joined(jail, giver):
    seen = []
    hook = Note(Phase.PRE_JAIL, lambda context: seen.append(os.uname().nodename))
    assert jail(JailSpec(setns=giver), lambda: seen, hooks=[hook]) == ["shared"]


def test_a_peer_that_hands_out_something_else_is_refused(jail, tmp_path):
    path = str(tmp_path / "fake")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        pid = os.fork()
        if pid == 0:
            server.accept()[0].send(b"uwsgi-zerg\1\0\0\0")
            os._exit(0)
    told = jail.tell(JailSpec(setns=path))
    os.waitpid(pid, 0)
    assert "does not hand out namespaces" in told.error
