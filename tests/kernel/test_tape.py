"""``play``: calls between clone and exec without Python, in memory that is copied or shared."""

import errno
import os
import signal
import struct
import sys
import time
from dataclasses import dataclass

import pytest

from donjon import syscalls as s
from donjon.fd import Fd

SHARE = pytest.mark.parametrize("share", [False, True], ids=["copied", "shared"])
AT_FDCWD = s.AT_FDCWD


@dataclass(frozen=True, slots=True)
class End:
    status: int
    said: str  # on the pipe for errors
    out: str = ""


def play(tape=(), *, program="/bin/true", argv=("x",), share=False, flags=0, **more) -> End:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    argv = tuple(os.fsencode(word) for word in argv)
    with os.fdopen(reader) as said:
        try:
            pid, pidfd = s.play(
                flags, tuple(tape), writer, program.encode(), argv, (b"A=b",), b"no exec",
                share=share, **more,
            )  # fmt: skip
        finally:
            os.close(writer)
        with Fd(pidfd):
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return End(status, said.read())


def shell(script: str, tape=(), *, out=1, **more) -> End:
    """Play a tape, then a shell whose output is returned."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    show = ("dup3", (writer, out, 0), -1, "no output")
    with os.fdopen(reader) as shown:
        try:
            end = play((*tape, show), program="/bin/sh", argv=("sh", "-c", script), **more)
        finally:
            os.close(writer)
        return End(end.status, end.said, shown.read().strip())


@SHARE
def test_a_program_runs_with_its_arguments_and_its_environment(share):
    assert shell("echo $0 $A $HOME", share=share).out == "sh b"
    assert shell("exit 7", share=share).status == 7


@SHARE
def test_results_go_into_registers_and_bytes_are_addresses(share):
    tape = [
        ("openat", (AT_FDCWD, b"/etc", os.O_DIRECTORY | os.O_CLOEXEC, 0), 3, "no /etc"),
        ("fchdir", ((3,),), -1, "no way in"),
        ("close", ((3,),), -1, "not open"),
    ]
    assert shell("pwd", tape, share=share).out == "/etc"


@SHARE
def test_what_fails_is_told_and_ends_the_child(share):
    end = play([("chdir", (b"/no/such",), -1, "cannot go there")], share=share)
    assert (end.status, end.said) == (1, "cannot go there: No such file or directory\n")
    end = play(program="/no/such", share=share)
    assert (end.status, end.said) == (1, "no exec: No such file or directory\n")


def refusing(number: int, error: int) -> list[tuple]:
    """Return entries after which a call of that number fails with ``error``."""
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load seccomp_data.nr
            (0x15, 0, 1, number),
            (0x06, 0, 0, s.SECCOMP_RET_ERRNO | error),
            (0x06, 0, 0, s.SECCOMP_RET_ALLOW),
        )
    )
    return [
        ("prctl", (s.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), -1, "no new privileges"),
        ("seccomp", (1, 0, [code]), -1, "no filter"),
    ]


SETSID = 112 if os.uname().machine == "x86_64" else 157


@SHARE
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.EACCES])
def test_a_filter_holds_from_where_it_stands(share, error):
    end = play([*refusing(SETSID, error), ("setsid", (), -1, "no session")], share=share)
    assert (end.status, end.said) == (1, f"no session: {os.strerror(error)}\n")


@SHARE
def test_a_lenient_call_may_be_missing_or_forbidden_and_no_more(share):
    for error in (errno.EPERM, errno.ENOSYS):
        tape = [*refusing(SETSID, error), ("setsid", (), -2, "no session")]
        assert play(tape, share=share) == End(0, "")
    tape = [*refusing(SETSID, errno.EACCES), ("setsid", (), -2, "no session")]
    assert play(tape, share=share).said == "no session: Permission denied\n"


@SHARE
def test_a_long_message_is_cut(share):
    end = play([("chdir", (b"/no/such",), -1, "x" * 5000)], share=share)
    assert end.said == "x" * 896 + ": No such file or directory\n"


@SHARE
def test_directory_descriptors_and_handlers_of_ours_stay_as_they_are(share):
    here, handler = os.getcwd(), signal.getsignal(signal.SIGINT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    listing = os.listdir("/proc/self/fd")
    shell("true", [("chdir", (b"/",), -1, "x"), ("setsid", (), -1, "x")], share=share)
    assert os.getcwd() == here
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert os.listdir("/proc/self/fd") == listing


@SHARE
def test_the_program_has_no_other_descriptors_and_no_signal_blocked_or_ignored(share):
    with Fd(os.open("/etc", os.O_RDONLY)) as other:
        os.set_inheritable(other.fileno(), True)
        old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        try:
            script = "ls -x /proc/self/fd; grep -E 'SigBlk|SigIgn' /proc/self/status"
            found = shell(script, share=share).out.split()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            signal.signal(signal.SIGTERM, old)
    numbers = {int(word) for word in found[: found.index("SigBlk:")]}
    assert max(numbers - {3}) <= 3  # 3: what ls itself opened
    assert found[found.index("SigBlk:") :] == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


@pytest.mark.root
@SHARE
def test_ids_and_capabilities_change_in_the_child_alone(share):
    dumpable = s.prctl(s.PR_GET_DUMPABLE)
    groups = struct.pack("=2I", 7, 8)
    tape = [
        ("setgroups", (2, groups), -1, "x"),
        ("setresgid", (65534,) * 3, -1, "x"),
        ("setresuid", (65534,) * 3, -1, "x"),
        ("prctl", (s.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), -1, "x"),
    ]
    script = "id -u; id -G; grep -E 'NoNewPrivs|CapEff' /proc/self/status"
    out = shell(script, tape, share=share).out.split()
    assert out == ["65534", "65534", "7", "8", "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert os.geteuid() == 0
    assert s.prctl(s.PR_GET_DUMPABLE) == dumpable


@pytest.mark.root
@SHARE
def test_the_child_is_born_in_its_namespaces(share):
    flags = s.CLONE_NEWPID | s.CLONE_NEWUTS | s.CLONE_NEWNS
    tape = [("sethostname", (b"inside", 6), -1, "x")]
    assert shell("echo $$; uname -n", tape, share=share, flags=flags).out.split() == [
        "1",
        "inside",
    ]
    assert os.uname().nodename != "inside"


@pytest.mark.cgroup2
def test_the_child_is_born_in_a_control_group():
    root = (
        "/sys/fs/cgroup/unified" if os.path.exists("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
    )
    group = f"{root}/donjon-tape-{os.getpid()}"
    os.mkdir(group)
    try:
        with Fd(os.open(group, os.O_RDONLY | os.O_DIRECTORY)) as directory:
            end = shell("cat /proc/self/cgroup", cgroup=directory.fileno())
        assert f"0::/{os.path.basename(group)}" in end.out.splitlines()
    finally:
        os.rmdir(group)


def test_a_child_that_shares_and_does_not_get_on_is_killed():
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with Fd(reader), Fd(writer):
        block = (
            "write",
            (writer, bytes(1 << 20), 1 << 20),
            -1,
            "cannot write",
        )  # the pipe is full
        before = time.monotonic()
        end = play([block], share=True, deadline=50)
    assert end == End(-signal.SIGKILL, "")
    assert time.monotonic() - before < 5


@SHARE
def test_many_children_leave_nothing(share):
    listing = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        assert play(share=share).status == 0
    assert len(os.listdir("/proc/self/fd")) == listing


@pytest.mark.parametrize(
    ("tape", "flags", "more"),
    [
        ([("reboot", (), -1, "x")], 0, {}),
        ([("close_range", (3, 99, 0), -1, "x")], 0, {}),  # it would close what tells of the exec
        ([("close", ((99,),), -1, "x")], 0, {}),
        ([("close", (1,) * 7, -1, "x")], 0, {}),
        ([("close", (1,), 99, "x")], 0, {}),
        ([], s.CLONE_FILES, {}),
        ([], s.CLONE_NEWUSER, {}),
        ([], 0, {"share": True, "cgroup": 0}),
    ],
)
def test_what_a_tape_cannot_have_is_refused(tape, flags, more):
    with pytest.raises(ValueError, match="play: "):
        play(tape, flags=flags, **more)


def test_an_entry_that_is_none_is_a_type_error():
    with pytest.raises(TypeError):
        play([object()])
    with pytest.raises(TypeError):
        play([("close", ("text",), -1, "x")])


def test_it_can_be_made_to_fail():
    s.inject("play", errno.EAGAIN)
    with pytest.raises(BlockingIOError):
        play()


def test_the_interpreter_goes_on_after_a_child_failed():
    for _ in range(20):
        play([("chdir", (b"/no/such",), -1, "x")], share=True)
    assert sorted(sys.modules)
    assert [number**2 for number in range(5)] == [0, 1, 4, 9, 16]
