"""What a bind shows, with its words; and whose the files are where the owners are mapped."""

import contextlib
import dataclasses
import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from jailer import FIVE, Note

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import lending, mountmaps, plan
from donjon.jail.idmap import Extent, IdMap
from donjon.jail.phase import Phase
from donjon.jail.spec import Bind, JailSpec, Tmpfs
from donjon.origin import Origin

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]

HOME = Origin("shop.ini", 7, "bind")


@pytest.fixture
def home():
    """A customer's directory that everybody can reach; his file is in it."""
    place = Path(tempfile.mkdtemp(prefix="donjon-binds."))
    os.chmod(place, 0o755)
    inner = place / "home"
    inner.mkdir()
    (inner / "letter").write_text("dear")
    for path in (inner, inner / "letter"):
        os.chown(path, 31000, 32000)
    os.chmod(inner / "letter", 0o600)
    yield inner
    shutil.rmtree(place)


def with_bind(home, **words):
    return JailSpec(
        rootfs="host",
        uid="20001",
        gid="20002",
        binds=(Bind(str(home), "/mnt", origin=HOME, **words),),
    )


def write():
    Path("/mnt/answer").write_text("me")
    info = os.stat("/mnt/letter")
    return info.st_uid, info.st_gid, Path("/mnt/letter").read_text()


def owner(path):
    info = os.stat(path)
    return info.st_uid, info.st_gid


def test_with_idmap_the_owners_files_are_the_vassals_and_the_vassals_are_the_owners(jail, home):
    assert jail(with_bind(home, idmap=True), write, born_in=FIVE) == (20001, 20002, "dear")
    assert owner(home / "answer") == (31000, 32000)
    assert owner(home / "letter") == (31000, 32000)


def test_without_idmap_the_owner_stays_who_he_is(jail, home):
    def look():
        return owner("/mnt/letter"), os.access("/mnt/letter", os.R_OK)

    assert jail(with_bind(home), look, born_in=FIVE) == ((31000, 32000), False)


def test_idmap_goes_with_read_only(jail, home):
    def attempt():
        try:
            Path("/mnt/answer").write_text("me")
        except OSError as error:
            return error.errno, owner("/mnt/letter")

    spec = with_bind(home, idmap=True, read_only=True)
    assert jail(spec, attempt, born_in=FIVE) == (errno.EROFS, (20001, 20002))


def test_one_source_bound_twice_leaves_no_way_to_it(jail, home):
    spec = JailSpec(
        rootfs="host",
        uid="20001",
        gid="20002",
        binds=(
            Bind(str(home), "/a", origin=HOME, idmap=True, read_only=True, optional=True),
            Bind(str(home), "/b", origin=HOME, idmap=True),
        ),
    )

    def look():
        held = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the listing's own
                held.append(os.readlink(f"/proc/self/fd/{name}"))
        try:
            Path("/a/new").touch()
        except OSError as error:
            refused = error.errno
        Path("/b/new").touch()
        return refused, os.listdir("/a") == os.listdir("/b"), held

    refused, same, held = jail(spec, look, born_in=FIVE)
    assert (refused, same) == (errno.EROFS, True)
    assert [path for path in held if path in ("/", "/mnt", str(home))] == []
    assert mountmaps.descriptors() == ()


def test_what_is_lent_is_safe_from_the_start(home):
    os.chown(home, 20001, 20002)
    who = mountmaps.Owner(20001, 20002)
    mountmaps.lend_binds([Bind(str(home), "/a", idmap=True, read_only=True)], who)
    (number,) = mountmaps.descriptors()
    flags = os.fstatvfs(number).f_flag
    mountmaps.forget()
    safe = os.ST_RDONLY | os.ST_NOSUID | 4  # ST_NODEV, statvfs(3)
    assert flags & safe == safe


def test_a_vassal_that_is_the_owner_needs_no_map(jail, home):
    for path in (home, home / "letter"):
        os.chown(path, 20001, 20002)
    assert jail(with_bind(home, idmap=True), write, born_in=FIVE) == (20001, 20002, "dear")


def test_roots_files_are_not_made_writable_by_a_map(jail, home):
    os.chown(home, 0, 0)
    told = jail.tell(with_bind(home, idmap=True), born_in=FIVE)
    assert told.error == (
        f"shop.ini:7: bind: cannot bind {home} with idmap: it belongs to root or root's group, "
        "and the vassal's files would too (add :ro, or chown it to a user)"
    )


def test_idmap_for_root_is_refused_before_the_start(home):
    spec = JailSpec(rootfs="host", binds=(Bind(str(home), "/mnt", origin=HOME, idmap=True),))
    with pytest.raises(JailError, match="with idmap needs a uid"):
        plan.build(spec, root=True)


def test_a_file_system_that_cannot_map_is_named(jail):
    spec = JailSpec(
        rootfs="host",
        uid="20001",
        binds=(Bind("/proc/sys", "/x", origin=HOME, idmap=True, read_only=True),),
    )
    told = jail.tell(spec, born_in=FIVE)
    assert told.error == (
        "shop.ini:7: bind: cannot bind /proc/sys with idmap: "
        "the file system (proc) cannot show other owners on this kernel"
    )


def test_idmap_without_the_new_calls_says_what_it_takes(jail, home, only_mount2):
    told = jail.tell(with_bind(home, idmap=True), born_in=FIVE)
    assert "it takes mount_setattr(2), Linux 5.12" in told.error


@pytest.mark.parametrize("call", ["clone3", "mount_setattr"])
def test_a_map_that_fails_leaves_nothing(jail, home, call):
    told = jail.tell(with_bind(home, idmap=True), born_in=FIVE, inject=(call, errno.EAGAIN, 0))
    assert "Resource temporarily unavailable" in told.error
    assert "\n" not in told.error


def test_a_namespace_for_maps_has_no_process_left():
    maps = IdMap((Extent(0, 100000, 10),), (Extent(0, 200000, 10),))
    with mountmaps.user_namespace(maps) as namespace:
        assert os.fstat(namespace.fileno()).st_ino != os.stat("/proc/self/ns/user").st_ino
    # the autouse fixture sees children and descriptors that are left


@pytest.mark.userns
def test_in_a_user_namespace_that_is_entered_later_roots_files_are_root_insides(jail, home):
    """With the jail's own maps: uid 0 of the disk is uid 0 inside, uid 20001 of the host."""
    for path in (home, home / "letter"):
        os.chown(path, 0, 0)
    spec = with_bind(home, idmap=True)

    def look():
        return (*write(), owner("/mnt/answer"))

    spec = dataclasses.replace(spec, unshare=frozenset({"user"}))
    told = jail.tell(spec)
    assert told.error == (
        "default: cannot mount /proc: the pid namespace is not this user namespace's "
        "(give the jail one: emperor-use-clone = pid,user; or rootfs-proc = none)"
    )
    spec = dataclasses.replace(spec, rootfs_proc=frozenset({"none"}))
    assert jail(spec, look) == (0, 0, "dear", (0, 0))
    assert owner(home / "answer") == (0, 0)


@pytest.mark.userns
def test_a_process_that_was_born_in_a_user_namespace_takes_what_it_was_lent(jail, home):
    for path in (home, home / "letter"):
        os.chown(path, 0, 0)
    spec = with_bind(home, idmap=True)
    told = jail.tell(spec, write, born_in=FIVE | {"user"})
    assert "none was lent to it" in told.error
    lending.lend(spec)
    try:
        assert len(mountmaps.descriptors()) == 1
        assert jail(spec, write, born_in=FIVE | {"user"}) == (0, 0, "dear")
    finally:
        mountmaps.forget()
    assert owner(home / "answer") == (0, 0)


def test_lending_is_all_or_nothing(home):
    spec = JailSpec(
        uid="20001",
        binds=(
            Bind(str(home), "/a", idmap=True),
            Bind("/proc/sys", "/b", origin=HOME, idmap=True),
        ),
    )
    with pytest.raises(JailError, match=r"shop.ini:7: bind: cannot bind /proc/sys with idmap"):
        lending.lend(spec)
    assert mountmaps.descriptors() == ()


# What lies below a source.


def mounted_below(home):
    def mount(context):
        (home / "below").mkdir(exist_ok=True)
        syscalls.mount("none", str(home / "below"), "tmpfs")
        (home / "below" / "hidden").write_text("x")

    return mount


@pytest.mark.parametrize("recursive", [False, True])
def test_mounts_below_a_source_come_along_only_with_rec(jail, home, recursive):
    hook = Note(Phase.POST_JAIL, mounted_below(home))
    spec = with_bind(home, recursive=recursive, read_only=True)

    def look():
        names = os.listdir("/mnt/below")
        return names, bool(os.statvfs("/mnt/below").f_flag & os.ST_RDONLY)

    names, read_only = jail(spec, look, born_in=FIVE, hooks=[hook])
    assert names == (["hidden"] if recursive else [])
    assert read_only


def test_an_optional_source_that_is_missing_is_left_out(jail):
    spec = JailSpec(rootfs="host", binds=(Bind("/no/such", "/data", optional=True),))
    assert jail(spec, lambda: os.path.exists("/data"), born_in=FIVE) is False


def test_a_missing_source_is_found_before_the_start():
    with pytest.raises(JailError, match="bind source /no/such does not exist"):
        plan.build(JailSpec(rootfs="host", binds=(Bind("/no/such", "/data"),)), root=True)


# Private file systems.


def test_a_private_file_system_has_the_inodes_and_mode_that_were_asked_for(jail):
    def fill():
        made = 0
        try:
            for made in range(100):
                os.close(os.open(f"/cache/{made}", os.O_CREAT))
        except OSError as error:
            return error.errno, made, stat.S_IMODE(os.stat("/cache").st_mode)

    spec = JailSpec(rootfs="host", tmpfs=(Tmpfs("/cache", inodes=9, mode=0o750),))
    assert jail(spec, fill, born_in=FIVE) == (errno.ENOSPC, 8, 0o750)
