"""Each step made to fail in turn: one clear line, no half-made jail, nothing left behind."""

import errno
import os
from pathlib import Path

import pytest
from jailer import FIVE

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import cgroups, template, zygote
from donjon.jail.spec import Bind, CgroupPath, FileRule, JailSpec, Tmpfs

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("host_unchanged")]

FULL = JailSpec(
    rootfs="host",
    uid="20001",
    gid="20001",
    hostname="bob",
    cap=frozenset({10}),
    binds=(Bind("/usr/share", "/data", read_only=True),),
    tmpfs=(Tmpfs("/cache", size=1 << 20),),
    expose=("/etc/init.d",),
    limit_nproc=100,
    max_fd=512,
    prio=1,
    landlock=(FileRule("auto"),),
    io_priority=(2, 5),
    oom_score_adj=100,
)
CALLS = [
    "mount_setattr",
    "sethostname",
    "fsopen",
    "fsconfig",
    "fsmount",
    "open_tree",
    "move_mount",
    "openat2",
    "pivot_root",
    "umount2",
    "chdir",
    "setrlimit",
    "setpriority",
    "capbset_drop",
    "setgroups",
    "setresgid",
    "setresuid",
    "capset",
    "cap_ambient_raise",
    "set_no_new_privs",
    "seccomp_filter",
    "join_session_keyring",
    "ioprio_set",
    "prctl",
]


def processes_below() -> list[str]:
    tasks = Path("/proc/self/task")
    return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_is_one_line_and_leaves_nothing(jail, call):
    told = jail.tell(FULL, born_in=FIVE, inject=(call, errno.EIO))
    assert told.status == 1
    assert told.value is None
    assert told.error.startswith("default: cannot ")
    assert "Input/output error" in told.error
    assert "\n" not in told.error
    assert processes_below() == []


@pytest.mark.parametrize("after", range(0, 40, 5))
@pytest.mark.parametrize("call", ["open_tree", "move_mount", "fsconfig"])
def test_the_nth_call_that_fails_leaves_nothing_either(jail, call, after):
    told = jail.tell(FULL, born_in=FIVE, inject=(call, errno.ENOMEM, after))
    assert told.status in (0, 1)
    assert told.status == 0 or "Cannot allocate memory" in told.error
    assert processes_below() == []


@pytest.mark.parametrize("word", ["fs", "uts", "net", "pid"])
def test_a_namespace_that_is_refused_names_the_option(jail, word):
    told = jail.tell(JailSpec(unshare=frozenset({word})), inject=("unshare", errno.ENOSPC))
    assert told.error == (
        f"default: cannot leave the host's namespaces: {word}: No space left on device"
    )


def test_a_user_namespace_that_cannot_be_mapped_is_an_error(jail):
    spec = JailSpec(unshare=frozenset({"user"}), uid="20001")
    told = jail.tell(spec, inject=("uid_map", errno.EPERM))
    assert "cannot map uid 20001 into the user namespace: Operation not permitted" in told.error


def test_a_refused_unshare_of_users_leaves_no_helper(jail):
    spec = JailSpec(unshare=frozenset({"user"}), uid="20001")
    told = jail.tell(spec, inject=("unshare", errno.EUSERS))
    assert "Too many users" in told.error
    assert processes_below() == []


def test_clocks_that_cannot_be_set_are_one_line(jail):
    spec = JailSpec(time_offsets=(("monotonic", 5),))
    told = jail.tell(spec, inject=("timens_offsets", errno.ERANGE))
    assert told.status == 1
    assert "monotonic +5 s" in told.error
    assert "Numerical result out of range" in told.error


def test_a_fork_that_fails_is_an_error_of_its_step(jail):
    spec = JailSpec(refork=True)
    told = jail.tell(spec, inject=("fork", errno.EAGAIN))
    assert "cannot fork and go on as the child" in told.error


def test_a_template_that_cannot_be_copied_is_done_without(jail):
    zygote.prepare()
    try:
        listing = jail(FULL, lambda: sorted(os.listdir("/")), born_in=FIVE)
        told = jail.tell(
            FULL,
            lambda: sorted(os.listdir("/")),
            born_in=FIVE,
            inject=("open_tree", errno.EINVAL),
        )
        assert told.value == listing
    finally:
        template.forget()


def test_a_template_that_cannot_be_made_is_done_without():
    syscalls.inject("fsopen", errno.ENOSYS)
    try:
        zygote.prepare()
        assert template.descriptors() == ()
    finally:
        syscalls.inject_clear()


@pytest.mark.cgroup1
def test_a_value_that_cannot_be_written_undoes_every_group():
    base = f"donjon-jail-{os.getpid()}"
    paths = [f"/sys/fs/cgroup/{name}/{base}/x" for name in ("cpu", "memory")]
    spec = JailSpec(
        cgroups=tuple(CgroupPath(path) for path in paths),
        cgroup_options=(cgroups.CgroupOption("memory.limit_in_bytes", "1M"),),
    )
    syscalls.inject("cgroup_write", errno.EIO)
    try:
        with pytest.raises(JailError, match="cannot write 1M to"):
            cgroups.prepare(spec)
    finally:
        syscalls.inject_clear()
    assert not any(os.path.exists(os.path.dirname(path)) for path in paths)
