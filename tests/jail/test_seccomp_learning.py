"""``seccomp = learn``: calls are noted and let through, and a profile that is enough is proposed."""

import contextlib
import errno
import os
import select
import socket
import subprocess
from pathlib import Path

import pytest
from jailer import FIVE, status_of

from donjon import syscalls
from donjon.jail import seccomp, seccomp_learn
from donjon.jail.seccomp_profile import Profile, parse
from donjon.jail.spec import JailSpec

pytestmark = pytest.mark.root


def learning(record, **more):
    return JailSpec(uid="20001", jailed=True, seccomp=Profile("learn", record=str(record)), **more)


def recorded(path):
    return set(path.read_text().splitlines())


def test_calls_are_noted_with_their_groups_and_work(jail, tmp_path):
    record = tmp_path / "record"

    def look():
        left, right = socket.socketpair()
        left.close()
        right.close()
        with contextlib.suppress(OSError), socket.socket(socket.AF_VSOCK) as other:
            other.getsockname()  # not every kernel has it
        done = subprocess.run(["/usr/bin/true"], check=False).returncode
        return done, status_of("Seccomp"), os.getuid()

    assert jail(learning(record), look) == (0, "2", 20001)
    lines = recorded(record)
    assert {"socketpair network", "socket families", "execve exec", "openat files"} <= lines
    assert not any(line.endswith((" unknown", " namespaces")) for line in lines)
    assert record.stat().st_mode & 0o777 == 0o600
    assert record.stat().st_uid == 0


def test_a_line_is_written_once(jail, tmp_path):
    record = tmp_path / "record"
    jail(learning(record), lambda: [os.stat("/") for _ in range(50)])
    lines = record.read_text().splitlines()
    assert sorted(lines) == sorted(set(lines))


def test_the_proposed_profile_is_enough(jail, tmp_path):
    record = tmp_path / "record"

    def look():
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        return subprocess.run(["/usr/bin/true"], check=False).returncode

    jail(learning(record), look)
    profile = seccomp_learn.propose(record.read_text().splitlines())
    assert profile.base == "strict"
    assert "priority" in profile.more
    assert "exec" not in profile.less
    spec = JailSpec(uid="20001", jailed=True, seccomp=parse(str(profile)))
    assert jail(spec, look) == 0


def test_the_record_is_on_the_host_and_the_recorder_in_the_jail(jail, tmp_path):
    record = tmp_path / "record"

    def look():
        return [
            Path(f"/proc/{name}/comm").read_text().strip()
            for name in os.listdir("/proc")
            if name.isdigit()
        ]

    spec = learning(record, rootfs="host")
    assert "donjon recorder" in jail(spec, look, born_in=FIVE)
    assert "getdents64 files" in recorded(record)


def test_the_recorder_holds_nothing_of_the_jails(jail, tmp_path):
    record = tmp_path / "record"

    def look():
        for name in os.listdir("/proc"):
            if name.isdigit() and Path(f"/proc/{name}/comm").read_text() == "donjon recorder\n":
                facts = status_of("Uid", name), status_of("NoNewPrivs", name)
                return int(name), facts
        return None

    pid, facts = jail(learning(record), look)
    assert facts == ("20001\t20001\t20001\t20001", "1")
    # it ends with the last process that it listens to
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    wait_for_end(pidfd)


def wait_for_end(pidfd):
    """Wait until a process that is not our child has ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert poller.poll(10_000)
    os.close(pidfd)


def test_records_of_several_runs_are_one(jail, tmp_path):
    record = tmp_path / "record"
    jail(learning(record), lambda: os.stat("/"))
    jail(learning(record), lambda: os.sched_getaffinity(0))
    assert {"sched_getaffinity limits"} <= recorded(record)
    assert seccomp_learn.propose(record.read_text().splitlines()).base == "strict"


def test_a_record_that_cannot_be_opened_ends_the_start(jail, tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    told = jail.tell(learning(tmp_path / "link"))
    assert told.error == (
        f"default: cannot open {tmp_path}/link, a record of system calls: {tmp_path}/link: "
        "Too many levels of symbolic links"
    )


def test_a_recorder_that_cannot_listen_ends_the_start(jail, tmp_path):
    told = jail.tell(learning(tmp_path / "r"), inject=("seccomp_filter", errno.EBUSY))
    assert told.error.startswith("default: cannot record system calls, refusing none: ")


def test_what_was_not_seen_is_proposed_away_but_for_what_the_server_needs():
    profile = seccomp_learn.propose(["openat files", "shmget ipc", "keyctl keys", "odd", "x y"])
    assert profile.more == {"ipc", "keys"}
    assert profile.less == {"attributes", "exec", "identity", "memory", "sandbox"}
    assert seccomp.program(profile.refused())


@pytest.mark.parametrize(
    ("call", "args", "group"),
    [
        ("clone", (syscalls.CLONE_NEWUSER | 17, 0), "namespaces"),
        ("clone", (17, 0), "process"),
        ("socket", (1, 1, 0), "network"),
        ("socket", (40, 1, 0), "families"),
        ("socket", (16, 3, 12), "families"),
        ("ioctl", (0, 0x5412), "terminals"),
        ("ioctl", (0, 0x5413), "files"),
        ("personality", (0xFFFFFFFF,), "basic"),
        ("chmod", (0, 0o4755), "setid"),
        ("500", (0,), "unknown"),
    ],
)
def test_the_group_of_a_call_may_follow_from_its_arguments(call, args, group):
    assert seccomp_learn.group_of(call, args) == group


@pytest.mark.parametrize(
    ("record", "name", "path"),
    [
        (None, "shop.ini", "/run/donjon/seccomp/shop.ini"),
        (None, "/etc/v/shop.ini", "/run/donjon/seccomp/%2Fetc%2Fv%2Fshop.ini"),
        (None, "", "/run/donjon/seccomp/instance"),
        ("/var/r", "shop.ini", "/var/r"),
    ],
)
def test_each_vassal_has_its_record(record, name, path):
    assert seccomp_learn.path_of(record, name) == path
