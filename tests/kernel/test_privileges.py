"""Capabilities, no_new_privs, parent-death signal: what a drop of uid keeps and what it takes away."""

import errno
import os
import signal
from pathlib import Path

import pytest

from donjon import syscalls as s

NOBODY = 65534
ALL = (1 << (s.last_cap() + 1)) - 1


def test_the_last_capability_is_the_kernels():
    assert s.last_cap() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def test_names_and_numbers_are_those_of_the_header():
    assert s.capability_names["net_bind_service"] == s.CAP_NET_BIND_SERVICE == 10
    assert sorted(s.capability_names.values()) == list(range(41))


def _drop(keep: int) -> tuple[int, int, int]:
    s.prctl(s.PR_SET_KEEPCAPS, 1)
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    s.capset(keep, keep, keep)
    return s.capget()


@pytest.mark.root
def test_kept_capabilities_survive_a_drop_of_uid(in_child):
    mask = 1 << s.CAP_NET_BIND_SERVICE
    assert in_child(_drop, mask) == (mask, mask, mask)


def _plain_drop() -> tuple[int, int, int]:
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return s.capget()


@pytest.mark.root
def test_a_drop_of_uid_takes_every_capability(in_child):
    assert in_child(_plain_drop)[:2] == (0, 0)


def _masks_over_32_bits() -> tuple[int, int, int]:
    high = 1 << s.CAP_CHECKPOINT_RESTORE | 1 << s.CAP_CHOWN
    s.capset(high, high, 0)
    return s.capget()


@pytest.mark.root
def test_capabilities_above_31_are_kept_apart_from_those_below(in_child):
    high = 1 << s.CAP_CHECKPOINT_RESTORE | 1 << s.CAP_CHOWN
    assert in_child(_masks_over_32_bits) == (high, high, 0)


@pytest.mark.root
def test_capget_reads_another_process(in_child):
    assert s.capget(1)[1] == ALL


def _raise_more() -> int:
    s.capset(0, 0, 0)
    try:
        s.capset(1, 1, 0)
    except OSError as error:
        return error.errno
    return 0


@pytest.mark.root
def test_a_capability_given_away_never_comes_back(in_child):
    assert in_child(_raise_more) == errno.EPERM


def _ambient() -> list[int]:
    cap = s.CAP_NET_BIND_SERVICE
    mask = 1 << cap
    s.capset(mask, mask, mask)
    is_set = (s.PR_CAP_AMBIENT, s.PR_CAP_AMBIENT_IS_SET, cap)
    s.cap_ambient_raise(cap)
    seen = [s.prctl(*is_set)]
    s.cap_ambient_lower(cap)
    seen.append(s.prctl(*is_set))
    s.cap_ambient_raise(cap)
    s.cap_ambient_clear_all()
    return [*seen, s.prctl(*is_set)]


@pytest.mark.root
def test_ambient_capabilities_are_raised_and_lowered(in_child):
    assert in_child(_ambient) == [1, 0, 0]


def _bounded() -> int:
    s.capbset_drop(s.CAP_SYS_ADMIN)
    return s.prctl(s.PR_CAPBSET_READ, s.CAP_SYS_ADMIN)


@pytest.mark.root
def test_the_bounding_set_loses_what_is_dropped(in_child):
    assert in_child(_bounded) == 0


def _no_new_privs() -> int:
    s.set_no_new_privs()
    return s.prctl(s.PR_GET_NO_NEW_PRIVS)


def test_no_new_privs_is_set(in_child):
    assert in_child(_no_new_privs) == 1


def _pdeathsig_after_setuid() -> tuple[int, int]:
    s.set_pdeathsig(signal.SIGKILL)
    before = s.prctl(s.PR_GET_PDEATHSIG)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return before, s.prctl(s.PR_GET_PDEATHSIG)


@pytest.mark.root
def test_a_change_of_uid_clears_the_parent_death_signal(in_child):
    assert in_child(_pdeathsig_after_setuid) == (signal.SIGKILL, 0)


def _pdeathsig_after_clone() -> int:
    s.set_pdeathsig(signal.SIGKILL)
    pid, pidfd = s.clone3(0)
    if pid == 0:
        os._exit(s.prctl(s.PR_GET_PDEATHSIG))
    return os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status


def test_a_child_does_not_inherit_the_parent_death_signal(in_child):
    assert in_child(_pdeathsig_after_clone) == 0


@pytest.mark.root
def test_the_parent_death_signal_of_a_sibling_is_of_the_common_parent():
    """CLONE_PARENT: the death that counts is that of the real parent, not of the maker."""
    reader, writer = os.pipe()
    ready, go = os.pipe(), os.pipe()
    middle, middle_fd = s.clone3(0)
    if middle == 0:  # the parent of both
        maker, _ = s.clone3(0)
        if maker == 0:
            pid, _ = s.clone3(s.CLONE_PARENT | s.CLONE_NEWPID)
            if pid == 0:
                s.set_pdeathsig(signal.SIGKILL)
                os.write(ready[1], b"x")
                signal.pause()
            os._exit(0)
        os.waitpid(maker, 0)
        os.read(go[0], 1)
        os._exit(0)
    os.close(writer)
    os.read(ready[0], 1)
    os.write(go[1], b"x")
    os.waitpid(middle, 0)
    assert os.read(reader, 1) == b""  # the last holder of the writing end is gone
    for number in (reader, middle_fd, *ready, *go):
        os.close(number)


def _subreaper() -> tuple[int, int]:
    s.set_child_subreaper(True)
    on = s.prctl(s.PR_GET_CHILD_SUBREAPER)
    s.set_child_subreaper(False)
    return on, s.prctl(s.PR_GET_CHILD_SUBREAPER)


def test_a_subreaper_is_made_and_unmade(in_child):
    assert in_child(_subreaper) == (1, 0)


def _named() -> str:
    s.set_name("a-name-longer-than-the-kernel-keeps")
    return Path("/proc/self/comm").read_text()


def test_a_name_is_cut_to_15_bytes(in_child):
    assert in_child(_named) == "a-name-longer-t\n"


def _shown(lines: list[list[bytes]], uid: int) -> list[bytes]:
    os.setresuid(uid, uid, uid)
    return [_show(line) for line in lines]


def _show(line: list[bytes]) -> bytes:
    s.set_cmdline(line)
    return Path("/proc/self/cmdline").read_bytes()


@pytest.mark.root
@pytest.mark.parametrize("uid", [0, NOBODY])
def test_a_command_line_is_shown_longer_and_shorter_than_the_first(in_child, uid):
    lines = [[b"a" * 9000, b"--set", b""], [b"x"], [b"--ini", b"a b.ini"]]
    assert in_child(_shown, lines, uid) == [b"".join(arg + b"\0" for arg in x) for x in lines]


def _shown_by_a_child() -> bytes:
    s.set_cmdline([b"one"])
    pid, pidfd = s.clone3(0)
    if pid == 0:
        s.set_cmdline([b"two"])
        os._exit(Path("/proc/self/cmdline").read_bytes() != b"two\0")
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status == 0
    return Path("/proc/self/cmdline").read_bytes()


def test_a_child_changes_its_own_command_line_alone(in_child):
    assert in_child(_shown_by_a_child) == b"one\0"


def test_the_environment_shown_stays_where_it_was(in_child):
    def environment() -> bool:
        before = Path("/proc/self/environ").read_bytes()
        s.set_cmdline([b"other"])
        return Path("/proc/self/environ").read_bytes() == before

    assert in_child(environment)


@pytest.mark.parametrize("line", [[], ()])
def test_an_empty_command_line_is_refused(line):
    with pytest.raises(OSError, match="Invalid argument"):
        s.set_cmdline(line)


@pytest.mark.parametrize("option", [s.PR_SET_NAME, 16, 35, 40, 62, 0x53564D41, 0x41555856])
def test_prctl_never_takes_a_number_for_a_pointer(option):
    with pytest.raises(ValueError, match="pointer"):
        s.prctl(option, 1)


def test_seccomp_knows_its_actions():
    s.seccomp_action_avail(s.SECCOMP_RET_ERRNO)
    with pytest.raises(OSError, match="not supported"):
        s.seccomp_action_avail(0x12340000)


def _closed_user_namespace() -> int:
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    try:
        s.mount("tmpfs", "/tmp", "tmpfs")
    except OSError as error:
        return error.errno
    return 0


@pytest.mark.root
def test_mount_is_refused_to_who_lacks_the_capability(in_child):
    assert in_child(_closed_user_namespace, flags=s.CLONE_NEWNS) == errno.EPERM


def _user_namespace() -> tuple[int, bool]:
    os.setresuid(NOBODY, NOBODY, NOBODY)
    s.unshare(s.CLONE_NEWUSER)
    return os.getuid(), s.capget()[0] == ALL


@pytest.mark.userns
@pytest.mark.root
def test_a_new_user_namespace_gives_every_capability_inside(in_child):
    assert in_child(_user_namespace) == (NOBODY, True)
