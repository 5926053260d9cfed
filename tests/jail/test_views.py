"""What a new root shows beside its own files: /proc, /sys, files of /etc, covers, the runtime."""

import dataclasses
import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from jailer import FIVE, Note, swapping

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import etcfiles, interpreter, oldmounts, plan, sysfs
from donjon.jail.phase import Phase
from donjon.jail.spec import Bind, Exec, JailSpec, PathRule, Tmpfs
from donjon.origin import Origin

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]
RULE = Origin("shop.ini", 9, "mask-path")


@pytest.fixture
def empty(tmp_path):
    """A plain directory, with nothing in it."""
    root = tmp_path / "root"
    root.mkdir()
    return root


# Covers.


def test_a_covered_directory_is_empty_and_a_covered_file_reads_as_empty(jail, tmp_path, way):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "secret").write_text("x")
    (tmp_path / "file").write_text("secret")
    spec = JailSpec(
        rootfs="host",
        binds=(Bind(str(tmp_path), "/data"),),
        mask_paths=tuple(
            PathRule(path) for path in ("/data/dir", "/data/file", "/data/none", "/proc/cpuinfo")
        ),
    )

    def look():
        try:
            Path("/data/dir/new").write_text("")
        except OSError as error:
            written = error.errno
        texts = [Path(path).read_text() for path in ("/data/file", "/proc/cpuinfo")]
        return os.listdir("/data/dir"), texts, written, os.path.exists("/data/none")

    assert jail(spec, look, born_in=FIVE) == ([], ["", ""], errno.EROFS, False)
    assert (tmp_path / "file").read_text() == "secret"


def test_a_read_only_path_cannot_be_written_though_its_mount_can(jail, tmp_path, way):
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
    spec = JailSpec(
        rootfs="host",
        binds=(Bind(str(tmp_path), "/data"),),
        readonly_paths=(PathRule("/data/closed"), PathRule("/data/none")),
    )

    def write():
        Path("/data/open/new").write_text("")
        try:
            Path("/data/closed/new").write_text("")
        except OSError as error:
            return error.errno

    assert jail(spec, write, born_in=FIVE) == errno.EROFS


def test_covers_need_no_root_of_their_own(jail, tmp_path, way):
    (tmp_path / "secret").write_text("x")
    spec = JailSpec(mask_paths=(PathRule(str(tmp_path / "secret")),))
    assert jail(spec, (tmp_path / "secret").read_text) == ""
    assert (tmp_path / "secret").read_text() == "x"


def test_a_cover_behind_a_link_is_refused(jail, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    spec = JailSpec(
        rootfs="host",
        binds=(Bind(str(tmp_path), "/data"),),
        mask_paths=(PathRule("/data/link", RULE),),
    )
    told = jail.tell(spec, born_in=FIVE)
    assert told.error == (
        "shop.ini:9: mask-path: cannot cover /data/link: it is, or passes through, a symbolic link"
    )


def test_a_cover_cannot_be_taken_off(jail, tmp_path):
    (tmp_path / "secret").write_text("x")
    spec = JailSpec(
        rootfs="host",
        binds=(Bind(str(tmp_path), "/data"),),
        mask_paths=(PathRule("/data/secret"),),
    )

    def attempt():
        refused = []
        for attempt in (
            lambda: syscalls.umount2("/data/secret", syscalls.MNT_DETACH),
            lambda: syscalls.umount2("/proc/sys", syscalls.MNT_DETACH),
            lambda: syscalls.mount(
                None, "/proc/sys", None, syscalls.MS_REMOUNT | syscalls.MS_BIND
            ),
        ):
            try:
                attempt()
            except OSError as error:
                refused.append(error.errno)
        return refused

    assert jail(spec, attempt, born_in=FIVE) == [errno.EPERM] * 3


# /proc and /sys.


def test_proc_can_have_processes_only(jail, way):
    def look():
        return sorted(name for name in os.listdir("/proc") if not name.isdigit())

    spec = JailSpec(rootfs="host", rootfs_proc=frozenset({"subset=pid"}))
    assert jail(spec, look, born_in=FIVE) == ["self", "thread-self"]


def test_proc_can_hide_the_processes_of_others(jail, way):
    spec = JailSpec(
        rootfs="host", uid="20001", gid="20001", rootfs_proc=frozenset({"hidepid=invisible"})
    )

    def look():
        return "hidepid=invisible" in Path("/proc/self/mountinfo").read_text()

    assert jail(spec, look, born_in=FIVE) is True


def test_there_need_not_be_a_proc(jail, way):
    spec = JailSpec(rootfs="host", rootfs_proc=frozenset({"none"}))
    assert jail(spec, lambda: os.listdir("/proc"), born_in=FIVE) == []


def test_there_is_no_sys_unless_it_is_asked_for(jail):
    assert jail(JailSpec(rootfs="host"), lambda: os.path.exists("/sys"), born_in=FIVE) is False


def test_sys_is_read_only_and_shows_the_jails_network_only(jail, way):
    def look():
        try:
            Path("/sys/class/net/lo/ifalias").write_text("x")
        except OSError as error:
            return error.errno, os.listdir("/sys/class/net"), os.path.exists("/sys/kernel/mm")

    spec = JailSpec(rootfs="host", rootfs_sys="ro")
    number, interfaces, kernel = jail(spec, look, born_in=FIVE)
    assert number == errno.EROFS
    assert "lo" in interfaces
    assert set(interfaces) < {name for _, name in socket.if_nameindex()} | {"lo", *interfaces}
    assert kernel


def test_a_masked_sys_says_nothing_of_firmware_disks_and_drivers(jail, way):
    def look():
        return {
            name: os.listdir(f"/sys/{name}") for name in present if os.path.isdir(f"/sys/{name}")
        }

    present = [name for name in sysfs.MASKED if os.path.exists(f"/sys/{name}")]
    assert {"block", "module", "kernel"} <= set(present)
    spec = JailSpec(rootfs="host", rootfs_sys="masked")
    assert jail(spec, look, born_in=FIVE) == {name: [] for name in present}


@pytest.mark.userns
def test_sys_in_a_user_namespace_without_its_network_says_what_to_do(jail):
    spec = JailSpec(rootfs="host", uid="20001", gid="20001", rootfs_sys="ro")
    told = jail.tell(spec, born_in=(FIVE | {"user"}) - {"net"})
    assert "cannot mount /sys: the network namespace is not this user namespace's" in told.error
    assert "unshare = net" in told.error


# Files of /etc.


def read_etc():
    names = ("resolv.conf", "hosts", "hostname")
    return {
        name: Path(f"/etc/{name}").read_text() for name in names if os.path.exists(f"/etc/{name}")
    }


def test_a_root_gets_the_names_of_its_jail(jail, empty, way):
    (empty / "etc").mkdir()
    (empty / "etc" / "resolv.conf").write_text("nameserver 10.9.8.7\n")
    (empty / "etc" / "hosts").write_text("10.9.8.7 builder\n")
    spec = JailSpec(rootfs=str(empty), hostname="shop", nameservers=("192.0.2.53", "2001:db8::53"))
    assert jail(spec, read_etc, born_in=FIVE) == {
        "resolv.conf": "nameserver 192.0.2.53\nnameserver 2001:db8::53\n",
        "hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 shop\n",
        "hostname": "shop\n",
    }
    assert (empty / "etc" / "resolv.conf").read_text() == "nameserver 10.9.8.7\n"
    assert (empty / "etc" / "hosts").read_text() == "10.9.8.7 builder\n"


def test_the_files_cannot_be_written(jail, empty, way):
    def write():
        try:
            Path("/etc/hosts").write_text("")
        except OSError as error:
            return error.errno

    assert jail(JailSpec(rootfs=str(empty)), write, born_in=FIVE) == errno.EROFS


def test_rootfs_etc_false_leaves_the_roots_own(jail, empty):
    (empty / "etc").mkdir()
    (empty / "etc" / "hosts").write_text("10.9.8.7 builder\n")
    spec = JailSpec(rootfs=str(empty), hostname="shop", rootfs_etc=False)
    assert jail(spec, read_etc, born_in=FIVE) == {"hosts": "10.9.8.7 builder\n"}


def test_a_host_root_with_a_host_name_knows_it(jail, way):
    spec = JailSpec(rootfs="host", hostname="shop")
    assert "127.0.1.1 shop\n" in jail(spec, read_etc, born_in=FIVE)["hosts"]
    plain = jail(JailSpec(rootfs="host"), read_etc, born_in=FIVE)["hosts"]
    assert plain == Path("/etc/hosts").read_text()


def test_a_link_from_etc_into_proc_is_not_followed(jail, empty):
    (empty / "etc").mkdir()
    (empty / "etc" / "hosts").symlink_to("/proc/sys/kernel/hostname")
    told = jail.tell(JailSpec(rootfs=str(empty), hostname="shop"), born_in=FIVE)
    assert (
        "cannot mount on /proc/sys/kernel/hostname: a link of the root leads there" in told.error
    )


def test_a_link_of_the_root_in_the_place_of_a_file_is_read_as_the_root_would(jail, empty, way):
    """As systemd-resolved leaves it; the file is made where it leads, in the jail's own /run."""
    (empty / "etc").mkdir()
    (empty / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    spec = JailSpec(rootfs=str(empty), nameservers=("192.0.2.53",))

    def look():
        return read_etc()["resolv.conf"], os.path.exists("/run/systemd/resolve/stub-resolv.conf")

    assert jail(spec, look, born_in=FIVE) == ("nameserver 192.0.2.53\n", True)
    assert not (empty / "run" / "systemd").exists()


def test_a_read_only_directory_without_a_place_for_a_file_goes_without_it(jail, tmp_path):
    """As a distribution on a disk that is mounted read-only; what was asked for is an error."""

    def prepare(_context):
        syscalls.mount("none", str(tmp_path), "tmpfs")
        for name in ("etc", "proc", "dev", "tmp", "run", "usr"):
            (tmp_path / name).mkdir()
        (tmp_path / "etc" / "hosts").write_text("10.9.8.7 builder\n")
        flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
        syscalls.mount(None, str(tmp_path), None, flags)

    hook = Note(Phase.POST_JAIL, prepare)
    plain = JailSpec(
        rootfs=str(tmp_path), runtime_mount=False, binds=(Bind("/usr", "/usr", read_only=True),)
    )
    found = jail(plain, read_etc, born_in=FIVE, hooks=[hook])
    assert list(found) == ["hosts"]
    assert found["hosts"].startswith("127.0.0.1 localhost")
    told = jail.tell(
        dataclasses.replace(plain, nameservers=("192.0.2.53",)), born_in=FIVE, hooks=[hook]
    )
    assert told.error == (
        "default: cannot mount on /etc/resolv.conf: Read-only file system "
        "(it is not there and cannot be made; over rootfs = overlay:DIR it can)"
    )


@pytest.mark.parametrize("target", ["../../../../outside", "/outside", "{tmp}/outside"])
def test_a_link_that_leads_out_of_the_root_stays_in_it(jail, empty, tmp_path, target):
    (tmp_path / "outside").write_text("host")
    (empty / "etc").mkdir()
    (empty / "etc" / "hosts").symlink_to(target.format(tmp=tmp_path))
    told = jail.tell(JailSpec(rootfs=str(empty)), lambda: read_etc()["hosts"], born_in=FIVE)
    assert told.error or told.value.startswith("127.0.0.1 localhost")
    assert (tmp_path / "outside").read_text() == "host"


def test_a_directory_that_is_a_link_is_refused(jail, empty, tmp_path):
    (tmp_path / "outside").mkdir()
    (empty / "etc").symlink_to(tmp_path / "outside")
    spec = JailSpec(rootfs=str(empty), runtime_mount=False, binds=(Bind("/usr", "/usr"),))
    told = jail.tell(spec, born_in=FIVE)
    assert "cannot mount on /etc: it is, or passes through, a symbolic link" in told.error
    assert os.listdir(tmp_path / "outside") == []


def test_name_servers_of_the_host_alone_are_left_out_in_a_network_of_ones_own(monkeypatch):
    texts = {
        "/etc/resolv.conf": "search example\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n",
        "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.9\n",
    }
    monkeypatch.setattr(etcfiles, "_read", texts.__getitem__)
    assert etcfiles.resolv_conf((), own_network=False) == texts["/etc/resolv.conf"]
    assert etcfiles.resolv_conf((), own_network=True) == "search example\nnameserver 192.0.2.1\n"
    texts["/etc/resolv.conf"] = "nameserver 127.0.0.53\nnameserver ::1\n"
    assert etcfiles.resolv_conf((), own_network=True) == "nameserver 192.0.2.9\n"


# The runtime.


def runs_python():
    code = "import ssl, zoneinfo, sqlite3; print(zoneinfo.ZoneInfo('Europe/Rome').key)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr.strip()


def test_an_empty_directory_is_enough_of_a_root(jail, empty, way):
    spec = JailSpec(rootfs=str(empty), uid="20001", gid="20001")

    def look():
        certificates = os.path.exists("/etc/ssl/certs")
        written = os.access("/usr", os.W_OK), os.access(interpreter.library(), os.W_OK)
        return runs_python(), certificates, written

    ran, certificates, written = jail(spec, look, born_in=FIVE)
    assert ran == ("Europe/Rome", "")
    assert certificates == os.path.exists("/etc/ssl/certs")
    assert written == (False, False)


def test_mount_points_of_an_earlier_start_are_not_taken_for_the_roots_own(jail, empty, way):
    spec = JailSpec(rootfs=str(empty))
    first = jail(spec, lambda: Path("/proc/self/mountinfo").read_text().count("\n"), born_in=FIVE)
    again = jail(spec, lambda: Path("/proc/self/mountinfo").read_text().count("\n"), born_in=FIVE)
    assert again == first
    assert jail(spec, runs_python, born_in=FIVE) == ("Europe/Rome", "")


def test_what_the_root_has_is_the_roots(jail, empty, way):
    (empty / "usr" / "bin").mkdir(parents=True)
    (empty / "usr" / "bin" / "tool").write_text("own")
    (empty / "etc" / "ssl" / "certs").mkdir(parents=True)
    (empty / "etc" / "ssl" / "certs" / "own.pem").write_text("own")

    def look():
        return (
            os.listdir("/usr/bin"),
            os.listdir("/etc/ssl/certs"),
            os.path.isdir(interpreter.library()),
            sorted(os.listdir("/usr/share")),
        )

    names, certificates, library, shared = jail(JailSpec(rootfs=str(empty)), look, born_in=FIVE)
    assert "tool" in names
    assert certificates == ["own.pem"]
    assert library
    assert "doc" not in shared


def test_a_root_with_a_usr_of_its_own_runs_python_too(jail, empty):
    (empty / "usr" / "bin").mkdir(parents=True)
    for name in ("lib", "lib64"):
        (empty / name).symlink_to(f"usr/{name}")
    (empty / "usr" / "lib64").mkdir()
    if os.path.exists("/usr/lib64/ld-linux-x86-64.so.2"):
        (empty / "usr" / "lib64" / "ld-linux-x86-64.so.2").symlink_to(
            "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
        )
    assert jail(JailSpec(rootfs=str(empty)), runs_python, born_in=FIVE) == ("Europe/Rome", "")


def test_a_foreign_program_gets_no_runtime():
    spec = JailSpec(rootfs="/srv", unprivileged_exec=Exec("/bin/true"))
    words = " ".join(plan.build(spec, root=True).describe())
    assert "show this interpreter" not in words


def test_without_the_runtime_a_root_must_have_it(empty):
    with pytest.raises(JailError, match="runtime-mount = true"):
        plan.build(JailSpec(rootfs=str(empty), runtime_mount=False), root=True)


@pytest.mark.parametrize("name", ["usr", "etc"])
def test_a_link_where_the_runtime_goes_is_refused(jail, empty, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (empty / name).symlink_to(outside)
    told = jail.tell(JailSpec(rootfs=str(empty)), born_in=FIVE)
    assert "symbolic link" in told.error
    assert "\n" not in told.error
    assert os.listdir(outside) == []


# Everything at once.

WHOLE = {
    "hostname": "shop",
    "rootfs_sys": "masked",
    "tmpfs": (Tmpfs("/cache", size=1 << 20),),
    "mask_paths": (PathRule("/usr/share"),),
    "readonly_paths": (PathRule("/cache"),),
    "nameservers": ("192.0.2.53",),
}


@pytest.mark.parametrize("after", range(0, 60, 6))
@pytest.mark.parametrize("call", ["open_tree", "move_mount", "openat2", "mount_setattr"])
def test_any_call_that_fails_is_one_line_and_leaves_nothing(jail, empty, call, after):
    spec = JailSpec(rootfs=str(empty), **WHOLE)
    told = jail.tell(spec, born_in=FIVE, inject=(call, errno.ENOMEM, after))
    assert told.status in (0, 1)
    assert told.status == 0 or "Cannot allocate memory" in told.error
    assert "\n" not in told.error


@pytest.mark.parametrize("after", range(0, 60, 6))
@pytest.mark.parametrize("call", ["mount", "umount2"])
def test_any_mount2_that_fails_is_one_line_too(jail, empty, only_mount2, call, after):
    spec = JailSpec(rootfs=str(empty), **WHOLE)
    told = jail.tell(spec, born_in=FIVE, inject=(call, errno.ENOMEM, after))
    assert told.status in (0, 1)
    assert told.status == 0 or "Cannot allocate memory" in told.error
    assert "\n" not in told.error


def test_both_ways_make_the_same_mounts(jail, empty, request):
    def table():
        rows = []
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, right = line.split(" - ")
            root, point, options = left.split()[3:6]
            rows.append((point, root, options, right.split()[0]))
        return sorted(rows)

    for root in (str(empty), "host", f"overlay:{empty}"):
        spec = JailSpec(rootfs=root, **WHOLE)
        new = [jail(spec, table, born_in=FIVE)]
        request.getfixturevalue("only_mount2")
        new.append(jail(spec, table, born_in=FIVE))
        syscalls.inject_clear()
        oldmounts.lacking.cache_clear()
        assert [row[0] for row in new[0]] == [row[0] for row in new[1]]
        assert [(row[0], row[2]) for row in new[0]] == [(row[0], row[2]) for row in new[1]]


def test_a_mount_point_that_is_swapped_all_the_time_never_leads_outside_by_mount2(
    jail, empty, tmp_path, only_mount2
):
    """Case 15 without openat2(2): a directory and a link are exchanged while jails start."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (empty / "data").mkdir()
    (empty / "evil").symlink_to(outside)
    with swapping(empty / "data", empty / "evil"):
        spec = JailSpec(
            rootfs=str(empty),
            binds=(Bind("/etc", "/data/deep/er", read_only=True),),
            mask_paths=(PathRule("/data/deep"),),
        )
        errors = [jail.tell(spec, born_in=FIVE).error for _ in range(25)]
    assert all(not text or "cannot" in text for text in errors)
    assert os.listdir(outside) == []


def test_a_source_that_is_swapped_for_a_link_after_the_plan_is_refused(jail, tmp_path):
    source = tmp_path / "source"
    source.mkdir()

    def swap(_context):
        source.rmdir()
        source.symlink_to("/etc")
        os.lchown(source, 20001, 20001)

    spec = JailSpec(rootfs="host", binds=(Bind(str(source), "/data"),))
    told = jail.tell(spec, born_in=FIVE, hooks=[Note(Phase.POST_JAIL, swap)])
    assert "a symbolic link of uid 20001 is on the way" in told.error


def test_terminals_of_a_jail_are_its_own_and_bounded(jail):
    def look():
        row = next(
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if line.split()[4] == "/dev/pts"
        )
        kinds = {
            name: stat.S_IFMT(os.lstat(f"/dev/{name}").st_mode) for name in os.listdir("/dev")
        }
        return row, kinds

    row, kinds = jail(JailSpec(rootfs="host"), look, born_in=FIVE)
    assert "max=1024" in row
    assert not [name for name, kind in kinds.items() if kind == stat.S_IFBLK]
