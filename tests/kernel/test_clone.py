"""clone3 as fork: the child is a whole Python process, in the namespaces, cgroup and family asked for."""

import errno
import os
import select
import signal
import threading

import pytest

from donjon import syscalls as s

PARENT_FAMILY = s.CLONE_NEWPID | s.CLONE_NEWUSER | s.CLONE_NEWNET


def test_the_parent_gets_a_pid_and_a_close_on_exec_pidfd():
    pid, pidfd = s.clone3(0)
    if pid == 0:
        os._exit(5)
    assert not os.get_inheritable(pidfd)
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_pid == pid
    os.close(pidfd)


def test_the_child_gets_zero_and_no_pidfd(in_child):
    reader, writer = os.pipe()
    pid, pidfd = s.clone3(0)
    if pid == 0:
        os.write(writer, repr((pid, pidfd)).encode())
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 100) == b"(0, -1)"
    os.close(reader)
    os.waitpid(pid, 0)
    os.close(pidfd)


def test_a_child_in_a_pid_namespace_is_process_one(in_child):
    assert in_child(os.getpid, flags=s.CLONE_NEWPID) == 1


def _thread_then_fork() -> list[int]:
    seen = []
    thread = threading.Thread(target=lambda: seen.append(threading.get_native_id()))
    thread.start()
    thread.join()
    child = os.fork()
    if child == 0:
        again = threading.Thread(target=lambda: None)
        again.start()
        again.join()
        os._exit(3)
    seen.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    seen.append(threading.get_native_id())
    return seen


@pytest.mark.parametrize("flags", [0, s.CLONE_NEWPID, s.CLONE_NEWPID | s.CLONE_NEWNS])
def test_threads_and_forks_work_in_the_child(in_child, flags):
    thread, exit_code, main = in_child(_thread_then_fork, flags=flags)
    assert exit_code == 3
    assert thread != main
    if flags:
        assert (thread, main) == (2, 1)


def _clone_again() -> int:
    pid, pidfd = s.clone3(s.CLONE_NEWPID)
    if pid == 0:
        os._exit(os.getpid() + 40)
    return os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status


def test_a_child_clones_again(in_child):
    assert in_child(_clone_again, flags=s.CLONE_NEWPID) == 41


def _raise_in_main_thread() -> list[int]:
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    signal.raise_signal(signal.SIGUSR1)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    return [int(number) for number in seen]


def test_signals_to_the_thread_itself_reach_it_in_the_child(in_child):
    # glibc sends them to the tid it keeps, which clone3 has the kernel write in the child
    assert in_child(_raise_in_main_thread, flags=s.CLONE_NEWPID) == [signal.SIGUSR1] * 2


def _abort() -> int:
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    pid, pidfd = s.clone3(0)  # process one of a namespace ignores what has no handler
    if pid == 0:
        s.prctl(s.PR_SET_DUMPABLE, 0)
        os.abort()
    return os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status


def test_an_abort_kills_the_child_itself(in_child):
    assert in_child(_abort) == signal.SIGABRT


def _sibling(flags: int) -> tuple[int, str]:
    """In a middle process: make a child of the test itself, and say which pid it has."""
    reader, writer = os.pipe()
    pid, _pidfd = s.clone3(flags | s.CLONE_PARENT)
    if pid == 0:
        os.write(writer, b"%d %d" % (os.getpid(), os.getppid()))
        signal.pause()
    return pid, os.read(reader, 100).decode()


@pytest.mark.root
def test_clone_parent_with_new_pid_user_and_net_namespaces_makes_a_sibling(in_child):
    pid, said = in_child(_sibling, PARENT_FAMILY)
    assert said == "1 0"  # process one there, and its parent is outside
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None  # our child, and alive
    os.kill(pid, signal.SIGKILL)
    assert os.waitid(os.P_PID, pid, os.WEXITED).si_status == signal.SIGKILL


def test_a_sibling_sends_the_signal_its_maker_was_born_with(in_child):
    seen = []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    old = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    wakeup = signal.set_wakeup_fd(writer)
    try:
        pid, _ = in_child(_sibling, 0)
        seen.clear()
        while select.select([reader], [], [], 0)[0]:
            os.read(reader, 100)
        os.kill(pid, signal.SIGKILL)
        assert select.select([reader], [], [], 10)[0]
        assert seen == [signal.SIGCHLD]
        os.waitpid(pid, 0)
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGCHLD, old)
        os.close(reader)
        os.close(writer)


def test_clone_parent_with_a_signal_of_its_own_is_refused_by_the_kernel():
    with pytest.raises(OSError, match="Invalid argument"):
        s.clone3(s.CLONE_PARENT, exit_signal=signal.SIGUSR1)


@pytest.mark.parametrize("flag", [0x100, 0x800, 0x4000, 0x10000, 0x80000, 1 << 40])
def test_a_flag_that_shares_memory_or_needs_a_stack_is_refused(flag):
    with pytest.raises(ValueError, match="shares memory"):
        s.clone3(flag)


def test_a_flag_below_zero_is_refused():
    with pytest.raises(OverflowError):
        s.clone3(-1)


@pytest.mark.root
@pytest.mark.cgroup2
def test_a_child_is_born_in_the_cgroup_asked_for(in_child):
    root = next(
        path
        for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
        if os.path.exists(f"{path}/cgroup.procs")
    )
    group = f"{root}/kernel-test-{os.getpid()}"
    os.mkdir(group)
    try:
        directory = os.open(group, os.O_DIRECTORY | os.O_CLOEXEC)
        where = in_child(_cgroup, cgroup=directory)
        os.close(directory)
        assert where == os.path.basename(group)
    finally:
        os.rmdir(group)


def _cgroup() -> str:
    with open("/proc/self/cgroup") as lines:
        line = next(line for line in lines if line.startswith("0::"))
    return os.path.basename(line.strip())


def test_a_directory_that_is_no_cgroup_is_refused(tmp_path):
    directory = os.open(tmp_path, os.O_DIRECTORY | os.O_CLOEXEC)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        s.clone3(0, cgroup=directory)
    os.close(directory)
    assert caught.value.errno == errno.EBADF


@pytest.mark.root
@pytest.mark.cgroup2
def test_the_child_of_a_wrong_cgroup_is_never_born_and_the_parent_goes_on(in_child):
    before = threading.get_native_id()
    with pytest.raises(OSError, match="Bad file descriptor"):
        s.clone3(0, cgroup=9999)
    assert in_child(os.getppid) == os.getpid()
    assert threading.get_native_id() == before


def test_a_pidfd_becomes_readable_when_the_process_ends():
    reader, writer = os.pipe()
    pid, pidfd = s.clone3(0)
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent closes its end
        os._exit(0)
    os.close(reader)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(0) == []
    os.close(writer)
    assert poll.poll(10_000) == [(pidfd, select.POLLIN)]
    os.waitpid(pid, 0)
    os.close(pidfd)


def test_a_pidfd_signals_the_process_and_then_nobody():
    pid, pidfd = s.clone3(0)
    if pid == 0:
        signal.pause()
    s.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status == signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        s.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)


def test_a_pidfd_of_a_pid_is_close_on_exec():
    pidfd = s.pidfd_open(os.getpid())
    assert not os.get_inheritable(pidfd)
    os.close(pidfd)


def test_pidfd_getfd_copies_a_descriptor_of_another_process():
    reader, writer = os.pipe()
    pid, pidfd = s.clone3(0)
    if pid == 0:
        signal.pause()
    copy = s.pidfd_getfd(pidfd, writer)
    os.write(copy, b"x")
    assert os.read(reader, 1) == b"x"
    s.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)
    for number in (reader, writer, copy, pidfd):
        os.close(number)


@pytest.mark.root
def test_killing_process_one_ends_its_whole_namespace():
    reader, writer = os.pipe()
    pid, pidfd = s.clone3(s.CLONE_NEWPID)
    if pid == 0:
        if os.fork() == 0:
            os.write(writer, b"x")
            signal.pause()
        os.close(writer)
        signal.pause()
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    s.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert os.read(reader, 1) == b""  # the grandchild held the other end
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(pidfd)


def _unshared() -> tuple[bool, str]:
    before = os.readlink("/proc/self/ns/uts")
    s.unshare(s.CLONE_NEWUTS | s.CLONE_NEWNS)
    s.sethostname("elsewhere")
    s.setdomainname("there")
    with open("/proc/sys/kernel/domainname") as domain:
        return before != os.readlink("/proc/self/ns/uts"), os.uname().nodename + domain.read()


@pytest.mark.root
def test_unshare_leaves_the_hosts_name_alone(in_child):
    before = os.uname().nodename
    assert in_child(_unshared) == (True, "elsewherethere\n")
    assert os.uname().nodename == before


def _entered(pidfd: int) -> str:
    s.setns(pidfd, s.CLONE_NEWUTS)
    return os.uname().nodename


@pytest.mark.root
def test_setns_enters_the_namespaces_of_a_pidfd(in_child):
    reader, writer = os.pipe()
    pid, pidfd = s.clone3(s.CLONE_NEWUTS)
    if pid == 0:
        s.sethostname(b"inside")
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    assert in_child(_entered, pidfd) == "inside"
    s.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)
    for number in (reader, writer, pidfd):
        os.close(number)


def _closed() -> list[bool]:
    numbers = [os.dup(0) for _ in range(3)]
    s.close_range(numbers[0], numbers[1])
    s.close_range(numbers[2], 0xFFFFFFFF, s.CLOSE_RANGE_CLOEXEC)
    held = []
    for number in numbers:
        try:
            held.append(os.get_inheritable(number))
        except OSError as error:
            held.append(error.errno == errno.EBADF)
    return held


def test_close_range_closes_or_marks(in_child):
    assert in_child(_closed) == [True, True, False]


def test_close_range_refuses_what_is_no_descriptor():
    with pytest.raises(OverflowError):
        s.close_range(3, 1 << 32)
