"""Mounts: what propagates, what does not, and mounts by descriptor."""

import errno
import os
from pathlib import Path

import pytest

from donjon import syscalls as s

pytestmark = pytest.mark.root
SPACE = s.CLONE_NEWNS


def _mounted(target: str) -> bool:
    return f" {target} " in Path("/proc/self/mountinfo").read_text()


def _private() -> None:
    s.mount(None, "/", None, s.MS_REC | s.MS_PRIVATE)


def _mount_tmpfs(path: str) -> tuple[bool, bool]:
    _private()
    s.mount("tmpfs", path, "tmpfs", s.MS_NOSUID | s.MS_NODEV, "size=64k,mode=700")
    there = _mounted(path)
    s.umount2(path, s.MNT_DETACH)
    return there, _mounted(path)


def test_a_mount_in_a_private_namespace_stays_there(in_child, tmp_path):
    assert in_child(_mount_tmpfs, str(tmp_path), flags=SPACE) == (True, False)
    assert not _mounted(str(tmp_path))


def _slave_sees_and_keeps(path: str) -> tuple[bool, bool]:
    """A shared mount's child reaches a slave copy; the slave's own child does not go back."""
    _private()
    s.mount("tmpfs", path, "tmpfs")
    s.mount(None, path, None, s.MS_SHARED)
    for name in ("down", "up"):
        os.mkdir(f"{path}/{name}")
    ready, told = os.pipe(), os.pipe()
    pid, _ = s.clone3(s.CLONE_NEWNS)
    if pid == 0:
        s.mount(None, path, None, s.MS_SLAVE)
        os.write(ready[1], b"x")
        os.read(told[0], 1)
        s.mount("tmpfs", f"{path}/up", "tmpfs")
        os._exit(0 if _mounted(f"{path}/down") else 1)
    os.read(ready[0], 1)
    s.mount("tmpfs", f"{path}/down", "tmpfs")
    os.write(told[1], b"x")
    status = os.waitpid(pid, 0)[1]
    return status == 0, _mounted(f"{path}/up")


def test_mounts_reach_a_slave_and_never_come_back_from_it(in_child, tmp_path):
    assert in_child(_slave_sees_and_keeps, str(tmp_path), flags=SPACE) == (True, False)


def _pivot(path: str) -> list[str]:
    _private()
    s.mount("tmpfs", path, "tmpfs")
    os.mkdir(f"{path}/old")
    os.mkdir(f"{path}/here")
    os.chdir(path)
    s.pivot_root(".", "old")
    os.chdir("/")
    s.umount2("/old", s.MNT_DETACH)
    os.rmdir("/old")
    return os.listdir("/")


def test_pivot_root_leaves_nothing_of_the_host(in_child, tmp_path):
    assert in_child(_pivot, str(tmp_path), flags=SPACE) == ["here"]


def _pivot_same(path: str) -> list[str]:
    """pivot_root(".", ".") stacks the old root on the new: no directory is needed for it."""
    _private()
    s.mount("tmpfs", path, "tmpfs")
    os.chdir(path)
    s.pivot_root(".", ".")
    s.umount2(".", s.MNT_DETACH)
    os.chdir("/")
    return os.listdir("/")


def test_pivot_root_onto_itself_needs_no_directory(in_child, tmp_path):
    assert in_child(_pivot_same, str(tmp_path), flags=SPACE) == []


def _pivot_no_mount(path: str) -> int:
    _private()
    os.mkdir(f"{path}/old")
    try:
        s.pivot_root(path, f"{path}/old")
    except OSError as error:
        return error.errno if error.filename2 == f"{path}/old" else 0
    return 0


def test_pivot_root_onto_a_plain_directory_is_refused(in_child, tmp_path):
    assert in_child(_pivot_no_mount, str(tmp_path), flags=SPACE) == errno.EBUSY


def _by_descriptor(path: str) -> tuple[str, int]:
    _private()
    context = s.fsopen("tmpfs")
    s.fsconfig(context, s.FSCONFIG_SET_STRING, "size", "64k")
    s.fsconfig(context, s.FSCONFIG_CMD_CREATE)
    tree = s.fsmount(context, 0, s.MOUNT_ATTR_NOSUID | s.MOUNT_ATTR_NODEV)
    s.move_mount(tree, "", s.AT_FDCWD, path, s.MOVE_MOUNT_F_EMPTY_PATH)
    Path(path, "file").write_text("x")
    copy = s.open_tree(s.AT_FDCWD, path, s.OPEN_TREE_CLONE | s.AT_RECURSIVE)
    s.mount_setattr(copy, "", s.AT_EMPTY_PATH, attr_set=s.MOUNT_ATTR_RDONLY)
    os.mkdir(f"{path}/copy")
    s.move_mount(copy, "", s.AT_FDCWD, f"{path}/copy", s.MOVE_MOUNT_F_EMPTY_PATH)
    inherited = [os.get_inheritable(number) for number in (context, tree, copy)]
    assert inherited == [False, False, False]
    try:
        Path(path, "copy", "other").write_text("y")
    except OSError as error:
        return Path(path, "copy", "file").read_text(), error.errno
    return "written", 0


def test_a_mount_made_by_descriptor_can_be_copied_read_only(in_child, tmp_path):
    assert in_child(_by_descriptor, str(tmp_path), flags=SPACE) == ("x", errno.EROFS)


def _words() -> tuple[int, str]:
    context = s.fsopen("tmpfs")
    try:
        s.fsconfig(context, s.FSCONFIG_SET_STRING, "no-such-key", "x")
    except OSError as error:
        return error.errno, os.read(context, 200).decode()
    return 0, ""


def test_a_refused_setting_comes_with_the_kernels_words(in_child):
    number, words = in_child(_words)
    assert number == errno.EINVAL
    assert "no-such-key" in words


def _remount_read_only_bind(path: str) -> int:
    """A bind takes no flags at first: read-only needs the second call."""
    _private()
    s.mount(path, path, None, s.MS_BIND | s.MS_RDONLY)
    Path(path, "first").write_text("x")
    s.mount(None, path, None, s.MS_BIND | s.MS_REMOUNT | s.MS_RDONLY)
    try:
        Path(path, "second").write_text("x")
    except OSError as error:
        return error.errno
    return 0


def test_a_bind_is_read_only_after_the_second_call_alone(in_child, tmp_path):
    number = in_child(_remount_read_only_bind, str(tmp_path), flags=SPACE)
    assert number == errno.EROFS


def _proc() -> list[str]:
    _private()
    s.mount("proc", "/proc", "proc", s.MS_NOSUID | s.MS_NODEV | s.MS_NOEXEC)
    return sorted(name for name in os.listdir("/proc") if name.isdigit())


def test_proc_of_a_pid_namespace_lists_its_own_processes(in_child):
    assert in_child(_proc, flags=SPACE | s.CLONE_NEWPID) == ["1"]


def test_an_error_names_both_paths():
    with pytest.raises(FileNotFoundError) as caught:
        s.mount("/no/such/source", "/no/such/target", None, s.MS_BIND)
    error = caught.value
    assert (error.filename, error.filename2) == ("/no/such/source", "/no/such/target")


def test_an_error_without_a_source_names_the_target():
    with pytest.raises(FileNotFoundError) as caught:
        s.mount(None, "/no/such/target", None, s.MS_REMOUNT)
    assert (caught.value.filename, caught.value.filename2) == ("/no/such/target", None)


def test_a_path_that_is_not_utf8_comes_back_as_it_was():
    path = b"/no/\xff\xfe"
    with pytest.raises(FileNotFoundError) as caught:
        s.umount2(path)
    assert os.fsencode(caught.value.filename) == path


def test_a_path_with_a_nul_is_refused():
    with pytest.raises(ValueError, match="null"):
        s.umount2("/a\0b")
