"""The root of a jail, as a process inside and the host outside see it."""

import dataclasses
import os
import resource
import shutil
import stat
from pathlib import Path

import pytest
from jailer import FIVE, Note, swapping

from donjon.errors import JailError
from donjon.jail import devices, hostview, mounts, paths, template, zygote
from donjon.jail.phase import Phase
from donjon.jail.spec import Bind, JailSpec, Tmpfs
from donjon.jail.step import Context

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]
REFUSALS = ("Read-only file system", "Permission denied", "No such file or directory")
HOST = JailSpec(rootfs="host", uid="20001", gid="20001")


def look_at_everything():
    return {
        "root": sorted(os.listdir("/")),
        "etc": sorted(os.listdir("/etc")),
        "dev": sorted(os.listdir("/dev")),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "fds": sorted(int(name) for name in os.listdir("/proc/thread-self/fd"))
        if os.getuid() == 0
        else [],
    }


@pytest.fixture(params=["view by view", "from a template", "by mount(2)"])
def way(request):
    """The ways in which a host root is put together."""
    if request.param == "by mount(2)":
        request.getfixturevalue("only_mount2")
    if request.param == "from a template":
        zygote.prepare()
        if not template.descriptors():
            pytest.skip("this kernel cannot copy from a detached tree (Linux 6.15)")
    yield request.param
    template.forget()


@pytest.fixture
def directory(tmp_path):
    """A root directory with what a small system has."""
    root = tmp_path / "root"
    for name in ("proc", "dev", "tmp", "run", "etc", "data"):
        (root / name).mkdir(parents=True)
    return root


def interpreter_binds():
    """What a directory needs so that this interpreter is in it."""
    return (Bind("/usr", "/usr", read_only=True),)


def test_a_host_root_shows_programs_and_nothing_of_other_customers(jail, way):
    seen = jail(HOST, look_at_everything, born_in=FIVE)
    assert {"usr", "etc", "proc", "dev", "tmp", "run"} <= set(seen["root"])
    assert not {"sys", "boot", "media", "opt"} & set(seen["root"])
    assert "passwd" in seen["etc"]
    assert not {"shadow", "ssh", "sudoers"} & set(seen["etc"])
    assert seen["cwd"] == "/"
    assert seen["pid"] == 1


def test_both_ways_give_the_same_root(jail):
    def listing():
        return sorted(
            (path, names)
            for path in ("/", "/etc", "/etc/ssl", "/dev")
            for names in [tuple(sorted(os.listdir(path)))]
        )

    plain = jail(HOST, listing, born_in=FIVE)
    zygote.prepare()
    try:
        assert jail(HOST, listing, born_in=FIVE) == plain
    finally:
        template.forget()


def test_a_template_is_made_again_when_a_file_was_replaced():
    """As adduser does with /etc/passwd: another inode under the same name."""
    zygote.prepare()
    first = template.lend()
    if first is None:
        pytest.skip("this kernel cannot copy from a detached tree (Linux 6.15)")
    try:
        assert ("/etc/passwd", os.stat("/etc").st_dev) in [entry[:2] for entry in first.seen]
        zygote.refresh()
        assert template.lend() is first
        seen = tuple((path, device, inode + 1) for path, device, inode in first.seen)
        template.replace(dataclasses.replace(first, seen=seen))
        zygote.refresh()
        second = template.lend()
        assert second.number == first.number
        assert second.device != first.device
        assert second.seen == first.seen
    finally:
        template.forget()


def test_a_stale_template_is_done_without(jail):
    zygote.prepare()
    lent = template.lend()
    if lent is None:
        pytest.skip("this kernel cannot copy from a detached tree (Linux 6.15)")
    try:
        fresh = jail(HOST, etc_mounts, born_in=FIVE)
        template.replace(dataclasses.replace(lent, seen=(("/etc/passwd", 0, 0),)))
        stale = jail(HOST, etc_mounts, born_in=FIVE)
        assert fresh == stale - {"/etc"}
    finally:
        template.forget()


def etc_mounts():
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if line.split()[4].startswith("/etc")} - {"/etc"}


def test_every_mount_of_a_host_root_is_nosuid_and_only_dev_has_devices(jail, way):
    text = jail(HOST, look_at_everything, born_in=FIVE)["mounts"]
    for line in text.splitlines():
        where, options = line.split()[4:6]
        if where.startswith(("/dev/", "/proc/")):
            continue  # the devices themselves
        assert "nosuid" in options.split(","), line
        assert where == "/dev" or "nodev" in options.split(","), line
        if where not in ("/tmp", "/run", "/proc"):
            assert "ro" in options.split(","), line


def test_the_host_root_and_its_views_are_read_only_even_for_root(jail, way):
    def attempts():
        refused = []
        for path in ("/x", "/usr/x", "/etc/x", "/dev/x"):
            try:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            except OSError as error:
                refused.append((path, error.strerror))
        return refused

    refused = jail(JailSpec(rootfs="host"), attempts, born_in=FIVE)
    assert refused == [(p, "Read-only file system") for p in ("/x", "/usr/x", "/etc/x", "/dev/x")]


def test_tmp_run_and_shared_memory_are_private_and_writable(jail, way):
    def write():
        for path in ("/tmp/a", "/run/a", "/dev/shm/a"):
            Path(path).write_text("x")
        return sorted(set(os.listdir("/tmp")) - shown)

    # a checkout or an environment below the host's /tmp shows through, read-only
    trees = [tree for tree in hostview.interpreter_trees() if tree.startswith("/tmp/")]
    shown = {tree.split("/")[2] for tree in trees}
    assert jail(HOST, write, born_in=FIVE) == ["a"]
    assert jail(HOST, lambda: sorted(set(os.listdir("/tmp")) - shown), born_in=FIVE) == []
    assert not Path("/run/a").exists()


def test_the_old_root_cannot_be_reached(jail):
    marker = os.stat("/root").st_ino

    def search():
        found = []
        for base in ("/proc/1/root", "/proc/self/root", "/..", "/proc/1/cwd"):
            try:
                found.append(sorted(os.listdir(base)) == sorted(os.listdir("/")))
            except PermissionError:
                continue
        mounted = [
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ]
        return all(found), mounted.count("/"), marker

    same, roots, _ = jail(JailSpec(rootfs="host"), search, born_in=FIVE)
    assert same
    assert roots == 1


def test_the_classic_escape_from_a_chroot_stays_inside(jail):
    def escape():
        os.mkdir("/tmp/x")
        handle = os.open("/", os.O_RDONLY)
        try:
            os.chroot("/tmp/x")
        except PermissionError:
            return "EPERM"
        os.fchdir(handle)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        return sorted(os.listdir("/"))

    assert jail(JailSpec(rootfs="host"), escape, born_in=FIVE) == "EPERM"
    inside = jail(
        JailSpec(rootfs="host", cap=frozenset({18})), escape, born_in=FIVE
    )  # with sys_chroot
    assert "usr" in inside
    assert "boot" not in inside


def test_settings_of_the_kernel_are_read_only_and_its_secrets_are_covered(jail):
    def attempts():
        result = {}
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"):
            try:
                os.close(os.open(path, os.O_WRONLY))
                result[path] = "open"
            except OSError as error:
                result[path] = error.strerror
        for path in ("/proc/keys", "/proc/timer_list", "/proc/kallsyms"):
            result[path] = Path(path).read_bytes() if os.path.exists(path) else b""
        return result

    for path, answer in jail(JailSpec(rootfs="host"), attempts, born_in=FIVE).items():
        assert answer in (b"", *REFUSALS), (path, answer)


def test_proc_shows_the_jails_processes_only(jail):
    pids = jail(HOST, lambda: [n for n in os.listdir("/proc") if n.isdigit()], born_in=FIVE)
    assert pids == ["1"]


def test_without_a_pid_namespace_proc_hides_other_users(jail):
    pids = jail(
        HOST,
        lambda: (os.getpid(), [int(n) for n in os.listdir("/proc") if n.isdigit()]),
        born_in=frozenset({"fs"}),
    )
    assert pids[1] in ([], [pids[0]])


def test_devices_are_the_hosts_and_terminals_the_jails_own(jail, way):
    def look():
        kinds = {name: os.stat(f"/dev/{name}").st_rdev for name in devices.DEVICES}
        _, slave = os.openpty()
        return kinds, os.ttyname(slave), os.listdir("/dev/pts")

    kinds, name, pts = jail(HOST, look, born_in=FIVE)
    assert kinds == {name: os.makedev(*number) for name, number in devices.DEVICES.items()}
    assert name == "/dev/pts/0"
    assert sorted(pts) == ["0", "ptmx"]


def test_two_jails_have_terminals_of_their_own(jail):
    def number():
        _, slave = os.openpty()
        return os.fstat(slave).st_dev

    assert jail(HOST, os.getuid, born_in=FIVE) == 20001
    master, slave = os.openpty()
    host = os.fstat(slave).st_dev
    os.close(master)
    os.close(slave)
    assert jail(HOST, number, born_in=FIVE) != host


def test_application_paths_are_shown_read_only(jail, tmp_path, way):
    (tmp_path / "app.py").write_text("hello")
    os.chmod(tmp_path, 0o755)
    spec = JailSpec(rootfs="host", uid="20001", expose=(str(tmp_path), "/", "/tmp", "/usr/lib"))

    def look():
        text = (tmp_path / "app.py").read_text()
        try:
            (tmp_path / "x").write_text("")
        except OSError as error:
            return text, error.strerror

    assert jail(spec, look, born_in=FIVE) == ("hello", "Read-only file system")


def test_an_application_behind_a_link_of_the_host_root_stays_in_the_jail(jail, way):
    """An absolute link in the new root would lead to the host's, as long as that is our root."""
    for base in ("/var/tmp", "/run"):
        place = Path(base) / f"donjon-jail-{os.getpid()}"
        place.mkdir(mode=0o755)
        try:
            (place / "app.py").write_text("hello")
            before = sorted(os.listdir("/tmp")), sorted(os.listdir("/run"))
            given = str(place).replace("/run", "/var/run") if base == "/run" else str(place)
            spec = JailSpec(rootfs="host", uid="20001", expose=(given,))
            assert jail(spec, Path(f"{given}/app.py").read_text, born_in=FIVE) == "hello"
            assert (sorted(os.listdir("/tmp")), sorted(os.listdir("/run"))) == before
        finally:
            shutil.rmtree(place)


def test_an_interpreter_that_lives_below_tmp_is_seen(jail, tmp_path, monkeypatch, way):
    (tmp_path / "mark").write_text("here")
    os.chmod(tmp_path, 0o755)
    trees = (*hostview.interpreter_trees(), str(tmp_path))
    monkeypatch.setattr(hostview, "interpreter_trees", lambda: trees)
    hostview.forget_host()
    try:
        assert jail(HOST, (tmp_path / "mark").read_text, born_in=FIVE) == "here"
    finally:
        hostview.forget_host()


def test_binds_are_writable_or_read_only_as_asked(jail, tmp_path, way):
    for name in ("rw", "ro"):
        (tmp_path / name).mkdir(mode=0o777)
        os.chmod(tmp_path / name, 0o777)
    spec = JailSpec(
        rootfs="host",
        uid="20001",
        binds=(
            Bind(str(tmp_path / "rw"), "/data/rw"),
            Bind(str(tmp_path / "ro"), "/data/ro", read_only=True),
            Bind("/etc/hostname-that-is-not", "/data/none", optional=True),
        ),
    )

    def write():
        Path("/data/rw/file").write_text("from inside")
        try:
            Path("/data/ro/file").write_text("")
        except OSError as error:
            return error.strerror, sorted(os.listdir("/data"))

    assert jail(spec, write, born_in=FIVE) == ("Read-only file system", ["ro", "rw"])
    assert (tmp_path / "rw" / "file").read_text() == "from inside"


def test_a_mount_point_behind_a_link_of_the_host_root_is_found(jail, tmp_path, way):
    (tmp_path / "file").write_text("x")
    spec = JailSpec(
        rootfs="host",
        binds=(Bind(str(tmp_path), "/var/run/mysqld"),),
        tmpfs=(Tmpfs("/var/tmp", size=8192),),
    )
    seen = jail(
        spec, lambda: (os.listdir("/run/mysqld"), os.statvfs("/tmp").f_blocks), born_in=FIVE
    )
    assert seen == (["file"], 2)


def test_a_file_can_be_bound_over_another(jail, tmp_path, way):
    (tmp_path / "hosts").write_text("mine")
    spec = JailSpec(rootfs="host", binds=(Bind(str(tmp_path / "hosts"), "/etc/hosts"),))
    assert jail(spec, Path("/etc/hosts").read_text, born_in=FIVE) == "mine"


def test_a_tmpfs_has_the_size_asked_for(jail):
    spec = JailSpec(rootfs="host", tmpfs=(Tmpfs("/cache", size=1 << 20), Tmpfs("/tmp")))
    blocks = jail(spec, lambda: os.statvfs("/cache").f_blocks * 4096, born_in=FIVE)
    assert blocks == 1 << 20


def test_a_tmpfs_of_a_bad_size_is_refused_in_the_kernels_words(jail):
    told = jail.tell(JailSpec(rootfs="host", tmpfs=(Tmpfs("/x", size=-1),)), born_in=FIVE)
    assert "cannot make a tmpfs" in told.error


def test_binds_without_a_root_of_their_own_stay_in_the_jail(jail, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    spec = JailSpec(binds=(Bind(str(tmp_path / "a"), str(tmp_path / "b")),))
    assert jail(spec, lambda: os.listdir(tmp_path / "b")) == ["file"]
    assert os.listdir(tmp_path / "b") == []


def test_a_directory_becomes_the_root(jail, directory):
    (directory / "etc" / "who").write_text("bob")
    spec = JailSpec(rootfs=str(directory), binds=interpreter_binds(), runtime_mount=False)
    seen = jail(
        spec,
        lambda: (sorted(os.listdir("/")), Path("/etc/who").read_text(), os.listdir("/proc/1")),
        born_in=FIVE,
    )
    assert seen[0] == ["data", "dev", "etc", "proc", "run", "tmp", "usr"]
    assert seen[1] == "bob"
    assert "status" in seen[2]


@pytest.mark.parametrize("name", ["proc", "dev", "tmp", "run"])
def test_a_link_at_a_mount_point_is_refused(jail, directory, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (directory / name).rmdir()
    (directory / name).symlink_to(outside)
    told = jail.tell(JailSpec(rootfs=str(directory), binds=interpreter_binds()), born_in=FIVE)
    assert f"cannot mount on /{name}" in told.error
    assert "symbolic link" in told.error
    assert os.listdir(outside) == []


@pytest.mark.parametrize("target", ["/data/x", "/data/x/deeper", "/data"])
def test_a_bind_through_a_customers_link_is_refused_and_makes_nothing(
    jail, directory, tmp_path, target
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (directory / "data").rmdir()
    (directory / "data").symlink_to(outside)
    spec = JailSpec(
        rootfs=str(directory), binds=(*interpreter_binds(), Bind("/etc", target, read_only=True))
    )
    told = jail.tell(spec, born_in=FIVE)
    assert "symbolic link" in told.error
    assert "\n" not in told.error
    assert os.listdir(outside) == []


def test_a_file_where_proc_should_be_is_refused(jail, directory):
    (directory / "proc").rmdir()
    (directory / "proc").write_text("fake")
    told = jail.tell(JailSpec(rootfs=str(directory), binds=interpreter_binds()), born_in=FIVE)
    assert told.error.endswith("cannot mount on /proc: Not a directory")


def test_a_source_behind_a_customers_link_is_refused_and_behind_roots_followed(jail, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    spec = JailSpec(rootfs="host", binds=(Bind(str(tmp_path / "link"), "/data"),))
    assert jail(spec, lambda: os.listdir("/data"), born_in=FIVE) == []
    os.lchown(tmp_path / "link", 20001, 20001)
    told = jail.tell(spec, born_in=FIVE)
    assert "a symbolic link of uid 20001 is on the way" in told.error


def test_a_fake_null_device_is_detected(jail, tmp_path):
    fake = tmp_path / "null"
    fake.write_text("")

    def replace(context):
        with mounts.clone_path(str(fake)) as tree:
            mounts.attach_path(tree, "/dev/null")

    told = jail.tell(HOST, born_in=FIVE, hooks=[Note(Phase.POST_JAIL, replace)])
    assert "/dev/null of the host is not the device (1, 3)" in told.error


def test_a_chroot_takes_the_working_directory_along(jail, directory):
    spec = JailSpec(chroot=str(directory))
    assert jail(spec, lambda: (os.getcwd(), sorted(os.listdir(".")))) == (
        "/",
        ["data", "dev", "etc", "proc", "run", "tmp"],
    )


def test_pivot_root_leaves_the_old_root_where_it_was_asked(jail, tmp_path):
    new = tmp_path / "new"
    (new / "old").mkdir(parents=True)

    def bind(context):
        with mounts.clone_path(str(new)) as tree:
            mounts.attach_path(tree, str(new))

    spec = JailSpec(unshare=frozenset({"fs"}), pivot_root=(str(new), f"{new}/old"))
    seen = jail(
        spec,
        lambda: (os.listdir("/"), "usr" in os.listdir("/old"), os.getcwd()),
        hooks=[Note(Phase.POST_JAIL, bind)],
    )
    assert seen == (["old"], True, "/")


def test_pivot_root_to_a_directory_that_is_no_mount_says_what_to_do(jail, tmp_path):
    (tmp_path / "old").mkdir()
    spec = JailSpec(pivot_root=(str(tmp_path), f"{tmp_path}/old"))
    told = jail.tell(spec)
    assert "it is not a mount point" in told.error
    assert "post-jail hook" in told.error


def test_mounts_of_hooks_in_a_jail_do_not_reach_the_host(jail, tmp_path):
    def mount(context):
        with mounts.new_filesystem("tmpfs", {}, 0) as tree:
            mounts.attach_path(tree, str(tmp_path))

    for phase, born in ((Phase.AS_VASSAL, FIVE), (Phase.POST_JAIL, frozenset())):
        spec = JailSpec(unshare=frozenset({"fs"}) if not born else frozenset())
        jail(spec, hooks=[Note(phase, mount)], born_in=born)


def test_a_process_that_was_not_born_in_a_mount_namespace_makes_one(jail):
    here = os.readlink("/proc/self/ns/mnt")
    spec = JailSpec(rootfs="host")
    there = jail(spec, lambda: os.readlink("/proc/self/ns/mnt"), born_in=frozenset({"uts"}))
    assert there != here


@pytest.mark.skipif(
    not os.access("/proc/1/ns/mnt", os.R_OK)
    or os.stat("/proc/1/ns/mnt").st_ino != os.stat("/proc/self/ns/mnt").st_ino,
    reason="not in the mount namespace of an init that may be looked at",
)
def test_a_new_root_is_refused_in_the_mount_namespace_of_init():
    with pytest.raises(JailError, match="this is the host's mount namespace"):
        mounts.refuse_host_namespace(Context())


def test_missing_mount_points_are_made_below_the_root_only(tmp_path):
    root = os.open(tmp_path, os.O_PATH)
    try:
        paths.open_target(root, "/a/b/c").close()
        paths.open_target(root, "/a/file", directory=False).close()
    finally:
        os.close(root)
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert stat.S_ISREG((tmp_path / "a" / "file").stat().st_mode)


def test_a_mount_point_above_the_root_stays_below_it(tmp_path):
    (tmp_path / "inner").mkdir()
    root = os.open(tmp_path / "inner", os.O_PATH)
    try:
        with paths.open_target(root, "/../..") as found:
            assert os.path.samestat(os.fstat(found.fileno()), os.stat(tmp_path / "inner"))
    finally:
        os.close(root)


def test_a_mount_point_that_is_swapped_all_the_time_never_leads_outside(jail, directory, tmp_path):
    """Somebody who owns the directory exchanges a directory and a link while jails start."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (directory / "evil").symlink_to(outside)
    with swapping(directory / "data", directory / "evil"):
        spec = JailSpec(
            rootfs=str(directory),
            binds=(*interpreter_binds(), Bind("/etc", "/data/deep/er", read_only=True)),
        )
        errors = [jail.tell(spec, born_in=FIVE).error for _ in range(40)]
    assert all(not text or "cannot" in text for text in errors)
    assert os.listdir(outside) == []


def test_no_device_can_be_made_or_used_by_root_of_a_jail(jail, tmp_path):
    def attempt():
        results = []
        for path in ("/tmp/disk", "/data/disk"):
            try:
                os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(259, 0))
                results.append("made")
            except OSError as error:
                results.append(error.strerror)
        return results

    spec = JailSpec(rootfs="host", binds=(Bind(str(tmp_path), "/data"),))
    assert jail(spec, attempt, born_in=FIVE) == ["Operation not permitted"] * 2
    powerful = JailSpec(rootfs="host", cap=frozenset({27}), binds=(Bind(str(tmp_path), "/data"),))

    def make_and_open():
        os.mknod("/data/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        try:
            os.open("/data/null", os.O_RDONLY)
        except OSError as error:
            return error.strerror

    assert jail(powerful, make_and_open, born_in=FIVE) == "Permission denied"


def test_no_core_is_dumped_through_the_hosts_pattern(jail):
    limit = jail(HOST, lambda: resource.getrlimit(resource.RLIMIT_CORE), born_in=FIVE)
    assert limit == (1, 1)
