"""Roots in files: each kind of file system, and no loop device left when a jail is gone."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import hosting
import pytest
from jailer import FIVE

from donjon.errors import JailError
from donjon.jail import image, lending, mountmaps, plan
from donjon.jail.spec import JailSpec

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]

MAKERS = {
    "squashfs": ["mksquashfs", "{base}", "{file}", "-quiet", "-no-progress"],
    "erofs": ["mkfs.erofs", "{file}", "{base}"],
    "ext4": ["mkfs.ext4", "-q", "-d", "{base}", "{file}", "8M"],
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """One image of each kind, of the same small tree without mount points."""
    place = tmp_path_factory.mktemp("images")
    base = place / "base"
    (base / "etc").mkdir(parents=True)
    (base / "etc" / "who").write_text("image")
    made = {}
    for kind, words in MAKERS.items():
        if shutil.which(words[0]) is None:
            continue
        made[kind] = place / f"{kind}-{os.getpid()}.img"
        command = [word.format(base=base, file=made[kind]) for word in words]
        subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(params=sorted(MAKERS))
def file(request, images):
    """An image of each kind that this machine can make."""
    if request.param not in images:
        pytest.skip(f"needs {MAKERS[request.param][0]}")
    return images[request.param]


def devices_of(file):
    """Return the loop devices that show a file; its path is seen from another mount namespace."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if path.read_text().strip().endswith(f"/{file.name}"):
                found.append(path.parts[3])
        except OSError:
            continue  # freed while we looked
    return found


def look():
    try:
        Path("/etc/new").write_text("")
        written = "written"
    except OSError as error:
        written = error.strerror
    return Path("/etc/who").read_text(), written, os.path.exists("/proc/self/status")


def wait_until_free(file):
    """The kernel frees the device when it ends the mount, a moment after the last process."""
    hosting.wait_for(lambda: devices_of(file) == [], f"free loop device of {file}")


def test_an_image_becomes_a_read_only_root(jail, file):
    spec = JailSpec(rootfs=f"image:{file}", uid="20001", gid="20001")
    root = JailSpec(rootfs=f"image:{file}")
    assert jail(root, look, born_in=FIVE) == ("image", "Read-only file system", True)
    assert jail(spec, look, born_in=FIVE)[0] == "image"
    wait_until_free(file)


def test_an_image_becomes_a_root_by_mount2(jail, file, only_mount2):
    assert jail(JailSpec(rootfs=f"image:{file}"), look, born_in=FIVE) == (
        "image",
        "Read-only file system",
        True,
    )
    wait_until_free(file)


def test_the_device_is_there_while_the_jail_is_and_shows_the_file_read_only(jail, images):
    file = images["squashfs"]
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(done[1])
        jail(
            JailSpec(rootfs=f"image:{file}"),
            lambda: (os.write(ready[1], b"r"), os.read(done[0], 1)),
            born_in=FIVE,
        )
        os._exit(0)
    os.read(ready[0], 1)
    seen = devices_of(file)
    flags = [Path(f"/sys/block/{name}/ro").read_text().strip() for name in seen]
    automatic = [Path(f"/sys/block/{name}/loop/autoclear").read_text().strip() for name in seen]
    os.close(done[1])
    assert os.waitpid(pid, 0)[1] == 0
    for number in (*ready, done[0]):
        os.close(number)
    assert len(seen) == 1
    assert (flags, automatic) == (["1"], ["1"])
    wait_until_free(file)


def test_jails_of_one_image_share_its_device(images):
    with image.mounted(str(images["ext4"])) as one, image.mounted(str(images["ext4"])) as other:
        assert len(devices_of(images["ext4"])) == 1
        assert os.fstat(one.fileno()).st_dev == os.fstat(other.fileno()).st_dev
        with image.mounted(str(images["squashfs"])) as third:
            assert os.fstat(third.fileno()).st_dev != os.fstat(one.fileno()).st_dev
    wait_until_free(images["ext4"])


def test_a_device_of_somebody_elses_making_is_not_shared(images):
    made = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", images["ext4"]],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    try:
        with image.mounted(str(images["ext4"])):
            assert len(devices_of(images["ext4"])) == 2
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)
    wait_until_free(images["ext4"])


def test_who_still_has_the_file_open_for_writing_is_a_reason_not_to_mount_it(images):
    with (
        images["ext4"].open("r+b"),
        pytest.raises(JailError, match="a process has it open for writing"),
    ):
        image.mounted(str(images["ext4"]))
    image.mounted(str(images["ext4"])).close()
    wait_until_free(images["ext4"])


@pytest.mark.parametrize("call", ["loop_ctl_get_free", "loop_configure", "fsconfig", "fsmount"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_start_that_fails_half_way_leaves_no_device(jail, images, call, after):
    file = images["squashfs"]
    told = jail.tell(
        JailSpec(rootfs=f"image:{file}"), born_in=FIVE, inject=(call, errno.EIO, after)
    )
    assert told.status == 0 or "Input/output error" in told.error
    assert "\n" not in told.error
    wait_until_free(file)


def test_a_device_that_another_took_is_left_to_him(jail, images):
    file = images["squashfs"]
    told = jail.tell(
        JailSpec(rootfs=f"image:{file}"),
        look,
        born_in=FIVE,
        inject=("loop_configure", errno.EBUSY, 0),
    )
    assert told.value == ("image", "Read-only file system", True)


def refused(spec, born_in=frozenset()):
    with pytest.raises(JailError) as caught:
        plan.build(spec, root=True, born_in=born_in)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_without_a_file_system_is_refused(tmp_path):
    file = tmp_path / "plain"
    file.write_bytes(b"x" * 8192)
    text = refused(JailSpec(rootfs=f"image:{file}"))
    assert text == (
        f"default: cannot use the image {file}: there is none of squashfs, erofs, ext4 in it"
    )


def test_what_is_no_file_is_refused(tmp_path):
    assert "No such file" in refused(JailSpec(rootfs=f"image:{tmp_path}/no"))
    assert "it is not a plain file" in refused(JailSpec(rootfs=f"image:{tmp_path}"))


@pytest.mark.parametrize(("owner", "mode"), [(20001, 0o644), (0, 0o664), (0, 0o646)])
def test_an_image_that_a_customer_can_write_is_refused(images, tmp_path, owner, mode):
    file = tmp_path / "image"
    shutil.copy(images["squashfs"], file)
    os.chown(file, owner, owner)
    os.chmod(file, mode)
    text = refused(JailSpec(rootfs=f"image:{file}"))
    assert f"uid {owner} with mode {mode:o} can write it" in text
    assert "copy it as root" in text


def test_an_image_that_is_swapped_after_the_plan_is_looked_at_again(jail, images, tmp_path):
    file = tmp_path / "image"
    shutil.copy(images["squashfs"], file)
    spec = JailSpec(rootfs=f"image:{file}")
    plan.build(spec, root=True)
    os.chmod(file, 0o666)
    with pytest.raises(JailError):
        image.open_image(str(file))


@pytest.mark.userns
def test_an_image_in_a_user_namespace_must_be_lent(jail, file):
    spec = JailSpec(rootfs=f"image:{file}", uid="20001", gid="20001")
    told = jail.tell(spec, born_in=FIVE | {"user"})
    assert "the kernel mounts block devices for the host's root only" in told.error
    lending.lend(spec)
    try:
        seen = jail(spec, lambda: (look(), os.getuid()), born_in=FIVE | {"user"})
    finally:
        mountmaps.forget()
    assert seen == (("image", "Read-only file system", True), 0)
    wait_until_free(file)


@pytest.mark.userns
def test_an_image_is_held_by_who_enters_a_user_namespace_later(jail, images):
    spec = JailSpec(
        rootfs=f"image:{images['ext4']}",
        uid="20001",
        gid="20001",
        unshare=frozenset({"user"}),
        rootfs_proc=frozenset({"none"}),
    )
    assert jail(spec, lambda: os.stat("/etc/who").st_uid) == 0
    wait_until_free(images["ext4"])
