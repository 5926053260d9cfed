"""Limits, foreign programs, PID 1, descriptors, and the interpreter behind a closed door."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jailer import FIVE, Note, status_of

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail import descriptors, init, interpreter, plan
from donjon.jail.phase import Phase
from donjon.jail.spec import Bind, Exec, JailSpec

PY = sys.executable


def in_fork(function):
    """Return the exit status of ``function`` in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(function())
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.root
def test_limits_are_set_and_a_higher_one_is_lowered_to_the_possible(jail):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spec = JailSpec(uid="20001", limit_as=1 << 34, limit_nproc=50, max_fd=hard * 2, prio=5)
    seen = jail(
        spec,
        lambda: (
            [
                resource.getrlimit(kind)
                for kind in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE)
            ],
            os.getpriority(os.PRIO_PROCESS, 0),
        ),
    )
    address, processes, files = seen[0]
    assert address == (1 << 34, 1 << 34)
    assert processes == (50, 50)
    assert files[0] >= hard
    assert seen[1] == 5


@pytest.mark.root
def test_a_negative_nice_value_is_set_before_the_uid_changes(jail):
    spec = JailSpec(uid="20001", prio=-3)
    assert jail(spec, lambda: os.getpriority(os.PRIO_PROCESS, 0)) == -3


@pytest.mark.root
def test_an_unprivileged_program_has_the_jail_the_uid_and_the_inherited_sockets(jail, tmp_path):
    reader, writer = os.pipe()
    other = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(other, True)

    def inherit(context):
        context.inherit.append(writer)
        context.argv = ("donjon", "-c", script)

    script = f'echo "$(id -u) $$ $(ls /proc/$$/fd | tr "\\n" " ")" >&{writer}'
    spec = JailSpec(uid="20001", unprivileged_exec=Exec("/bin/bash"), rootfs="host")
    told = jail.tell(spec, born_in=FIVE, hooks=[Note(Phase.PRE_JAIL, inherit)])
    os.close(writer)
    os.close(other)
    with os.fdopen(reader) as pipe:
        uid, pid, *fds = pipe.read().split()
    assert told.status == 0
    assert (uid, pid) == ("20001", "1")
    assert str(other) not in fds
    assert str(writer) in fds


@pytest.mark.root
def test_a_privileged_program_replaces_us_before_the_jail(jail):
    spec = JailSpec(
        uid="20001", privileged_exec=Exec('test "$(id -u)" = 0 && exit 42', shell=True)
    )
    assert jail.tell(spec).status == 42


@pytest.mark.root
def test_a_plain_program_gets_our_arguments(jail):
    def arguments(context):
        context.argv = ("donjon", "-c", "exit 17")

    spec = JailSpec(unprivileged_exec=Exec("/bin/sh"))
    told = jail.tell(spec, hooks=[Note(Phase.ASAP, arguments)])
    assert told.status == 17


@pytest.mark.root
def test_a_program_has_the_usual_signals(jail):
    script = "kill -PIPE $$; exit 3"
    told = jail.tell(JailSpec(unprivileged_exec=Exec(script, shell=True)))
    assert told.status == signal.SIGPIPE


@pytest.mark.root
def test_a_program_that_is_not_there_is_an_error_of_its_line(jail):
    told = jail.tell(JailSpec(unprivileged_exec=Exec("/no/such/program")))
    assert told.error == (
        "default: cannot become the program /no/such/program: No such file or directory"
    )


@pytest.mark.root
def test_pid_1_reaps_strangers_and_leaves_its_own(jail):
    def live():
        own = os.fork()
        if own == 0:
            os._exit(3)
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                os._exit(0)  # an orphan as soon as its parent is gone
            os._exit(0)
        os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
        os.waitid(os.P_PID, middle, os.WEXITED | os.WNOWAIT)
        left = os.waitstatus_to_exitcode(os.waitpid(own, 0)[1])
        reaped = []
        while len(reaped) < 2:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            reaped += init.reap_strangers({own})
        return init.is_init(), left, len(reaped), middle in reaped

    assert jail(JailSpec(), live, born_in=FIVE) == (True, 3, 2, True)


def test_reaping_never_blocks_and_stops_at_its_own():
    assert init.reap_strangers(()) == []
    own = os.fork()
    if own == 0:
        os._exit(0)
    os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
    assert init.reap_strangers({own}) == []
    assert os.waitpid(own, 0)[0] == own


def test_only_listed_descriptors_stay_open():
    def check():
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
        keep = [opened[2], opened[5], 1]
        descriptors.seal(keep)
        alive = [number for number in range(3, 64) if _is_open(number)]
        return 0 if alive == sorted(keep[:2]) else 1

    assert in_fork(check) == 0


def test_others_can_be_closed_by_an_exec_only():
    def check():
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
        for number in opened:
            os.set_inheritable(number, True)
        descriptors.seal([opened[1]], on_exec=True)
        return 0 if [os.get_inheritable(n) for n in opened] == [0, 1, 0, 0] else 1

    assert in_fork(check) == 0


def _is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.root
def test_a_whole_plan_leaves_no_descriptor_open(jail, tmp_path):
    def look():
        return [number for number in range(3, 256) if _is_open(number)]

    before = jail(JailSpec(), look)
    spec = JailSpec(
        rootfs="host", uid="20001", hostname="x", binds=(Bind(str(tmp_path), "/data"),)
    )
    assert jail(spec, look, born_in=FIVE) == before
    assert jail(JailSpec(binds=(Bind("/usr", "/mnt"),)), look) == before


def test_a_closed_directory_is_named_with_the_uid_it_is_closed_to(tmp_path):
    deep = tmp_path / "open" / "closed" / "lib"
    deep.mkdir(parents=True)
    for path in (tmp_path, *tmp_path.parents):
        if path == Path("/tmp"):
            break
    (tmp_path / "open" / "closed").chmod(0o700)
    trees = (str(tmp_path / "open"),)
    assert interpreter.closed_to(str(deep), 20001, (), trees) == str(tmp_path / "open" / "closed")
    assert interpreter.closed_to(str(deep), os.getuid(), ()) is None
    (tmp_path / "open" / "closed").chmod(0o711)
    assert interpreter.closed_to(str(deep), 20001, (), trees) is None
    deep.chmod(0o750)
    os.chown(deep, -1, 20005)
    assert interpreter.closed_to(str(deep), 20001, (), trees) == str(deep)
    assert interpreter.closed_to(str(deep), 20001, (20005,), trees) is None


def test_an_unreadable_interpreter_is_found_before_the_start(monkeypatch, tmp_path):
    closed = tmp_path / "venv"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(interpreter.sys, "prefix", str(closed))
    with pytest.raises(JailError) as caught:
        plan.build(JailSpec(uid="20001"), root=True)
    assert f"{closed} of this interpreter cannot be read by uid 20001" in str(caught.value)
    assert "is closed to uid 20001" in str(caught.value)
    assert plan.build(JailSpec(uid="20001", unprivileged_exec=Exec("/bin/true")), root=True)


def test_an_interpreter_that_is_not_in_the_root_is_found_before_the_start(tmp_path):
    with pytest.raises(JailError) as caught:
        plan.build(JailSpec(rootfs=str(tmp_path), uid="20001", runtime_mount=False), root=True)
    assert f"is not in the root {tmp_path}" in str(caught.value)
    assert "runtime-mount = true" in str(caught.value)


@pytest.mark.root
def test_python_can_be_started_in_a_host_root(jail):
    def run():
        done = subprocess.run(
            [PY, "-c", "import donjon.jail.plan, ssl, json; print(json.dumps(1))"],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout, done.stderr

    assert jail(JailSpec(rootfs="host", uid="20001"), run, born_in=FIVE) == ("1\n", "")


@pytest.mark.root
def test_a_dropped_process_cannot_be_dumped(jail):
    seen = jail(
        JailSpec(uid="20001"),
        lambda: (syscalls.prctl(syscalls.PR_GET_DUMPABLE), status_of("Uid").split()[0]),
    )
    assert seen == (0, "20001")
