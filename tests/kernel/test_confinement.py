"""Filters of system calls, their notifications, and Landlock: what the jail's last walls rely on."""

import errno
import os
import struct
import threading

import pytest

from donjon import syscalls as s

NOBODY = 65534
TSYNC, LISTEN = s.SECCOMP_FILTER_FLAG_TSYNC, s.SECCOMP_FILTER_FLAG_NEW_LISTENER
CLONE3 = 435
WRITE_FILE, READ_FILE = 2, 4


def instruction(code: int, jt: int, jf: int, k: int) -> bytes:
    return struct.pack("HBBI", code, jt, jf, k)


def answering(number: int, action: int) -> bytes:
    """Return a program that does ``action`` for one call and lets the others through."""
    return b"".join(
        (
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, number),
            instruction(0x06, 0, 0, action),
            instruction(0x06, 0, 0, s.SECCOMP_RET_ALLOW),
        )
    )


NO_CLONE3 = answering(CLONE3, s.SECCOMP_RET_ERRNO | errno.ENOSYS)


def failure(function, *arguments) -> int:
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return 0


def _unprivileged() -> int:
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return failure(s.seccomp_filter, NO_CLONE3)


@pytest.mark.root
def test_a_filter_needs_no_new_privs_or_the_capability(in_child):
    assert in_child(_unprivileged) == errno.EACCES


def _born_by_clone() -> list[object]:
    s.set_no_new_privs()
    s.seccomp_filter(NO_CLONE3)
    reader, writer = os.pipe()
    pid, pidfd = s.clone3(0)
    if pid == 0:
        lock = threading.RLock()  # recursive locks and threads rely on the number of the thread
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()
        os.write(writer, b"%d %d" % (os.getpid(), threading.get_native_id()))
        os._exit(7)
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status
    told = os.read(reader, 64).split()
    return [status, {int(number) for number in told} == {pid}, os.get_inheritable(pidfd)]


def test_where_clone3_is_enosys_clone_is_taken(in_child):
    assert in_child(_born_by_clone) == [7, True, False]


def _in_namespaces() -> bool:
    before = os.readlink("/proc/self/ns/uts")
    s.seccomp_filter(NO_CLONE3)
    pid, pidfd = s.clone3(s.CLONE_NEWUTS | s.CLONE_NEWIPC)
    if pid == 0:
        os._exit(os.readlink("/proc/self/ns/uts") == before)
    return os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status == 0


@pytest.mark.root
def test_clone_makes_namespaces_too(in_child):
    assert in_child(_in_namespaces)


def _played_by_clone() -> int:
    s.set_no_new_privs()
    s.seccomp_filter(NO_CLONE3)
    _reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, _pidfd = s.play(0, (), writer, b"/bin/sh", (b"sh", b"-c", b"exit 7"), (), b"no exec")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_tape_is_played_by_clone_too(in_child):
    assert in_child(_played_by_clone) == 7


def _what_clone_cannot() -> list[int]:
    s.set_no_new_privs()
    s.seccomp_filter(NO_CLONE3)
    cgroup = os.open("/", os.O_PATH)
    flags = (s.CLONE_NEWTIME, s.CLONE_CLEAR_SIGHAND)
    return [
        *(failure(s.clone3, flag) for flag in flags),
        failure(lambda: s.clone3(0, cgroup=cgroup)),
    ]


def test_what_clone_cannot_say_stays_enosys(in_child):
    assert in_child(_what_clone_cannot) == [errno.ENOSYS] * 3


def _threads() -> list[int]:
    s.set_no_new_privs()
    go, seen = threading.Event(), []

    def work() -> None:
        go.wait()
        seen.append(failure(os.getsid, 0))

    thread = threading.Thread(target=work)
    thread.start()
    number = {"x86_64": 124}.get(os.uname().machine, 156)
    s.seccomp_filter(answering(number, s.SECCOMP_RET_ERRNO | errno.EPERM), TSYNC)
    go.set()
    thread.join()
    return seen


def test_threads_that_run_already_get_the_filter(in_child):
    assert in_child(_threads) == [errno.EPERM]


def _listener_flags() -> list[int]:
    s.set_no_new_privs()
    both = failure(s.seccomp_filter, NO_CLONE3, TSYNC | LISTEN)
    listener = s.seccomp_filter(NO_CLONE3, TSYNC | s.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | LISTEN)
    return [both, os.get_inheritable(listener), failure(s.seccomp_filter, NO_CLONE3, LISTEN)]


def test_one_listener_and_no_doubt_what_the_number_is(in_child):
    assert in_child(_listener_flags) == [errno.EINVAL, False, errno.EBUSY]


def test_what_is_no_program_is_refused():
    for program in (b"1234567", b"x" * 8 * 4097):
        with pytest.raises(ValueError, match="not a program"):
            s.seccomp_filter(program)


def _ruled() -> list[int]:
    s.set_no_new_privs()
    inside = os.open("/etc", os.O_PATH)
    rules = s.landlock_create_ruleset(READ_FILE)
    s.landlock_add_path(rules, inside, READ_FILE)
    s.landlock_restrict_self(rules)
    return [failure(open, "/etc/hostname"), failure(open, "/proc/self/status")]


def test_a_rule_is_for_what_is_below_a_path(in_child):
    if failure(s.landlock_abi):
        pytest.skip("this kernel has no Landlock")
    assert in_child(_ruled) == [0, errno.EACCES]


def test_a_right_that_the_ruleset_does_not_handle_is_refused(in_child):
    if failure(s.landlock_abi):
        pytest.skip("this kernel has no Landlock")

    def attempt() -> int:
        rules = s.landlock_create_ruleset(READ_FILE)
        return failure(s.landlock_add_path, rules, os.open("/etc", os.O_PATH), WRITE_FILE)

    assert in_child(attempt) == errno.EINVAL


def _keyrings() -> bool:
    return s.join_session_keyring() != s.join_session_keyring()


def test_each_session_keyring_is_another(in_child):
    assert in_child(_keyrings)


def _priority() -> list[int]:
    s.ioprio_set(1, 0, 3 << 13)
    child = os.fork()
    if child == 0:
        os._exit(s.ioprio_get(1, 0) >> 13)
    return [s.ioprio_get(1, 0) >> 13, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def test_a_child_inherits_the_class_of_input_and_output(in_child):
    assert in_child(_priority) == [3, 3]
