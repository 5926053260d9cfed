"""Roots of layers: what a jail writes is its own, what it can do to the layers is nothing."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from jailer import FIVE

from donjon import syscalls
from donjon.errors import JailError
from donjon.fd import Fd
from donjon.jail import lending, mountmaps, overlay, plan
from donjon.jail.spec import JailSpec

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]


@pytest.fixture
def lower(tmp_path):
    """A directory that many jails share."""
    os.chmod(tmp_path, 0o755)
    base = tmp_path / "lower"
    for name in ("etc", "data", "tmp"):
        (base / name).mkdir(parents=True)
    (base / "etc" / "who").write_text("base")
    (base / "data" / "old").write_text("old")
    return base


@pytest.fixture
def upper(tmp_path):
    """Where a customer's changes are kept."""
    kept = tmp_path / "cow"
    kept.mkdir()
    return kept


def tree(base):
    """Return every name below a directory with what it is."""
    return sorted(
        (str(path.relative_to(base)), stat.S_IFMT(path.lstat().st_mode))
        for path in Path(base).rglob("*")
    )


def change():
    Path("/etc/who").write_text("mine")
    Path("/data/new").write_text("new")
    os.unlink("/data/old")
    return sorted(os.listdir("/data"))


def look():
    return Path("/etc/who").read_text(), sorted(os.listdir("/data"))


def test_what_is_written_to_an_overlay_in_memory_ends_with_the_jail(jail, lower, way):
    spec = JailSpec(rootfs=f"overlay:{lower}")
    before = tree(lower)
    assert jail(spec, change, born_in=FIVE) == ["new"]
    assert jail(spec, look, born_in=FIVE) == ("base", ["old"])
    assert tree(lower) == before


def test_an_upper_layer_keeps_what_was_written_and_the_lower_is_unchanged(jail, lower, upper, way):
    """FSE-06, with the kernel's own file system."""
    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}")
    before = tree(lower)
    assert jail(spec, change, born_in=FIVE) == ["new"]
    assert jail(spec, look, born_in=FIVE) == ("mine", ["new"])
    assert tree(lower) == before
    assert (upper / "upper" / "etc" / "who").read_text() == "mine"
    assert jail(JailSpec(rootfs=f"overlay:{lower}"), look, born_in=FIVE) == ("base", ["old"])


def test_of_several_lowers_the_first_is_on_top(jail, lower, tmp_path, way):
    php = tmp_path / "php"
    (php / "etc").mkdir(parents=True)
    (php / "etc" / "who").write_text("php")
    spec = JailSpec(rootfs=f"overlay:{php},{lower}")
    assert jail(spec, look, born_in=FIVE) == ("php", ["old"])


def test_an_overlay_in_memory_has_the_size_that_was_asked_for(jail, lower, way):
    def fill():
        try:
            Path("/data/big").write_bytes(bytes(2 << 20))
        except OSError as error:
            return error.errno

    spec = JailSpec(rootfs=f"overlay:{lower}:size=1M")
    assert jail(spec, fill, born_in=FIVE) == errno.ENOSPC


def test_set_user_id_and_devices_of_a_layer_are_dead(jail, lower, upper, way):
    os.mknod(lower / "data" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (lower / "data" / "su").write_text("")
    os.chmod(lower / "data" / "su", 0o4755)

    def attempt():
        flags = os.statvfs("/").f_flag
        try:
            os.close(os.open("/data/null", os.O_RDONLY))
            opened = True
        except OSError:
            opened = False
        return bool(flags & os.ST_NOSUID), bool(flags & os.ST_NODEV), opened

    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}")
    assert jail(spec, attempt, born_in=FIVE) == (True, True, False)


def test_no_path_of_the_host_is_in_the_mount_table(jail, lower, upper, way):
    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}")
    table = jail(spec, Path("/proc/self/mountinfo").read_text, born_in=FIVE)
    rows = [line for line in table.splitlines() if " - overlay " in line]
    assert len(rows) == 1
    assert str(lower) not in rows[0]
    assert str(upper) not in rows[0]


def test_only_one_root_is_left_of_all_that_was_stacked(jail, lower, way):
    def roots():
        table = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split(" - ")[1].split()[0] for line in table if line.split()[4] == "/"]

    for text in (f"overlay:{lower}", str(lower)):
        found = jail(JailSpec(rootfs=text), roots, born_in=FIVE)
        assert len(found) == 1, found


@pytest.mark.userns
def test_an_overlay_works_in_a_user_namespace(jail, lower, upper, tmp_path):
    for base in (tmp_path.parent, tmp_path.parent.parent):  # open to who root inside is outside
        os.chmod(base, 0o711)
    for path in (upper, lower, lower / "etc"):
        os.chown(path, 20001, 20001)

    def write():
        Path("/new").write_text("x")
        os.mkdir("/etc/made")
        return os.getuid(), Path("/etc/who").read_text()

    for text in (f"overlay:{lower}", f"overlay:{lower}:{upper}"):
        spec = JailSpec(rootfs=text, uid="20001", gid="20001")
        assert jail(spec, write, born_in=FIVE | {"user"}) == (0, "base")
    assert (upper / "upper" / "new").stat().st_uid == 20001


@pytest.mark.userns
def test_a_distribution_of_roots_is_root_insides_in_every_user_namespace(jail, lower, upper):
    """One lower layer, two customers, nobody changes an owner on the disk."""
    for base in (lower.parents[1], lower.parents[2]):
        os.chmod(base, 0o711)

    def write():
        owner = os.stat("/etc/who").st_uid
        Path("/etc/who").write_text("mine")
        return owner, Path("/etc/who").read_text()

    for uid in ("20001", "20002"):
        for text in (f"overlay:{lower}", f"overlay:{lower}:{upper}/{uid}"):
            (upper / uid).mkdir(exist_ok=True)
            os.chown(upper / uid, int(uid), int(uid))
            spec = JailSpec(rootfs=text, uid=uid, gid=uid)
            lending.lend(spec)
            try:
                assert jail(spec, write, born_in=FIVE | {"user"}) == (0, "mine")
            finally:
                mountmaps.forget()
        assert (upper / uid / "upper" / "etc" / "who").stat().st_uid == int(uid)
    assert (lower / "etc" / "who").read_text() == "base"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("overlay:{base}/no", "LOWER {base}/no is not a directory"),
        ("overlay:{base}/lower/etc/who", "is not a directory"),
        ("overlay:/", "LOWER cannot be the host's root"),
        ("overlay:{base}/lower:{base}/no", "UPPER {base}/no is not a directory"),
        ("overlay:{base}/link:{base}/lower/data", "one inside the other"),
    ],
)
def test_layers_that_cannot_be_are_found_before_the_start(lower, tmp_path, text, reason):
    (tmp_path / "link").symlink_to(lower)
    with pytest.raises(JailError) as caught:
        plan.build(JailSpec(rootfs=text.format(base=tmp_path)), root=True)
    assert reason.format(base=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["upper", "work"])
def test_a_customers_link_in_place_of_a_layer_is_refused(jail, lower, upper, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (upper / name).symlink_to(outside)
    told = jail.tell(JailSpec(rootfs=f"overlay:{lower}:{upper}"), change, born_in=FIVE)
    assert "Not a directory" in told.error or "symbolic links" in told.error
    assert os.listdir(outside) == []


def test_a_layer_behind_a_customers_link_is_refused(jail, lower, upper, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(upper)
    os.lchown(link, 20001, 20001)
    for text in (f"overlay:{lower}:{link}", f"overlay:{link}"):
        told = jail.tell(JailSpec(rootfs=text), born_in=FIVE)
        assert "a symbolic link of uid 20001 is on the way" in told.error


def test_a_second_jail_on_the_same_upper_layer_is_refused(jail, lower, upper, monkeypatch, way):
    monkeypatch.setattr(overlay, "_PATIENCE", 0.0)
    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}")
    ready, done = os.pipe(), os.pipe()

    def stay():
        os.write(ready[1], b"r")
        os.read(done[0], 1)

    pid = os.fork()
    if pid == 0:
        os.close(done[1])
        jail(spec, stay, born_in=FIVE)
        os._exit(0)
    os.read(ready[0], 1)
    with Fd(os.open(upper, os.O_RDONLY)) as keeper:
        busy = None if way == "by mount(2)" else overlay.in_use(keeper)
    told = jail.tell(spec, born_in=FIVE)
    os.close(done[1])
    assert os.waitpid(pid, 0)[1] == 0
    for number in (*ready, done[0]):
        os.close(number)
    assert busy in (True, None)
    assert "a running jail has it" in told.error
    assert "give each vassal an UPPER of its own" in told.error
    monkeypatch.undo()
    assert jail.tell(spec, born_in=FIVE).error == ""


def test_asking_whether_a_layer_is_in_use_changes_nothing(lower, upper):
    for name in ("upper", "work"):
        (upper / name).mkdir()
    with Fd(os.open(upper, os.O_RDONLY)) as keeper:
        assert overlay.in_use(keeper) is False
    assert tree(upper) == [("upper", stat.S_IFDIR), ("work", stat.S_IFDIR)]
    assert os.listxattr(upper / "upper") == []


def test_another_start_that_holds_the_layer_is_said(jail, lower, upper):
    with overlay.locked(str(upper)):
        told = jail.tell(JailSpec(rootfs=f"overlay:{lower}:{upper}"), born_in=FIVE)
    assert "another jail that has it is being started or reset" in told.error


def test_who_may_only_read_the_layer_holds_up_no_start(jail, lower, upper):
    with overlay.locked(str(upper)):
        pass
    with Fd(os.open(upper, os.O_RDONLY)) as stranger:
        fcntl.flock(stranger.fileno(), fcntl.LOCK_EX)
        assert jail.tell(JailSpec(rootfs=f"overlay:{lower}:{upper}"), born_in=FIVE).error == ""
    assert stat.S_IMODE((upper / "lock").stat().st_mode) == 0o600


def test_a_layer_in_memory_has_an_end_of_files(jail, lower):
    spec = JailSpec(rootfs=f"overlay:{lower}:size=8M", uid="20001")
    assert jail(spec, lambda: os.statvfs("/").f_files, born_in=FIVE) == 2048


@pytest.mark.parametrize("call", ["open_tree", "fsopen", "fsconfig", "fsmount", "move_mount"])
@pytest.mark.parametrize("after", range(0, 12, 3))
def test_a_call_that_fails_on_the_way_leaves_nothing(jail, lower, upper, call, after):
    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}")
    told = jail.tell(spec, born_in=FIVE, inject=(call, errno.EIO, after))
    assert told.status in (0, 1)
    assert told.status == 0 or "Input/output error" in told.error
    assert "\n" not in told.error
    assert jail.tell(spec, change, born_in=FIVE).error == ""


def test_metadata_of_overlayfs_in_a_customers_layer_opens_nothing(jail, lower, upper, tmp_path):
    """Case 28: a redirection would show another directory of a lower layer under a new name."""
    secret = lower / "secret"
    secret.mkdir(mode=0o700)
    (secret / "key").write_text("key")
    (upper / "upper" / "lure").mkdir(parents=True)
    for space in ("trusted", "user"):
        os.setxattr(upper / "upper" / "lure", f"{space}.overlay.redirect", b"/secret")
    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}", uid="20001", gid="20001")

    def peek():
        try:
            return os.listdir("/lure")
        except OSError as error:
            return error.strerror

    assert jail(spec, peek, born_in=FIVE) in ([], "Operation not permitted", "Permission denied")


# Reset to base.


def filled(jail, lower, upper):
    jail(JailSpec(rootfs=f"overlay:{lower}:{upper}"), change, born_in=FIVE)
    assert (upper / "upper" / "etc" / "who").exists()


def test_rootfs_reset_empties_the_layer_at_each_start(jail, lower, upper, way):
    filled(jail, lower, upper)
    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}", rootfs_reset=True)
    for _ in range(2):
        assert jail(spec, lambda: (look(), change())[0], born_in=FIVE) == ("base", ["old"])


def test_rootfs_reset_without_a_layer_that_is_kept_is_refused(lower):
    with pytest.raises(JailError, match="rootfs-reset has nothing to empty"):
        plan.build(JailSpec(rootfs=f"overlay:{lower}", rootfs_reset=True), root=True)


def reset_in_child(path):
    """Return the line of an error, "" for a reset."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            overlay.to_base(str(path))
        except JailError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


def test_a_reset_takes_everything_away_and_the_next_start_begins_at_the_base(jail, lower, upper):
    filled(jail, lower, upper)
    assert reset_in_child(upper) == ""
    assert os.listdir(upper) == ["lock"]
    assert jail(JailSpec(rootfs=f"overlay:{lower}:{upper}"), look, born_in=FIVE) == (
        "base",
        ["old"],
    )


def test_a_reset_follows_no_link_and_touches_nothing_outside(jail, lower, upper, tmp_path):
    filled(jail, lower, upper)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    inside = upper / "upper"
    (inside / "link").symlink_to(outside)
    (inside / "file").symlink_to(outside / "precious")
    (inside / "up").symlink_to("../../outside")
    os.link(outside / "precious", inside / "hard")
    assert reset_in_child(upper) == ""
    assert os.listdir(upper) == ["lock"]
    assert (outside / "precious").read_text() == "x"


@pytest.mark.parametrize("name", ["upper", "work", "trash"])
def test_a_link_where_a_layer_should_be_is_removed_or_refused(upper, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (upper / name).symlink_to(outside)
    text = reset_in_child(upper)
    assert (outside / "precious").read_text() == "x"
    assert text == "" if name != "trash" else "cannot empty the upper layer" in text


def test_a_reset_goes_on_where_another_was_interrupted(jail, lower, upper):
    filled(jail, lower, upper)
    (upper / "trash").mkdir()
    os.rename(upper / "upper", upper / "trash" / "0")
    assert reset_in_child(upper) == ""
    assert os.listdir(upper) == ["lock"]


def test_a_tree_deeper_than_any_path_is_removed(upper):
    """2,000 levels: no path reaches the last, and no process may open so many directories."""
    (upper / "upper").mkdir()
    held = os.open(upper / "upper", os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("deep", dir_fd=held)
        below = os.open("deep", os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = below
    os.close(os.open("bottom", os.O_CREAT, dir_fd=held))
    os.close(held)
    assert reset_in_child(upper) == ""
    assert os.listdir(upper) == ["lock"]


def test_a_reset_refuses_where_something_is_mounted(upper):
    (upper / "upper" / "mnt").mkdir(parents=True)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("none", str(upper / "upper" / "mnt"), "tmpfs")
        (upper / "upper" / "mnt" / "precious").write_text("x")
        try:
            overlay.to_base(str(upper))
        except JailError as error:
            os.write(writer, str(error).encode())
        os.write(writer, f" {os.path.ismount(upper / 'trash' / '1')}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    assert "cannot empty the upper layer" in text
    assert "busy" in text or "mounted" in text


def test_a_running_jail_is_not_reset(jail, lower, upper):
    spec = JailSpec(rootfs=f"overlay:{lower}:{upper}")
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(done[1])
        jail(spec, lambda: (change(), os.write(ready[1], b"r"), os.read(done[0], 1)), born_in=FIVE)
        os._exit(0)
    os.read(ready[0], 1)
    text = reset_in_child(upper)
    os.close(done[1])
    os.waitpid(pid, 0)
    for number in (*ready, done[0]):
        os.close(number)
    assert "a running jail writes to it" in text
    assert "stop it first: donjon stop NAME" in text
    assert (upper / "upper" / "etc" / "who").read_text() == "mine"


def test_a_reset_that_fails_says_why(upper):
    (upper / "upper").mkdir()
    syscalls.inject("reset", errno.EIO)
    try:
        assert "cannot empty the upper layer" in reset_in_child(upper)
    finally:
        syscalls.inject_clear()
